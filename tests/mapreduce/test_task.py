"""`run_map` and `run_reduce`: every door, every form of a function, and what a task reports."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from onerack.mapreduce.context import count, current, side_file
from onerack.mapreduce.job import Job
from onerack.mapreduce.messages import FetchFailed, InputFormat
from onerack.mapreduce.worker.sample import sample_split
from tests.mapreduce.sequential_run import SequentialRun, completed, failure, function_job, reduced, write_lines

TEXTS = (["the quick brown fox", "the dog"], ["", "quick quick dog"])
EXPECTED = {"the": 2, "quick": 3, "brown": 1, "fox": 1, "dog": 2}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write_lines(tmp_path / f"{number}.txt", *lines) for number, lines in enumerate(TEXTS)]


def counted(lines: list[str]) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split("\t") for line in lines)}


class Words(Job):
    """Word count, by records."""

    def map(self, key: Any, line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            yield word, 1

    reduce = "sum"


class WordLists(Job):
    """A plain function that gives a list, or nothing."""

    def map(self, key: Any, line: str) -> list[tuple[str, int]] | None:
        return [(word, 1) for word in line.split()] or None

    def reduce(self, key: str, values: Iterator[int]) -> int:
        return sum(values)


class WordBlocks(Job):
    """A block gives a Counter."""

    def map_block(self, data: bytes) -> dict[str, int]:
        return Counter(data.decode().split())

    reduce = "sum"


class WordBatches(Job):
    """A batch gives a table."""

    def map_batch(self, batch: Any) -> Any:
        words = [word for line in batch.column("line").to_pylist() for word in line.split()]
        return pa.table({"key": words, "value": [1] * len(words)})

    reduce = "sum"


class WordBatchPairs(Job):
    def map_batch(self, batch: Any) -> Iterator[tuple[str, int]]:
        for line in batch.column("line").to_pylist():
            for word in line.split():
                yield word, 1

    def reduce(self, key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield key, sum(values)


class WordsInMapper(Job):
    """Adds up on itself, and emits at the end."""

    def setup(self) -> None:
        self.counts: Counter[str] = Counter()

    def map(self, key: Any, line: str) -> None:
        self.counts.update(line.split())

    def teardown(self) -> Iterator[tuple[str, int]]:
        yield from self.counts.items()

    reduce = "sum"


class WordsCombined(Job):
    """The user's own combine under the user's own reduce."""

    def map(self, key: Any, line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            yield word, 1

    combine = "sum"

    def reduce(self, key: str, values: Iterator[int]) -> int:
        return sum(values)


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize(
    "job", [Words, WordLists, WordBlocks, WordBatches, WordBatchPairs, WordsInMapper, WordsCombined]
)
def test_all_doors_and_forms_give_the_same(job: type[Job], tracked: bool, tmp_path: Path, files: list[Path]) -> None:
    ran = SequentialRun(job, tmp_path, files).whole(tracked=tracked)

    assert counted(ran.lines) == EXPECTED
    assert ran.quarantined == []


def test_functions_without_a_class(tmp_path: Path, files: list[Path]) -> None:
    def words(key: Any, line: str) -> Iterator[tuple[str, int]]:
        for word in line.split():
            yield word, 1

    job = function_job(map=words, reduce=lambda key, values: sum(values))

    assert counted(SequentialRun(job, tmp_path, files).whole().lines) == EXPECTED


def test_parts_are_sorted_by_key(tmp_path: Path, files: list[Path]) -> None:
    run = SequentialRun(Words, tmp_path, files, reducers=1)

    lines = run.whole().lines

    assert [line.split("\t")[0] for line in lines] == sorted(EXPECTED)


def test_a_map_only_job_writes_in_order_of_input(tmp_path: Path, files: list[Path]) -> None:
    class Upper(Job):
        output_format = "text"

        def map(self, key: Any, line: str) -> Iterator[tuple[None, str]]:
            yield None, line.upper()

    ran = SequentialRun(Upper, tmp_path, files).whole()

    assert ran.lines == ["THE QUICK BROWN FOX", "THE DOG", "", "QUICK QUICK DOG"]


def test_a_job_without_reduce_but_with_reducers_sorts(tmp_path: Path, files: list[Path]) -> None:
    class Sorted(Job):
        def map(self, key: Any, line: str) -> Iterator[tuple[str, int]]:
            for word in line.split():
                yield word, len(word)

    ran = SequentialRun(Sorted, tmp_path, files, reducers=1).whole()

    words = sorted(word for lines in TEXTS for line in lines for word in line.split())
    assert ran.lines == [f"{word}\t{len(word)}" for word in words]


def test_values_come_in_the_order_of_the_input_or_of_the_sort_key(tmp_path: Path) -> None:
    files = [write_lines(tmp_path / "0", "3", "1"), write_lines(tmp_path / "1", "2", "0")]

    class AsTheyCome(Job):
        def map(self, key: Any, line: str) -> Iterator[tuple[str, int]]:
            yield "all", int(line)

        def reduce(self, key: str, values: Iterator[int]) -> str:
            return "".join(map(str, values))

    class BySortKey(AsTheyCome):
        def sort_key(self, key: str, value: int) -> int:
            return -value

    class ListBySortKey(Job):
        map = AsTheyCome.map
        sort_key = BySortKey.sort_key
        reduce = "list"

    assert SequentialRun(AsTheyCome, tmp_path, files, reducers=1).whole().lines == ["all\t3120"]
    assert SequentialRun(BySortKey, tmp_path, files, reducers=1).whole().lines == ["all\t3210"]
    assert SequentialRun(ListBySortKey, tmp_path, files, reducers=1).whole().lines == ["all\t[3,2,1,0]"]


def test_a_reduce_need_not_look_at_its_values(tmp_path: Path, files: list[Path]) -> None:
    class Keys(Job):
        map = Words.map

        def reduce(self, key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:
            yield key, 0

    assert counted(SequentialRun(Keys, tmp_path, files).whole().lines) == dict.fromkeys(EXPECTED, 0)


def test_the_users_partition_decides(tmp_path: Path, files: list[Path]) -> None:
    class ByLength(Words):
        def partition(self, key: str, reducers: int) -> int:
            return len(key) % reducers

    run = SequentialRun(ByLength, tmp_path, files, reducers=2)
    reduces = run.reduces(run.maps())

    for index, each in enumerate(reduces):
        words = [line.split("\t")[0] for line in run.lines_of(each.parts[0].path)]
        assert words == sorted(word for word in EXPECTED if len(word) % 2 == index)


def test_counters_side_files_and_the_context(tmp_path: Path, files: list[Path]) -> None:
    stop_words = write_lines(tmp_path / "stop", "the")

    class Filtered(Job):
        counters = ("never",)

        def setup(self) -> None:
            with open(side_file("stop")) as file:
                self.stop = set(file.read().split())

        def map(self, key: tuple[str, int], line: str) -> Iterator[tuple[str, str]]:
            assert current().path == key[0]
            for word in line.split():
                if word in self.stop:
                    count("stopped")
                else:
                    yield word, f"{current().task}.{current().attempt}"

        reduce = "set"

    ran = SequentialRun(Filtered, tmp_path, files, files=(str(stop_words),)).whole()

    assert ran.counters == {"never": 0, "stopped": 2}
    assert 'dog\t["m0.1","m1.1"]' in ran.lines


def test_a_side_file_that_the_job_has_not_is_named_with_those_it_has(tmp_path: Path, files: list[Path]) -> None:
    class Lost(Job):
        def map(self, key: Any, line: str) -> None:
            side_file("nowhere.txt")

    found = failure(SequentialRun(Lost, tmp_path, files, files=("/x/stop",)).map())

    assert "nowhere.txt" in found.message
    assert "stop" in found.message
    assert found.cause == "exception"


def test_random_draws_the_same_in_every_attempt_of_a_task(tmp_path: Path, files: list[Path]) -> None:
    class Dice(Job):
        def map(self, key: Any, line: str) -> Iterator[tuple[int, float]]:
            yield current().index, random.random()

    run = SequentialRun(Dice, tmp_path, files)
    parts = [run.lines_of(completed(run.map(index, number)).parts[0].path) for index in (0, 1) for number in (1, 2)]

    assert parts[0] == parts[1]
    assert parts[2] == parts[3]
    assert parts[0] != parts[2]


def test_an_attempt_gets_a_job_object_of_its_own(tmp_path: Path, files: list[Path]) -> None:
    class Remembers(Job):
        def __init__(self) -> None:
            self.calls = 0

        def map(self, key: Any, line: str) -> Iterator[tuple[str, int]]:
            self.calls += 1
            yield line, self.calls

    given = Remembers()
    run = SequentialRun(given, tmp_path, files)
    numbers = [line.split("\t")[1] for _ in range(2) for line in run.lines_of(completed(run.map()).parts[0].path)]

    assert numbers == ["1", "2", "1", "2"]
    assert given.calls == 0


def test_a_task_reports_what_it_did(tmp_path: Path, files: list[Path]) -> None:
    run = SequentialRun(Words, tmp_path, files, reducers=1)

    maps = run.maps()
    reduces = run.reduces(maps)

    metrics = maps[0].metrics
    assert (metrics.records_in, metrics.bytes_in) == (2, files[0].stat().st_size)
    assert metrics.bytes_shuffled > 0
    assert metrics.records_out == 0
    assert metrics.memory_bytes_max > 1 << 20
    done = reduces[0].metrics
    assert (done.groups, done.records_out, done.records_in) == (5, 5, 0)
    assert done.bytes_out == reduces[0].parts[0].size
    assert maps[0].worker == "tester"


def test_a_lost_section_is_reported_as_the_map_attempt_that_wrote_it(tmp_path: Path, files: list[Path]) -> None:
    run = SequentialRun(Words, tmp_path, files, reducers=1)
    maps = run.maps()
    Path(maps[1].sections[0].path).unlink()

    report = run.reduce(maps)

    assert isinstance(report, FetchFailed)
    assert report.lost == maps[1].attempt
    assert not report.corrupt


def test_a_damaged_section_is_reported_as_corrupt(tmp_path: Path, files: list[Path]) -> None:
    run = SequentialRun(Words, tmp_path, files, reducers=1)
    maps = run.maps()
    section = maps[0].sections[0]
    path = Path(section.path)
    content = bytearray(path.read_bytes())
    content[section.extents[0].offset + 8] ^= 0xFF
    path.write_bytes(content)

    report = run.reduce(maps)

    assert isinstance(report, FetchFailed)
    assert report.lost == maps[0].attempt
    assert report.corrupt
    assert [name for name in run.left_over() if name.startswith("reduce")] == []


def test_the_users_own_writer(tmp_path: Path, files: list[Path]) -> None:
    class Written(Words):
        def write(self, file: Any, key: str, value: int) -> None:
            file.write(f"<{key}={value}>\n".encode())

    assert "<quick=3>" in SequentialRun(Written, tmp_path, files).whole().lines


def test_values_that_need_pickle_when_the_job_allows_it(tmp_path: Path, files: list[Path]) -> None:
    class Pickled(Job):
        values = "pickle"

        def map(self, key: Any, line: str) -> Iterator[tuple[str, Any]]:
            yield "all", Boxed(len(line))

        def reduce(self, key: str, values: Iterator[Any]) -> int:
            return sum(value.number for value in values)

    total = sum(len(line) for lines in TEXTS for line in lines)
    assert SequentialRun(Pickled, tmp_path, files, reducers=1).whole().lines == [f"all\t{total}"]


class Boxed:
    def __init__(self, number: int) -> None:
        self.number = number


def test_an_empty_split_completes(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()

    assert SequentialRun(Words, tmp_path, [empty]).whole().lines == []


def test_no_sections_give_an_empty_part(tmp_path: Path, files: list[Path]) -> None:
    run = SequentialRun(Words, tmp_path, files)

    assert reduced(run.reduce([])).parts[0].rows == 0


def test_a_sample_is_of_the_keys_that_map_emits(tmp_path: Path) -> None:
    lines = [f"{number:07d}" for number in range(400_000)]
    path = write_lines(tmp_path / "long", *lines)
    run = SequentialRun(Words, tmp_path, [path])

    sample = sample_split(run.spec, run.job, run.spec.splits[0], 160)

    assert len(sample) == 160
    assert {key.decode() for key in sample} <= set(lines)
    # From all over the split, not from its beginning.
    assert max(sample) > b"0370000"
    assert min(sample) < b"0030000"


def test_a_sample_passes_over_what_fails(tmp_path: Path) -> None:
    class Picky(Job):
        input_format = InputFormat("jsonl")
        partition = "range"

        def map(self, key: Any, row: Any) -> Iterator[tuple[int, int]]:
            yield 1 // row["n"], 1

    path = write_lines(tmp_path / "rows", '{"n": 0}', '{"n": 1}', "not json", '{"n": 2}')
    run = SequentialRun(Picky, tmp_path, [path], reducers=2)

    assert len(sample_split(run.spec, run.job, run.spec.splits[0], 10)) == 2
