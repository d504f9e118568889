"""Writing: what each output format looks like, that columns and pairs agree, and that a full disk leaves nothing."""

from __future__ import annotations

import errno
import gzip
import json
import math
import os
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onerack.errors import Corruption, InputError, StorageFull, UsageError
from onerack.mapreduce.columns import Columns
from onerack.mapreduce.inputs.plan import plan
from onerack.mapreduce.inputs.reader import open_split
from onerack.mapreduce.inputs.sources import LocalSource
from onerack.mapreduce.messages import AttemptId, InputFormat, OutputFormat, Part
from onerack.mapreduce.outputs import sink as sinks
from onerack.mapreduce.outputs import tsv
from onerack.mapreduce.outputs.forms import columns_of
from onerack.mapreduce.outputs.pairs import read_footer
from onerack.mapreduce.outputs.writer import PartWriter, open_part

ATTEMPT = AttemptId("job", "reduce", 3, 2)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

Pair = tuple[Any, Any]
KEYS: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text(alphabet="ab\t\n\r\\é\0", max_size=5),
    "bytes": st.binary(max_size=5),
    "int": st.integers() | st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False).map(lambda number: number + 0.0),  # as a key, -0.0 is 0.0
    "bool": st.booleans(),
    "none": st.none(),
    "tuple": st.tuples(st.text(alphabet="a\t\\", max_size=2), st.integers()),
}
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(alphabet="a\t\né\\", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
VALUES = [
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    KEYS["str"],
    st.binary(max_size=4),
    st.none(),
    plain,
]


@st.composite
def pair_lists(draw: st.DrawFn) -> list[Pair]:
    """Pairs with keys of one kind and values of one strategy."""
    keys = draw(st.sampled_from(sorted(KEYS)))
    values = draw(st.sampled_from(VALUES))
    return draw(st.lists(st.tuples(KEYS[keys], values), min_size=1, max_size=8))


def fill(writer: PartWriter, rows: int = 100_000) -> None:
    """Writes pairs until nothing more fits, then closes."""
    for first in range(0, rows, 10_000):
        writer.write_pairs([(f"key {i}", i) for i in range(first, first + 10_000)])
    writer.close()


def written(staging: Path, format: OutputFormat, *batches: list[Pair] | Columns) -> tuple[bytes, Part]:
    """The bytes of a part made of these, and its own account of them."""
    with open_part(str(staging), ATTEMPT, format) as writer:
        for batch in batches:
            if isinstance(batch, Columns):
                writer.write_columns(batch)
            else:
                writer.write_pairs(batch)
        part = writer.close()
    content = (staging / part.path).read_bytes()
    assert (part.size, part.checksum) == (len(content), zlib.crc32(content))
    return content, part


# ---------------------------------------------------------------------------------------------- TSV


@quick
@given(pairs=pair_lists())
def test_columns_and_pairs_give_the_same_tsv(tmp_path: Path, pairs: list[Pair]) -> None:
    by_pairs, part = written(tmp_path, OutputFormat(), pairs)
    by_columns, _ = written(tmp_path, OutputFormat(), columns_of(pairs))
    assert by_columns == by_pairs
    assert part.rows == len(pairs)
    lines = by_pairs.split(b"\n")
    assert lines.pop() == b""
    assert [line.count(b"\t") for line in lines] == [1] * len(pairs)


@quick
@given(pairs=st.lists(st.tuples(KEYS["str"], KEYS["str"]), min_size=1))
def test_text_comes_back_from_tsv(tmp_path: Path, pairs: list[Pair]) -> None:
    content, _ = written(tmp_path, OutputFormat(), columns_of(pairs))
    fields = [line.split("\t") for line in content.decode().removesuffix("\n").split("\n")]
    assert [(tsv.unescape(key), tsv.unescape(value)) for key, value in fields] == pairs


def test_tsv_shows_values_as_python_or_json_does(tmp_path: Path) -> None:
    shown = {
        "1": 1, "-2.5": -2.5, "1e+16": 1e16, "inf": math.inf, "nan": math.nan, "True": True, "None": None, "é": "é",
        '[1,"a"]': (1, "a"), '{"a":[null,1.5]}': {"a": [None, 1.5]}, '["a","b"]': {"b", "a"}, "[2,10]": {10, 2},
        '{"(1, 2)":3}': {(1, 2): 3}, '["x"]': [b"x"], "\\\\": "\\", str(10**30): 10**30,
    }  # fmt: skip
    content, _ = written(tmp_path, OutputFormat(), [("k", value) for value in shown.values()])
    assert [line.split("\t")[1] for line in content.decode().splitlines()] == list(shown)


def test_slices_of_columns_are_written_as_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tsv, "SLICE_ROWS", 7)
    pairs = [(f"k{i}\t" if i % 5 == 0 else f"k{i}", i) for i in range(100)]
    whole = columns_of(pairs)
    content, _ = written(tmp_path, OutputFormat(), whole._replace(keys=whole.keys[10:90], values=whole.values[10:90]))
    assert content == tsv.pairs_tsv(pairs[10:90])
    numbers = columns_of([(i - 50, f"v{i}") for i in range(100)])
    content, _ = written(
        tmp_path, OutputFormat(), numbers._replace(keys=numbers.keys[10:90], values=numbers.values[10:90])
    )
    assert content == tsv.pairs_tsv([(i - 50, f"v{i}") for i in range(10, 90)])


