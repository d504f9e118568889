"""Reading: every record of every format exactly once, whatever the splits, the line ends and the bytes are.

The oracle is a few lines of plain Python over the whole file; the splits are cut anywhere from one byte upward.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from onerack.errors import InputError, UsageError
from onerack.mapreduce.inputs import chunks, compression, split_reader
from onerack.mapreduce.inputs.plan import plan
from onerack.mapreduce.inputs.reader import RecordUnreadable, open_split
from onerack.mapreduce.messages import Fragment, InputFormat, RecordAt, Split

quick = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

Bad = tuple[int, int, bytes]


@pytest.fixture(autouse=True)
def small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of some bytes, so that small inputs meet every border: of blocks, of reads, of joined files."""
    monkeypatch.setattr(split_reader.SplitReader, "block_bytes", 13)
    monkeypatch.setattr(chunks, "_SLACK_BYTES", 3)
    monkeypatch.setattr(chunks, "_WINDOW_BYTES", 4)


def write(directory: Path, name: str, content: bytes) -> str:
    path = directory / name
    path.write_bytes(content)
    return str(path)


def splits_of(paths: Sequence[str], format: InputFormat, split_bytes: int) -> tuple[Split, ...]:
    return plan(list(paths), format, split_bytes=split_bytes, slots=1).splits


def cut(path: str, size: int) -> list[Split]:
    """Fragments of `size` bytes, with none of the planner's mercy."""
    length = Path(path).stat().st_size
    return [
        Split(i, (Fragment(path, start, min(size, length - start)),)) for i, start in enumerate(range(0, length, size))
    ]


def records(splits: Sequence[Split], format: InputFormat, bad: list[Bad] | None = None) -> list[tuple[Any, Any]]:
    """All records of the splits, in order, with a check of each block's own account of them."""

    def on_bad(record: RecordAt, raw: bytes, reason: str) -> None:
        assert bad is not None
        assert reason
        bad.append((record.number, record.offset, raw))

    found: list[tuple[Any, Any]] = []
    for split in splits:
        reader = open_split(split, format)
        for block in reader.record_blocks(None if bad is None else on_bad):
            assert len(block.keys) == len(block.values) == len(block) > 0
            for index, key in enumerate(block.keys):
                assert block.keys[index] == key
                if isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], str):
                    record = block.describe(index, 7)
                    assert (record.number, record.path, record.offset) == (7, *key)
            found += zip(block.keys, block.values, strict=True)
    return found


