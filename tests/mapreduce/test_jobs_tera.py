"""teragen, terasort and teravalidate, and the sections of raw rows under them."""

from __future__ import annotations

import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onerack.mapreduce.inputs.reader import open_split
from onerack.mapreduce.jobs import make
from onerack.mapreduce.jobs.teragen import records
from onerack.mapreduce.jobs.terasort import KEY_BYTES, RECORD_BYTES
from onerack.mapreduce.messages import Fragment, Split
from onerack.mapreduce.shuffle.format import SectionUnreadable
from onerack.mapreduce.shuffle.rows import RowsCollector, first_fall, merged, read_rows, rows_order
from tests.mapreduce.sequential_run import SequentialRun, failure


def rows_of(keys: list[bytes]) -> Any:
    """Records with these keys, each with its number behind the key."""
    raw = b"".join(
        key.ljust(KEY_BYTES, b"\x00") + b"%010d" % number + bytes(RECORD_BYTES - KEY_BYTES - 10)
        for number, key in enumerate(keys)
    )
    return np.frombuffer(raw, np.uint8).reshape(-1, RECORD_BYTES)


def records_in(data: bytes) -> list[bytes]:
    return [data[start : start + RECORD_BYTES] for start in range(0, len(data), RECORD_BYTES)]


def by_key(data: bytes) -> bytes:
    """What a sort must give: stable, by the first 10 bytes."""
    in_order: list[bytes] = sorted(records_in(data), key=lambda record: record[:KEY_BYTES])
    return b"".join(in_order)


def few_keys(seed: int, count: int) -> list[bytes]:
    """Keys many of which tie in their first 8 bytes, some wholly."""
    dice = random.Random(seed)
    return [
        dice.choice([b"", b"\xff" * 8, b"prefix__"]) + bytes(dice.choices(b"\x00\x01\xff", k=2)) for _ in range(count)
    ]


class TestRows:
    @pytest.mark.parametrize("seed", range(10))
    def test_the_order_is_stable_and_by_the_whole_key(self, seed: int) -> None:
        keys = few_keys(seed, 300)
        expected = sorted(range(300), key=lambda row: keys[row].ljust(KEY_BYTES, b"\x00"))
        assert rows_order(rows_of(keys), KEY_BYTES).tolist() == expected

    @pytest.mark.parametrize("memory_bytes", [0, 5_000, 1 << 30])
    @pytest.mark.parametrize("seed", range(6))
    def test_runs_are_merged_in_any_memory(self, seed: int, memory_bytes: int) -> None:
        keys = few_keys(seed, 400)
        data = rows_of(keys)
        runs = []
        for start, end in ((0, 1), (1, 120), (120, 120), (120, 399), (399, 400)):
            part = data[start:end]
            runs.append(part[rows_order(part, KEY_BYTES)] if len(part) else part)
        pieces = list(merged(runs, KEY_BYTES, memory_bytes))
        assert b"".join(piece.tobytes() for piece in pieces) == by_key(data.tobytes())

    def test_no_runs_give_no_rows(self) -> None:
        assert list(merged([], KEY_BYTES, 1000)) == []

    def test_a_damaged_section_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "m0"
        collector = RowsCollector(str(path), reducers=1, splitters=(), record_bytes=RECORD_BYTES, key_bytes=KEY_BYTES)
        collector.add_rows(records(0, 50).tobytes())
        section = collector.close()[0]
        content = bytearray(path.read_bytes())
        content[1000] ^= 1
        path.write_bytes(content)
        with pytest.raises(SectionUnreadable, match="m0") as caught:
            read_rows([section], RECORD_BYTES)
        assert caught.value.corrupt

    def test_an_aborted_collector_leaves_nothing(self, tmp_path: Path) -> None:
        collector = RowsCollector(
            str(tmp_path / "m0"), reducers=2, splitters=(b"m",), record_bytes=RECORD_BYTES, key_bytes=KEY_BYTES
        )
        collector.add_rows(records(0, 50).tobytes())
        collector.abort()
        assert list(tmp_path.iterdir()) == []

    def test_the_first_fall_is_found(self) -> None:
        assert first_fall(rows_of([b"a", b"b", b"b", b"c"]), KEY_BYTES) == -1
        assert first_fall(rows_of([b"a", b"c", b"b", b"a"]), KEY_BYTES) == 2
        assert first_fall(rows_of([b"12345678\x01", b"12345678\x00\xff"]), KEY_BYTES) == 1
        assert first_fall(rows_of([]), KEY_BYTES) == -1