def test_nothing_makes_an_empty_part(tmp_path: Path) -> None:
    for name in ("tsv", "jsonl", "text", "fixed"):
        content, part = written(tmp_path, OutputFormat(name), [])
        assert (content, part.rows) == (b"", 0)


# ---------------------------------------------------------------------------------------------- other formats


def test_text_is_the_value_alone(tmp_path: Path) -> None:
    content, _ = written(tmp_path, OutputFormat("text"), [("k", "a\tb"), ("k", b"\xff"), ("k", 3), ("k", [1])])
    assert content == b"a\tb\n\xff\n3\n[1]\n"


def test_fixed_is_bytes_end_to_end(tmp_path: Path) -> None:
    pairs = [(b"key1", b"one"), (b"key2", b"two")]
    assert written(tmp_path, OutputFormat("fixed"), pairs, columns_of(pairs))[0] == b"key1onekey2two" * 2
    with pytest.raises(UsageError, match=r"'fixed' writes bytes .* not int: 1"):
        written(tmp_path, OutputFormat("fixed"), [(b"a", 1)])


@quick
@given(pairs=pair_lists())
def test_json_lines(tmp_path: Path, pairs: list[Pair]) -> None:
    by_pairs, _ = written(tmp_path, OutputFormat("jsonl"), pairs)
    by_columns, _ = written(tmp_path, OutputFormat("jsonl"), columns_of(pairs))
    assert by_columns == by_pairs
    rows = [json.loads(line) for line in by_pairs.decode().split("\n")[:-1]]
    assert [set(row) for row in rows] == [{"key", "value"}] * len(pairs)
    for row, (key, value) in zip(rows, pairs, strict=True):
        if isinstance(key, str) and isinstance(value, str | int | list | dict | None) and "inf" not in repr(value):
            assert (row["key"], row["value"]) == (key, value)


def test_what_json_cannot_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'jsonl' cannot write one of these pairs: object has no JSON form"):
        written(tmp_path, OutputFormat("jsonl"), [("a", object())])


@pytest.mark.parametrize(
    ("pairs", "types"),
    [
        ([("a", 1), ("b", 2)], ["string", "int64"]),
        ([(1, "x")], ["int64", "string"]),
        ([(b"a", 1.5)], ["binary", "double"]),
        ([((1, 2), [1, 2])], ["list<element: int64>", "list<element: int64>"]),
        ([(True, {"n": 1})], ["bool", "struct<n: int64>"]),
        ([(None, None)], ["null", "null"]),
    ],
)
def test_parquet_is_typed(tmp_path: Path, pairs: list[Pair], types: list[str]) -> None:
    for batches in ([pairs, columns_of(pairs)], [columns_of(pairs), pairs]):
        _, part = written(tmp_path, OutputFormat("parquet"), *batches)  # type: ignore[arg-type]
        table = pq.read_table(tmp_path / part.path)
        assert [str(field.type) for field in table.schema] == types
        expected = [[list(x) if isinstance(x, tuple) else x for x in pair] for pair in pairs * 2]
        assert [list(row.values()) for row in table.to_pylist()] == expected


def test_parquet_of_two_types_is_refused(tmp_path: Path) -> None:
    writer = open_part(str(tmp_path), ATTEMPT, OutputFormat("parquet"))
    writer.write_pairs([("a", 1)])
    with pytest.raises(UsageError, match="these values do not fit one column of type int64"):
        writer.write_columns(columns_of([("b", "x")]))
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_parquet_part_can_be_read(tmp_path: Path) -> None:
    _, part = written(tmp_path, OutputFormat("parquet"))
    assert pq.read_table(tmp_path / part.path).num_rows == 0


@quick
@given(batches=st.lists(pair_lists(), max_size=3), size=st.integers(1, 2000))
def test_pairs_come_back_exactly_from_any_splits(tmp_path: Path, batches: list[list[Pair]], size: int) -> None:
    _, part = written(tmp_path, OutputFormat("pairs"), *batches)
    format = InputFormat("pairs")
    splits = plan([str(tmp_path / part.path)], format, split_bytes=size, slots=1).splits
    found = [
        pair
        for split in splits
        for block in open_split(split, format).record_blocks()
        for pair in zip(block.keys, block.values, strict=True)
    ]
    expected = [pair for batch in batches for pair in batch]
    assert repr(found).replace("-0.0", "0.0") == repr(expected).replace("-0.0", "0.0")