def lines_of(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The oracle: offset and bytes of every line, without its newline."""
    offset = 0
    for line in io.BytesIO(content):
        yield offset, line.removesuffix(b"\n")
        offset += len(line)


def text_of(path: str, content: bytes, encoding: str, errors: str = "strict") -> list[tuple[tuple[str, int], str]]:
    return [((path, offset), line.decode(encoding, errors).removesuffix("\r")) for offset, line in lines_of(content)]


messy_lines = st.lists(
    st.one_of(
        st.text(alphabet='aé \t\r\x0b\x0c\x1c\x85\u2028漢😀\0"', max_size=9).map(lambda t: t.encode()),
        st.binary(max_size=6),
    ),
    max_size=12,
)
messy = st.builds(
    lambda lines, ends, last: b"".join(line + ends[i % len(ends)] for i, line in enumerate(lines)) + last,
    messy_lines,
    st.lists(st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n"]), min_size=1, max_size=4),
    st.binary(max_size=5),
)


# ---------------------------------------------------------------------------------------------- text


@quick
@given(content=messy, size=st.integers(1, 40), errors=st.sampled_from(["replace", "ignore", "surrogateescape"]))
@example(content=b"a\r\nb", size=2, errors="replace")
@example(content=b"\n\n\n", size=1, errors="replace")
@example(content="ééé\né".encode(), size=1, errors="replace")
def test_splits_together_hold_the_lines_of_the_file(tmp_path: Path, content: bytes, size: int, errors: str) -> None:
    path = write(tmp_path, "a.txt", content)
    format = InputFormat(errors=errors)
    assert records(cut(path, size), format) == text_of(path, content, "utf-8", errors)


@quick
@given(content=messy, size=st.integers(1, 40))
def test_bad_lines_are_reported_once_and_cost_no_other_line(tmp_path: Path, content: bytes, size: int) -> None:
    path = write(tmp_path, "a.txt", content)
    expected, expected_bad = [], []
    for offset, line in lines_of(content):
        try:
            expected.append(((path, offset), line.decode().removesuffix("\r")))
        except UnicodeDecodeError:
            expected_bad.append((offset, line))
    bad: list[Bad] = []
    assert records(cut(path, size), InputFormat(), bad) == expected
    assert [(offset, raw) for _, offset, raw in bad] == expected_bad


@quick
@given(
    text=st.text(alphabet="ab\r\né\u2028Ċ\u0a00\u000a", max_size=30),
    encoding=st.sampled_from(["utf-16", "utf-16-be", "utf-32", "utf-8-sig", "cp037", "shift_jis", "latin-1", "utf-7"]),
    compressed=st.booleans(),
)
@example(text="\n\u0a0a\n", encoding="utf-16", compressed=False)
def test_any_encoding(tmp_path: Path, text: str, encoding: str, compressed: bool) -> None:
    content = text.encode(encoding, "ignore")
    text = content.decode(encoding)
    path = write(tmp_path, "a.txt.gz" if compressed else "a.txt", gzip.compress(content) if compressed else content)
    format = InputFormat(encoding=encoding)
    lines = [line.removesuffix("\n").removesuffix("\r") for line in io.StringIO(text, newline="\n")]
    found = records(splits_of([path], format, 5), format)
    assert [value for _, value in found] == lines
    if not compressed:
        for (_, offset), line in found:
            start = content[offset:].decode(encoding.replace("-sig", ""), "ignore").lstrip("\ufeff")
            assert start.startswith(line)


def test_a_byte_order_mark_counts_only_at_the_start_of_a_file(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    path = write(tmp_path, "a.txt", mark + b"one\n" + mark + b"two\n" * 3)
    format = InputFormat(encoding="utf-8-sig")
    for size in range(1, 30):
        assert [value for _, value in records(cut(path, size), format)] == ["one", "\ufefftwo", "two", "two"]


def test_bytes_as_encoding_gives_the_lines_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", b"\xff\xfe\r\n\r\nx\ry\n")
    found = records(cut(path, 2), InputFormat(encoding="bytes"))
    assert found == [((path, 0), b"\xff\xfe"), ((path, 4), b""), ((path, 6), b"x\ry")]


def test_a_line_over_three_splits_belongs_to_the_first(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", b"ab\n" + b"x" * 30 + b"\ncd\n")
    first, *middle, last = (records([split], InputFormat()) for split in cut(path, 11))
    assert [value for _, value in first] == ["ab", "x" * 30]
    assert middle == [[], []]
    assert [value for _, value in last] == ["cd"]


def test_small_files_share_a_block_and_keep_their_names(tmp_path: Path) -> None:
    contents = [b"one\ntwo", b"", b"\n", b"three\r\nfour\n", b"x" * 50, b"last"]
    paths = [write(tmp_path, f"{i}.txt", content) for i, content in enumerate(contents)]
    split = Split(0, tuple(Fragment(path, 0, len(content)) for path, content in zip(paths, contents, strict=True)))
    expected = [pair for path, content in zip(paths, contents, strict=True) for pair in text_of(path, content, "utf-8")]
    assert records([split], InputFormat()) == expected
    table = pa.Table.from_batches(open_split(split, InputFormat()).batches())
    columns = [table[name].to_pylist() for name in ("path", "offset", "line")]
    assert [((p, o), line) for p, o, line in zip(*columns, strict=True)] == expected


def test_a_bad_line_in_a_small_file_is_named_by_its_own_file(tmp_path: Path) -> None:
    paths = [write(tmp_path, "a.txt", b"one\n"), write(tmp_path, "b.txt", b"two\n\xff\nthree\n")]
    split = Split(0, (Fragment(paths[0], 0, 4), Fragment(paths[1], 0, 12)))
    with pytest.raises(RecordUnreadable, match="record at byte 4: is not valid utf-8") as caught:
        records([split], InputFormat())
    assert (caught.value.path, caught.value.record.number, caught.value.raw) == (paths[1], 2, b"\xff")
    assert "--encoding" in str(caught.value)
    bad: list[Bad] = []
    assert [key for key, _ in records([split], InputFormat(), bad)] == [(paths[0], 0), (paths[1], 0), (paths[1], 6)]
    assert bad == [(2, 4, b"\xff")]


@quick
@given(content=messy, size=st.integers(1, 40), block=st.integers(1, 30), mapped=st.booleans())
def test_byte_blocks_are_the_file_cut_at_lines(
    tmp_path: Path, content: bytes, size: int, block: int, mapped: bool
) -> None:
    path = write(tmp_path, "a.txt", content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split_reader, "MAPPED_BYTES_MIN", 1 if mapped else 1000)
        blocks = [b for split in cut(path, size) for b in open_split(split, InputFormat()).byte_blocks(block)]
    assert b"".join(bytes(block.data) for block in blocks) == content
    position = 0
    for found in blocks:
        assert (found.path, found.offset) == (path, position)
        position += len(found.data)
        assert bytes(found.data[-1:]) == b"\n" or position == len(content)


@quick
@given(content=messy, size=st.integers(1, 40))
def test_batches_hold_what_records_hold(tmp_path: Path, content: bytes, size: int) -> None:
    path = write(tmp_path, "a.txt", content)
    for format in (InputFormat(errors="replace"), InputFormat(encoding="bytes")):
        expected = records(cut(path, size), format)
        tables = [batch for split in cut(path, size) for batch in open_split(split, format).batches()]
        found = [(row["path"], row["offset"], row["line"]) for table in tables for row in table.to_pylist()]
        assert found == [(*key, value) for key, value in expected]


def test_a_mapped_scan_keeps_one_block_in_memory(tmp_path: Path) -> None:
    def mapped_kib() -> int:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssFile"))

    path = write(tmp_path, "a.txt", (b"x" * 99 + b"\n") * (1 << 18))
    before = mapped_kib()
    views, most = [], 0
    for block in open_split(cut(path, 1 << 30)[0], InputFormat()).byte_blocks(1 << 20):
        assert isinstance(block.data, memoryview)
        assert bytes(block.data).count(b"\n") * 100 == len(block.data)
        views.append(block.data)
        most = max(most, mapped_kib() - before)
    assert len(views) > 20
    assert most < 8 << 10
    assert bytes(views[3][:5]) == b"xxxxx"  # A view that somebody holds stays what it was.


def test_a_line_without_end_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "LINE_BYTES_MAX", 64)
    monkeypatch.setattr(compression, "PIECE_BYTES", 50)
    path = write(tmp_path, "a.txt", b"ok\n" + b"x" * 500)
    compressed = write(tmp_path, "a.gz", gzip.compress(b"ok\n" + b"x" * 500))
    for split in (cut(path, 600)[0], Split(0, (Fragment(compressed, 0, 1),))):
        with pytest.raises(InputError, match="the line at byte 3 is longer than 64 bytes"):
            list(open_split(split, InputFormat(encoding="utf-8-sig")).record_blocks())


def test_a_file_that_shrank_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", b"one\ntwo\n")
    split = Split(0, (Fragment(path, 0, 100),))
    with pytest.raises(InputError, match="cut while the job ran"):
        list(open_split(split, InputFormat()).record_blocks())
    with pytest.raises(InputError, match="cut while the job ran"):
        list(open_split(split, InputFormat()).byte_blocks())


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    split = Split(0, (Fragment(str(tmp_path / "gone.txt"), 0, 100),))
    with pytest.raises(InputError, match=r"gone\.txt: no such file"):
        list(open_split(split, InputFormat()).record_blocks())


def test_unknown_encodings_are_refused() -> None:
    for encoding in ("utf-9", "hex", "punycode", "unicode_escape"):
        with pytest.raises(UsageError, match=encoding):
            open_split(Split(0, ()), InputFormat(encoding=encoding))
    with pytest.raises(UsageError, match="nonsense"):
        open_split(Split(0, ()), InputFormat(errors="nonsense"))


def test_bytes_read_are_the_files_bytes(tmp_path: Path) -> None:
    content = b"some line\n" * 100
    plain = write(tmp_path, "a.txt", content)
    packed = write(tmp_path, "b.txt.gz", gzip.compress(content))
    total = 0
    for split in [*cut(plain, 77), Split(0, (Fragment(packed, 0, Path(packed).stat().st_size),))]:
        reader = open_split(split, InputFormat())
        list(reader.record_blocks())
        total += reader.bytes_read
    assert total == len(content) + Path(packed).stat().st_size


# ---------------------------------------------------------------------------------------------- compression


def zstd(content: bytes) -> bytes:
    target = pa.BufferOutputStream()
    with pa.CompressedOutputStream(target, "zstd") as stream:
        stream.write(content)
    return bytes(target.getvalue().to_pybytes())


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
}


@few
@given(content=messy, members=st.integers(1, 3), suffix=st.sampled_from(sorted(COMPRESSORS)))
def test_compressed_files_with_several_members(tmp_path: Path, content: bytes, members: int, suffix: str) -> None:
    compress = COMPRESSORS[suffix]
    step = len(content) // members + 1
    packed = b"".join(compress(content[start : start + step]) for start in range(0, members * step, step))
    path = write(tmp_path, f"a.txt.{suffix}", packed)
    format = InputFormat(errors="replace")
    assert records(splits_of([path], format, 3), format) == text_of(path, content, "utf-8", "replace")
    blocks = open_split(splits_of([path], format, 3)[0], format).byte_blocks(7)
    assert b"".join(block.data for block in blocks) == content


@pytest.mark.parametrize("suffix", sorted(COMPRESSORS))
def test_broken_compressed_files_are_named(tmp_path: Path, suffix: str) -> None:
    whole = COMPRESSORS[suffix](b"".join(b"line %d\n" % i for i in range(5000)))
    middle = len(whole) // 2
    damaged = whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]
    cases = {
        "cut": (whole[:-9], "too early|damaged"),
        "garbage": (b"no compressed file at all", "is damaged near byte .*, or is no"),
        "tail": (whole + b"garbage behind the end", "damaged"),
        "flip": (damaged, "damaged|too early"),
    }
    if suffix == "zst":
        del cases["flip"]  # A zstd stream need not carry a checksum, and this one has none.
    for name, (content, message) in cases.items():
        path = write(tmp_path, f"{name}.{suffix}", content)
        with pytest.raises(InputError, match=message) as caught:
            records(splits_of([path], InputFormat(), 1 << 20), InputFormat(errors="replace"))
        assert caught.value.path == path


@pytest.mark.parametrize("suffix", sorted(COMPRESSORS))
def test_empty_compressed_files_are_empty(tmp_path: Path, suffix: str) -> None:
    for name, content in (("none", b""), ("empty", COMPRESSORS[suffix](b""))):
        path = write(tmp_path, f"{name}.{suffix}", content)
        assert records(splits_of([path], InputFormat(), 10), InputFormat()) == []


def test_padding_after_a_member_is_no_garbage(tmp_path: Path) -> None:
    path = write(tmp_path, "a.gz", gzip.compress(b"one\n") + bytes(600) + gzip.compress(b"two\n") + bytes(9))
    assert [value for _, value in records(splits_of([path], InputFormat(), 1), InputFormat())] == ["one", "two"]


def test_a_bomb_is_read_in_small_pieces(tmp_path: Path) -> None:
    path = write(tmp_path, "a.gz", gzip.compress(b"0123456\n" * (1 << 20)))
    reader = open_split(splits_of([path], InputFormat(), 1)[0], InputFormat())
    sizes = [len(block.data) for block in reader.byte_blocks(1 << 16)]
    assert sum(sizes) == 8 << 20
    assert max(sizes) <= 1 << 20


# ---------------------------------------------------------------------------------------------- fixed, whole files


@quick
@given(count=st.integers(0, 40), record=st.integers(1, 7), rest=st.integers(0, 6), size=st.integers(1, 30))
def test_fixed_records(tmp_path: Path, count: int, record: int, rest: int, size: int) -> None:
    rest = rest % record
    content = bytes(i % 251 for i in range(count * record + rest))
    path = write(tmp_path, "a.bin", content)
    format = InputFormat("fixed", record_bytes=record)
    expected = [((path, i * record), content[i * record : (i + 1) * record]) for i in range(count)]
    bad: list[Bad] = []
    with pytest.MonkeyPatch.context() as patch:
        assert records(cut(path, size), format, bad) == expected
        for mapped in (1, 1 << 20):
            patch.setattr("onerack.mapreduce.inputs.fixed.MAPPED_BYTES_MIN", mapped)
            blocks = [b for split in cut(path, size) for b in open_split(split, format).byte_blocks(9)]
            assert b"".join(bytes(block.data) for block in blocks) == content
    assert [(offset, raw) for _, offset, raw in bad] == ([(count * record, content[-rest:])] if rest else [])
    packed = write(tmp_path, "a.bin.gz", gzip.compress(content[: count * record]))
    assert [value for _, value in records(splits_of([packed], format, 5), format)] == [v for _, v in expected]
    if not rest and count:
        table = pa.Table.from_batches([b for split in cut(path, size) for b in open_split(split, format).batches()])
        rows = zip(*(table[name].to_pylist() for name in ("path", "offset", "record")), strict=True)
        assert [((p, o), value) for p, o, value in rows] == expected


def test_whole_files_even_empty_ones(tmp_path: Path) -> None:
    contents = {"a.html": "<p>\r\né</p>\n".encode(), "b.html": b"", "c.html.gz": gzip.compress(b"packed")}
    paths = [write(tmp_path, name, content) for name, content in contents.items()]
    format = InputFormat("file")
    assert records(splits_of(paths, format, 4), format) == [
        (paths[0], "<p>\r\né</p>\n"),
        (paths[1], ""),
        (paths[2], "packed"),
    ]
    as_bytes = InputFormat("file", encoding="bytes")
    assert records(splits_of(paths[:1], as_bytes, 4), as_bytes) == [(paths[0], contents["a.html"])]
    with pytest.raises(RecordUnreadable, match="not valid ascii"):
        records(splits_of(paths[:1], format, 4), InputFormat("file", encoding="ascii"))
    batches = [batch for s in splits_of(paths, format, 1 << 20) for batch in open_split(s, format).batches()]
    assert pa.Table.from_batches(batches)["content"].to_pylist() == ["<p>\r\né</p>\n", "", "packed"]
    blocks = [b.data for s in splits_of(paths, format, 4) for b in open_split(s, format).byte_blocks()]
    assert blocks == [contents["a.html"], b"", b"packed"]


# ---------------------------------------------------------------------------------------------- JSON Lines


json_lines = st.lists(
    st.one_of(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=4,
        ).map(lambda value: json.dumps(value).encode()),
        st.sampled_from([b"", b"  ", b'{"a":', b"1}", b"\xff", b"nul", b'"\xc3"', b"1 2", b'"\\ud800"', b"[1,", b"2]"]),
    ),
    max_size=10,
)


@quick
@given(lines=json_lines, end=st.sampled_from([b"\n", b"\r\n"]), size=st.integers(1, 40), mark=st.booleans())
def test_json_lines(tmp_path: Path, lines: list[bytes], end: bytes, size: int, mark: bool) -> None:
    content = (b"\xef\xbb\xbf" if mark else b"") + end.join(lines)
    path = write(tmp_path, "a.jsonl", content)
    expected: list[Any] = []
    expected_bad: list[bytes] = []
    for _, line in lines_of(content.removeprefix(b"\xef\xbb\xbf")):
        try:
            if line.strip():
                expected.append(json.loads(line.decode()))
        except ValueError:
            expected_bad.append(line)
    bad: list[Bad] = []
    format = InputFormat("jsonl")
    assert repr([value for _, value in records(cut(path, size), format, bad)]) == repr(expected)
    assert [raw for _, _, raw in bad] == expected_bad


def test_json_lines_as_batches(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", b'{"a": 1}\n{"b": "x", "a": 2}\n\n')
    (batch,) = open_split(cut(path, 100)[0], InputFormat("jsonl")).batches()
    assert batch.to_pylist() == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]
    path = write(tmp_path, "b.jsonl", b'{"a": 1}\n[2]\n')
    with pytest.raises(RecordUnreadable, match="byte 9: is no JSON object but list"):
        list(open_split(cut(path, 100)[0], InputFormat("jsonl")).batches())
    path = write(tmp_path, "c.jsonl", b'{"a": 1}\n{"a": "x"}\n')
    with pytest.raises(InputError, match="several types"):
        list(open_split(cut(path, 100)[0], InputFormat("jsonl")).batches())


# ---------------------------------------------------------------------------------------------- CSV


field = st.text(alphabet='ab,"\r\né ;\t', max_size=6)
csv_rows = st.lists(st.lists(field, min_size=3, max_size=3), max_size=12)


def csv_text(rows: Sequence[Sequence[str]], **options: Any) -> str:
    target = io.StringIO(newline="")
    csv.writer(target, **options).writerows(rows)
    return target.getvalue()


@quick
@given(rows=csv_rows, size=st.integers(1, 40), mark=st.booleans(), end=st.sampled_from(["\n", "\r\n"]))
def test_csv_with_quoted_newlines_is_one_split(
    tmp_path: Path, rows: list[list[str]], size: int, mark: bool, end: str
) -> None:
    content = csv_text([["x", "y", "z"], *rows], lineterminator=end, quoting=csv.QUOTE_ALL)
    path = write(tmp_path, "a.csv", (b"\xef\xbb\xbf" if mark else b"") + content.encode())
    format = InputFormat("csv")
    splits = splits_of([path], format, size)
    assert len(splits) == 1
    found = records(splits, format)
    blocks = list(open_split(splits[0], format).byte_blocks(17))
    assert [value for _, value in found] == [dict(zip("xyz", row, strict=True)) for row in rows]
    raw = Path(path).read_bytes()
    for (_, offset), value in found:
        rest = io.StringIO(raw[offset:].decode(), newline="")
        assert next(csv.reader(rest)) == list(value.values())
    header = raw.index(b'"z"') + 3 + len(end)
    assert b"".join(block.data for block in blocks) == raw[header:]
    batches = list(open_split(splits[0], format).batches())
    assert [row for batch in batches for row in batch.to_pylist()] == [value for _, value in found]


@quick
@given(
    rows=st.lists(st.lists(st.text(alphabet='ab,"é ', max_size=6), min_size=3, max_size=3), max_size=12),
    size=st.integers(1, 40),
)
def test_csv_without_newlines_in_values_may_be_cut(tmp_path: Path, rows: list[list[str]], size: int) -> None:
    path = write(tmp_path, "a.csv", csv_text([["x", "y", "z"], *rows], lineterminator="\n").encode())
    format = InputFormat("csv", options={"newlines_in_values": False})
    found = records(cut(path, size), format)
    assert [value for _, value in found] == [dict(zip("xyz", row, strict=True)) for row in rows]
    assert found == records(cut(path, 1 << 20), format)


def test_csv_rows_that_are_none(tmp_path: Path) -> None:
    content = b'x,y\n1,2\n\n3\n4,5,6\n\xff,7\n8,"9\n'
    path = write(tmp_path, "a.csv", content)
    bad: list[Bad] = []
    assert [value for _, value in records(cut(path, 99), InputFormat("csv"), bad)] == [{"x": "1", "y": "2"}]
    assert bad == [(1, 9, b"3"), (2, 11, b"4,5,6"), (3, 17, b"\xff,7"), (4, 21, b'8,"9')]
    with pytest.raises(RecordUnreadable, match="byte 9: has 1 fields where 2 are expected"):
        records(cut(path, 99), InputFormat("csv"))
    found = records(cut(path, 99), InputFormat("csv", errors="replace"), [])
    assert found[-1] == ((path, 17), {"x": "\ufffd", "y": "7"})


def test_csv_options(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"a;b;c\n1;';';3\n")
    dialect = {"delimiter": ";", "quotechar": "'"}

    def values(**options: Any) -> list[Any]:
        format = InputFormat("csv", options={**dialect, **options})
        return [value for _, value in records(cut(path, 99), format)]

    assert values() == [{"a": "1", "b": ";", "c": "3"}]
    assert values(columns=["c", "a"]) == [{"c": "3", "a": "1"}]
    assert values(header=False)[1] == {"c0": "1", "c1": ";", "c2": "3"}
    assert values(header=False, columns=["p", "q", "r"])[0] == {"p": "a", "q": "b", "r": "c"}
    refused: list[dict[str, Any]] = [{"separator": ";"}, {"delimiter": ";;"}, {"columns": "a"}]
    for options in refused:
        with pytest.raises(UsageError, match="csv"):
            open_split(Split(0, ()), InputFormat("csv", options=options))
    with pytest.raises(InputError, match="no column 'q'; it has a, b, c"):
        values(columns=["q"])
    path = write(tmp_path, "b.csv", b"a;a\n1;2\n")
    with pytest.raises(InputError, match="two columns named 'a'"):
        values()


# ---------------------------------------------------------------------------------------------- Parquet


@few
@given(rows=st.integers(0, 40), group=st.integers(1, 20), size=st.integers(150, 900))
def test_parquet_row_groups_are_read_once(tmp_path: Path, rows: int, group: int, size: int) -> None:
    path = str(tmp_path / "a.parquet")
    table = pa.table({"n": range(rows), "s": [f"row {i}" for i in range(rows)]})
    pq.write_table(table, path, row_group_size=group)
    format = InputFormat("parquet")
    expected = [((path, i), {"n": i, "s": f"row {i}"}) for i in range(rows)]
    assert records(cut(path, size), format) == expected
    wanted = InputFormat("parquet", options={"columns": ["s"]})
    batches = [batch for split in cut(path, size) for batch in open_split(split, wanted).batches()]
    assert [row for batch in batches for row in batch.to_pylist()] == [{"s": value["s"]} for _, value in expected]


def test_parquet_that_is_none(tmp_path: Path) -> None:
    path = write(tmp_path, "a.parquet", b"PAR1 but no more")
    with pytest.raises(InputError, match="no readable Parquet file"):
        records(cut(path, 99), InputFormat("parquet"))
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(InputError, match="no column 'b'; it has a"):
        records(cut(path, 9999), InputFormat("parquet", options={"columns": ["b"]}))
    with pytest.raises(UsageError, match="map_batch"):
        open_split(cut(path, 99)[0], InputFormat("parquet")).byte_blocks()


# ---------------------------------------------------------------------------------------------- remote


def test_remote_files_are_read_by_ranges() -> None:
    store = fsspec.filesystem("memory")
    content = b"".join(b"line %d\n" % i for i in range(200))
    store.pipe_file("/in/a.txt", content)
    store.pipe_file("/in/b.txt.gz", gzip.compress(content))
    store.pipe_file("/in/_SUCCESS", b"{}")
    try:
        for name in ("memory://in", "memory://in/*"):
            planned = plan([name], InputFormat(), split_bytes=100, slots=1)
            assert planned.files == 2
            lines = [f"line {i}" for i in range(200)]
            assert [value for _, value in records(planned.splits, InputFormat())] == lines * 2
        with pytest.raises(InputError, match="memory://in/none"):
            plan(["memory://in/none"], InputFormat(), split_bytes=100, slots=1)
        with pytest.raises(InputError, match="nosuch://"):
            plan(["nosuch://in/none"], InputFormat(), split_bytes=100, slots=1)
        table = pa.table({"n": [1, 2]})
        target = pa.BufferOutputStream()
        pq.write_table(table, target)
        store.pipe_file("/in/t.parquet", target.getvalue().to_pybytes())
        parquet = InputFormat("parquet")
        splits = splits_of(["memory://in/t.parquet"], parquet, 1 << 20)
        assert [value for _, value in records(splits, parquet)] == [{"n": 1}, {"n": 2}]
    finally:
        store.rm("/in", recursive=True)


def test_files_in_an_archive_are_read_where_they_lie(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("b/one.txt", "1\n")
        file.writestr("b/two.txt.gz", gzip.compress(b"2\n"))
        file.writestr("b/_SUCCESS", "{}")
    for name in (f"zip://b::{archive}", f"zip://b/*.*::file://{archive}", f"zip://::{archive}"):
        splits = splits_of([name], InputFormat(), 1 << 20)
        assert [value for _, value in records(splits, InputFormat())] == ["1", "2"]


class OfHost(MemoryFileSystem):  # type: ignore[misc]
    """A store whose paths do not say on which host they lie, as those of sftp, ftp and hdfs do not."""

    protocol = "ofhost"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        inside = path.removeprefix("ofhost://").partition("/")[2] if "://" in path else path
        return "/" + inside.strip("/")

    def __init__(self, host: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        assert host == "example.org"

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        return {"host": path.removeprefix("ofhost://").partition("/")[0]}


def test_the_host_of_a_url_is_kept() -> None:
    fsspec.register_implementation("ofhost", OfHost)
    OfHost.store.clear()
    OfHost("example.org").pipe_file("/in/a.txt", b"a\n")
    for name in ("ofhost://example.org/in", "ofhost://example.org/in/", "ofhost://example.org/in/*.txt"):
        splits = splits_of([name], InputFormat(), 1 << 20)
        assert records(splits, InputFormat()) == [(("ofhost://example.org/in/a.txt", 0), "a")]


def test_a_store_that_tells_no_sizes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OfHost, "info", lambda self, path: {"name": path, "type": "file", "size": None})
    fsspec.register_implementation("ofhost", OfHost)
    with pytest.raises(InputError, match="does not say how long"):
        splits_of(["ofhost://example.org/a.txt"], InputFormat(), 1 << 20)