class TestTeraGen:
    def test_a_row_depends_on_its_number_alone(self) -> None:
        whole = records(0, 1000).tobytes()
        assert records(417, 3).tobytes() == whole[41_700:42_000]
        assert len(set(records_in(whole))) == 1000

    def test_a_record_looks_like_that_of_the_sort_benchmark(self) -> None:
        record = records(0xABC, 1).tobytes()
        assert len(record) == RECORD_BYTES
        assert record[10:46] == b"  " + b"%032X" % 0xABC + b"  "
        assert record.endswith(b"\r\n")
        assert record[:98].decode("ascii").isprintable()

    def test_the_bytes_never_change(self) -> None:
        # Golden: a sorted file is checked against the checksum of the generated one, maybe years later.
        assert zlib.crc32(records(0, 1000).tobytes()) == 0xE0890411

    @pytest.mark.parametrize("rows", [0, 1, 2, 5, 1234])
    @pytest.mark.parametrize("split_bytes", [1, 300, 1 << 20])
    def test_splits_cover_all_rows_once(self, rows: int, split_bytes: int) -> None:
        job: Any = make("teragen", [str(rows)])
        splits = job.plan_splits((str(rows),), split_bytes, 4)
        numbers = [
            row
            for split in splits
            for each in split.fragments
            for row in range(each.start // RECORD_BYTES, (each.start + each.length) // RECORD_BYTES)
        ]
        assert numbers == list(range(rows))
        assert [split.index for split in splits] == list(range(len(splits)))
        assert len(splits) >= min(rows, 4)

    def test_numbers_may_be_short(self) -> None:
        for text, rows in (("3", 3), ("2k", 2000), ("1M", 10**6), ("1g", 10**9)):
            job: Any = make("teragen", [text])
            assert job.rows == rows


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    """A folder with 2,000 records in three files, by teragen itself."""
    (tmp_path / "gen").mkdir()
    job: Any = make("teragen", ["2000"])
    run = SequentialRun(job, tmp_path / "gen", [], splits=job.plan_splits(("2000",), 80_000, 2), reducers=0)
    reports = run.maps()
    assert sum(report.counters["rows"] for report in reports) == 2000
    expected = sum(zlib.crc32(record) for record in records_in(records(0, 2000).tobytes()))
    assert sum(report.counters["checksum"] for report in reports) == expected
    return tmp_path / "gen" / "staging"


def sort(folder: Path, inputs: list[Path], **settings: Any) -> SequentialRun:
    """Runs terasort over the files, with splitters from its own sample."""
    folder.mkdir()
    job: Any = make("terasort")
    run = SequentialRun(job, folder, inputs, reducers=3, splitters=(b"5", b"a"), **settings)
    run.reduces(run.maps())
    return run


class TestTeraSort:
    @pytest.mark.parametrize("memory_bytes", [1, 1 << 30])
    def test_it_sorts_and_teravalidate_agrees(self, generated: Path, tmp_path: Path, memory_bytes: int) -> None:
        inputs = sorted(generated.iterdir())
        sort(tmp_path / "sort", inputs, memory_bytes=memory_bytes)
        outputs = sorted((tmp_path / "sort" / "staging").iterdir())
        data = b"".join(path.read_bytes() for path in inputs)
        assert b"".join(path.read_bytes() for path in outputs) == by_key(data)
        (tmp_path / "validate").mkdir()
        ran = SequentialRun(make("teravalidate"), tmp_path / "validate", outputs, reducers=1).whole()
        checksum = sum(map(zlib.crc32, records_in(data)))
        assert ran.lines == ["rows\t2000", f"checksum\t{checksum}", "sorted\tyes"]
        assert ran.counters == {"rows": 2000, "checksum": checksum}

    def test_equal_keys_keep_the_order_of_the_input(self, tmp_path: Path) -> None:
        data = rows_of(few_keys(3, 500)).tobytes()
        (tmp_path / "rows").write_bytes(data)
        run = sort(tmp_path / "sort", [], splits=cut_into(tmp_path / "rows", 7))
        outputs = sorted((run.folder / "staging").iterdir())
        assert b"".join(path.read_bytes() for path in outputs) == by_key(data)

    def test_the_sample_is_made_of_keys(self, generated: Path) -> None:
        job: Any = make("terasort")
        path = sorted(generated.iterdir())[0]
        split = Split(0, (Fragment(str(path), 0, path.stat().st_size),))
        keys = {record[:KEY_BYTES] for record in records_in(path.read_bytes())}
        sampled = job.sample(open_split(split, job.input_format), 50)
        assert 50 <= len(sampled) <= 100
        assert set(sampled) <= keys


def cut_into(path: Path, count: int) -> tuple[Split, ...]:
    """Splits that do not end at records."""
    borders = [path.stat().st_size * part // count for part in range(count + 1)]
    return tuple(
        Split(index, (Fragment(str(path), borders[index], borders[index + 1] - borders[index]),))
        for index in range(count)
    )


class TestTeraValidate:
    def test_disorder_within_a_file_names_the_row(self, tmp_path: Path) -> None:
        (tmp_path / "bad").write_bytes(rows_of([b"a", b"c", b"b"]).tobytes())
        found = failure(SequentialRun(make("teravalidate"), tmp_path, [tmp_path / "bad"], reducers=1).map())
        assert found.final
        assert f"{tmp_path / 'bad'}: not sorted: row 2 (at byte 200)" in found.message

    def test_disorder_between_files_names_both(self, tmp_path: Path) -> None:
        for name, keys in (("one", [b"a", b"c"]), ("two", [b"b", b"d"])):
            (tmp_path / name).write_bytes(rows_of(keys).tobytes())
        run = SequentialRun(make("teravalidate"), tmp_path, [tmp_path / "one", tmp_path / "two"], reducers=1)
        found = failure(run.reduce(run.maps()))
        assert f"{tmp_path / 'two'}: not sorted: row 0 (at byte 0)" in found.message
        assert f"the last row of {tmp_path / 'one'}" in found.message

    def test_a_border_within_a_file_is_checked_too(self, tmp_path: Path) -> None:
        path = tmp_path / "bad"
        path.write_bytes(rows_of([b"a", b"c", b"b", b"d"]).tobytes())
        run = SequentialRun(make("teravalidate"), tmp_path, [], splits=cut_into(path, 2), reducers=1)
        assert "row 2 (at byte 200)" in failure(run.reduce(run.maps())).message

    def test_file_numbers_are_compared_as_names(self, tmp_path: Path) -> None:
        paths = [tmp_path / f"part-{number:05d}" for number in range(11)]
        for number, path in enumerate(paths):
            path.write_bytes(rows_of([b"%02d" % number]).tobytes())
        ran = SequentialRun(make("teravalidate"), tmp_path, paths, reducers=1).whole()
        assert ran.lines[-1] == "sorted\tyes"