def test_damaged_pairs_are_never_used(tmp_path: Path) -> None:
    content, part = written(tmp_path, OutputFormat("pairs"), [(f"key {i}", i) for i in range(50)])
    path = tmp_path / part.path
    split = plan([str(path)], InputFormat("pairs"), split_bytes=1 << 20, slots=1).splits[0]
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises((Corruption, InputError)):
            list(open_split(split, InputFormat("pairs")).record_blocks())
    path.write_bytes(b"short")
    source = LocalSource(str(path))
    with pytest.raises(InputError, match="is no file of pairs"):
        read_footer(source)
    source.close()


def test_a_users_writer_gets_a_file_for_text_and_bytes(tmp_path: Path) -> None:
    def write(file: Any, key: object, value: Any) -> None:
        assert file.write(f"{key}=é") == len(f"{key}=é")
        file.write(b"%d;" % value)

    writer = open_part(str(tmp_path), ATTEMPT, OutputFormat("user"), write=write)
    writer.write_pairs([("a", 1)])
    writer.write_columns(columns_of([("b", 2)]))
    assert (tmp_path / writer.close().path).read_text() == "a=é1;b=é2;"
    with pytest.raises(UsageError, match="needs the job's own write"):
        open_part(str(tmp_path), ATTEMPT, OutputFormat("user"))


def test_raw_bytes_pass_as_they_are(tmp_path: Path) -> None:
    writer = open_part(str(tmp_path), ATTEMPT, OutputFormat("text"))
    writer.write_raw(b"one\n", rows=1)
    writer.write_raw(memoryview(b"two\n" * 300_000), rows=300_000)
    part = writer.close()
    assert (part.rows, part.size) == (300_001, 1_200_004)
    writer = open_part(str(tmp_path), ATTEMPT, OutputFormat("parquet"))
    with pytest.raises(UsageError, match="raw bytes"):
        writer.write_raw(b"x")
    writer.abort()


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_compressed_parts_can_be_read_and_do_not_tell_the_time(tmp_path: Path, compression: Any) -> None:
    pairs = [(f"k{i}", i) for i in range(1000)]
    format = OutputFormat(compression=compression)
    content, part = written(tmp_path, format, pairs)
    assert content == written(tmp_path, format, pairs)[0]
    if compression == "gzip":
        assert gzip.decompress(content) == tsv.pairs_tsv(pairs)
    split = plan([str(tmp_path / part.path)], InputFormat(), split_bytes=1 << 20, slots=1).splits[0]
    assert [v for block in open_split(split, InputFormat()).record_blocks() for v in block.values] == [
        f"k{i}\t{i}" for i in range(1000)
    ]


# ---------------------------------------------------------------------------------------------- a full disk


@pytest.mark.parametrize("name", ["tsv", "jsonl", "parquet", "pairs"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any, code: int
) -> None:
    class FullFile:
        """Takes 100 bytes, piece by piece, and then no more."""

        def __init__(self, path: str) -> None:
            self._file = open(path, "wb", buffering=0)  # noqa: SIM115
            self._left = 100

        def write(self, content: memoryview) -> int:
            if not self._left:
                raise OSError(code, os.strerror(code))
            taken = self._file.write(content[: min(self._left, 30)])
            self._left -= taken
            return taken

        def close(self) -> None:
            self._file.close()

    monkeypatch.setattr(sinks, "open_binary", lambda path, mode: FullFile(path))
    writer = open_part(str(tmp_path), ATTEMPT, OutputFormat(name))
    with pytest.raises(StorageFull, match=r"no space left on the disk that holds .*reduce-00003\.2"):
        fill(writer)
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_real_limit_on_file_size_is_storage_full(tmp_path: Path) -> None:
    """RLIMIT_FSIZE in a process of its own: the kernel itself refuses."""
    script = """
        import resource, signal, sys
        from onerack.errors import StorageFull
        from onerack.mapreduce.messages import AttemptId, OutputFormat
        from onerack.mapreduce.outputs.writer import PartWriter, open_part

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        writer = open_part(sys.argv[1], AttemptId("j", "map", 0, 1), OutputFormat())
        try:
            for number in range(100):
                writer.write_pairs([(f"key {number} {i}", i) for i in range(1000)])
            writer.close()
        except StorageFull as error:
            writer.abort()
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "no space left on the disk that holds" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_attempt_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def attempt() -> None:
        with open_part(str(tmp_path), ATTEMPT, OutputFormat()) as writer:
            writer.write_pairs([("a", 1)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        attempt()
    assert list(tmp_path.iterdir()) == []


def test_an_arrow_array_without_rows_is_no_trouble(tmp_path: Path) -> None:
    empty = Columns("str", pa.array([], pa.binary()), "int", pa.array([], pa.int64()))
    assert written(tmp_path, OutputFormat(), empty)[0] == b""
