"""Everything that user code can do wrong in a task, and what is said about it."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from onerack.errors import StorageFull
from onerack.mapreduce.context import count
from onerack.mapreduce.job import Job
from onerack.mapreduce.messages import RecordAt, Skip
from onerack.mapreduce.worker import attempt, bad_records, map_output, portions
from onerack.mapreduce.worker.groups import Replay
from onerack.mapreduce.worker.probe import read_position
from tests.mapreduce.sequential_run import SequentialRun, completed, failure, function_job, reduced, write_lines

LINES = ("a", "b", "bad", "c", "bad", "d")


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "lines", *LINES)


def job_that_fails(fail: Callable[[], Any], **attributes: Any) -> Any:
    """Counts lines, and does `fail` at every line that says "bad"."""

    def each(key: Any, line: str) -> Iterator[tuple[str, int]]:
        count("seen")
        yield line, 1
        if line == "bad":
            yield fail()

    return function_job(map=each, **{"reduce": "sum", **attributes})


def raising(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


def endless() -> Any:
    return endless()


FAILURES: dict[str, tuple[Callable[[], Any], str, str]] = {
    "raises": (raising(ValueError("no good")), "exception", "ValueError: no good"),
    "no pair": (lambda: "text", "exception", "pair"),
    "a word of two letters": (lambda: "ab", "exception", "pair"),
    "three": (lambda: (1, 2, 3), "exception", "pair"),
    "none": (lambda: None, "exception", "pair"),
    "a key of another kind": (lambda: (1, 1), "exception", "kind"),
    "nan": (lambda: (float("nan"), 1), "exception", "nan"),
    "no key": (lambda: ({}, 1), "exception", "dict"),
    "a lock": (lambda: ("k", threading.Lock()), "exception", "lock"),
    "sum of text": (lambda: ("k", "1"), "exception", "str"),
    "exit": (raising(SystemExit(3)), "exit", "sys.exit(3)"),
    "interrupt": (raising(KeyboardInterrupt()), "exit", "KeyboardInterrupt"),
    "memory": (raising(MemoryError()), "memory", "memory"),
    "recursion": (endless, "exception", "RecursionError"),
    "stop iteration": (raising(StopIteration()), "exception", "StopIteration"),
    "generator exit": (raising(GeneratorExit()), "exception", "GeneratorExit"),
    "assertion": (raising(AssertionError()), "exception", "AssertionError"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_an_untracked_attempt_fails_without_a_record(name: str, tmp_path: Path, lines: Path) -> None:
    fail, cause, _ = FAILURES[name]
    run = SequentialRun(job_that_fails(fail), tmp_path, [lines])

    found = failure(run.map())

    assert found.cause == cause
    assert found.record is None
    assert not found.final
    assert run.left_over() == []


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("name", FAILURES)
def test_a_tracked_attempt_names_the_record(name: str, number: int, tmp_path: Path, lines: Path) -> None:
    fail, cause, said = FAILURES[name]
    run = SequentialRun(job_that_fails(fail), tmp_path, [lines])

    found = failure(run.map(number=number, tracked=True))

    assert found.cause == cause
    assert said in found.message
    assert found.final
    assert found.record == RecordAt(2, str(lines), 4, "bad")
    assert run.left_over() == []


@pytest.mark.parametrize("name", FAILURES)
def test_bad_records_are_set_aside_and_leave_nothing(name: str, tmp_path: Path, lines: Path) -> None:
    fail, _, said = FAILURES[name]
    run = SequentialRun(job_that_fails(fail, on_error="skip:2"), tmp_path, [lines], reducers=1)

    maps = [completed(run.map(number=2, tracked=True))]
    output = run.lines_of(run.reduces(maps)[0].parts[0].path)

    # Neither the pair that came before the failure nor what was counted for it.
    assert output == ["a\t1", "b\t1", "c\t1", "d\t1"]
    assert maps[0].counters == {"seen": 4}
    assert [(each.record.number, each.record.offset, each.raw) for each in maps[0].quarantined] == [
        (2, 4, b"bad"),
        (4, 10, b"bad"),
    ]
    assert said.split("(")[0] in maps[0].quarantined[0].traceback or name in ("exit", "memory")


def test_one_bad_record_too_many_ends_the_attempt_for_good(tmp_path: Path, lines: Path) -> None:
    run = SequentialRun(job_that_fails(raising(ValueError("no good")), on_error="skip:1"), tmp_path, [lines])

    found = failure(run.map(number=2, tracked=True))

    assert found.final
    assert found.record is not None
    assert found.record.number == 4
    assert "more than 1 bad record" in found.message
    assert "no good" in found.message


@pytest.mark.parametrize("number", [2, 3])
def test_an_accident_is_not_a_bad_record(number: int, tmp_path: Path, lines: Path) -> None:
    accidents = iter([True])

    def fail() -> Any:
        if next(accidents, False):
            raise OSError("the network")
        return "good", 1

    run = SequentialRun(job_that_fails(fail), tmp_path, [lines], reducers=1)

    maps = [completed(run.map(number=number, tracked=True))]

    assert maps[0].counters == {"seen": 6}
    assert "good\t2" in run.lines_of(run.reduces(maps)[0].parts[0].path)


def test_the_traceback_has_the_users_frames_only(tmp_path: Path, lines: Path) -> None:
    run = SequentialRun(job_that_fails(raising(ValueError("no good"))), tmp_path, [lines])

    for found in (failure(run.map()), failure(run.map(number=2, tracked=True))):
        assert "yield fail()" in found.traceback
        assert "raise error" in found.traceback
        assert "doors.py" not in found.traceback
        assert "careful.py" not in found.traceback
        assert found.traceback.endswith("ValueError: no good\n")


def test_a_plain_function_that_raises_stop_iteration_loses_no_records(tmp_path: Path, lines: Path) -> None:
    def each(key: Any, line: str) -> list[tuple[str, int]]:
        if line == "d":
            raise StopIteration
        return [(line, 1)]

    found = failure(SequentialRun(function_job(map=each, reduce="sum"), tmp_path, [lines]).map())

    assert "StopIteration" in found.message


@pytest.mark.parametrize(
    ("returned", "said"), [("text", "returned 'text'"), (1, "returned 1"), (3.5, "3.5 (float)"), ([1], "pair")]
)
def test_what_a_plain_function_must_not_return(returned: Any, said: str, tmp_path: Path, lines: Path) -> None:
    run = SequentialRun(function_job(map=lambda key, line: returned, reduce="sum"), tmp_path, [lines])

    assert "pair" in failure(run.map()).message
    assert said in failure(run.map(number=2, tracked=True)).message


def test_what_is_skipped_is_not_given_to_user_code(tmp_path: Path, lines: Path) -> None:
    run = SequentialRun(job_that_fails(lambda: sys.exit("must not run"), on_error="skip:2"), tmp_path, [lines])
    skips = tuple(Skip(RecordAt(number), "killed twice") for number in (2, 4))

    report = completed(run.map(number=4, tracked=True, skips=skips))

    assert [(each.record, each.raw, each.traceback) for each in report.quarantined] == [
        (RecordAt(2, str(lines), 4, "bad"), b"bad", "killed twice"),
        (RecordAt(4, str(lines), 10, "bad"), b"bad", "killed twice"),
    ]


def test_from_the_third_attempt_on_each_record_is_noted_before_the_call(tmp_path: Path, lines: Path) -> None:
    noted: list[RecordAt | None] = []

    def each(key: Any, line: str) -> None:
        attempt = run.probe.running
        assert attempt is not None
        noted.append(read_position(str(tmp_path / "position"), attempt))

    run = SequentialRun(function_job(map=each, reduce="sum"), tmp_path, [lines])
    completed(run.map())
    completed(run.map(number=2, tracked=True))
    assert noted == [None] * 12

    report = completed(run.map(number=3, tracked=True))

    assert [record.number for record in noted[12:] if record] == [0, 1, 2, 3, 4, 5]
    assert noted[14] == RecordAt(2, str(lines), 4, "bad")
    assert read_position(str(tmp_path / "position"), report.attempt) is None


@pytest.mark.parametrize("value", [threading.Lock(), sys.stdout, lambda: 0, object()])
def test_values_that_cannot_be_serialised(value: object, tmp_path: Path, lines: Path) -> None:
    job = job_that_fails(lambda: ("k", value), reduce=lambda key, values: 1)
    run = SequentialRun(job, tmp_path, [lines])

    assert failure(run.map()).cause == "unserialisable"
    found = failure(run.map(number=2, tracked=True))

    assert (found.cause, found.final) == ("unserialisable", True)
    assert found.record == RecordAt(2, str(lines), 4, "bad")
    assert type(value).__name__ in found.message
    assert 'values = "pickle"' in found.message


def hold_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every pair took too much memory."""
    monkeypatch.setattr(attempt, "HELD_SHARE", 1 << 60)
    monkeypatch.setattr(attempt, "PAIRS_FIRST", 1)
    monkeypatch.setattr(portions, "PAIRS_MAX", 2)
    monkeypatch.setattr(portions, "PAIRS_FIRST", 2)


@pytest.mark.parametrize("number", [2, 3])
def test_a_record_that_emits_too_much_to_hold_back(
    number: int, tmp_path: Path, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_nothing_back(monkeypatch)
    fails = [False]

    def each(key: Any, line: str) -> Iterator[tuple[str, int]]:
        count("seen")
        for _ in range(5 if line == "bad" else 1):
            yield line, 1
        if line == "bad" and fails[0]:
            raise ValueError("no good")

    run = SequentialRun(function_job(map=each, reduce="sum"), tmp_path, [lines], skip_max=2, reducers=1)

    report = completed(run.map(number=number, tracked=True))
    assert run.lines_of(run.reduces([report])[0].parts[0].path) == ["a\t1", "b\t1", "bad\t10", "c\t1", "d\t1"]
    assert report.counters == {"seen": 6}

    # It cannot be set aside any more; the master will have it skipped when it has failed so often enough.
    fails[0] = True
    found = failure(run.map(number=number, tracked=True))
    assert found.record == RecordAt(2, str(lines), 4, "bad")
    assert not found.final


def test_all_bad_records_of_an_attempt_together_fit_into_its_report(
    tmp_path: Path, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bad_records, "RAW_BYTES_MAX", 5)
    run = SequentialRun(job_that_fails(raising(ValueError("no good")), on_error="skip:2"), tmp_path, [lines])

    report = completed(run.map(number=2, tracked=True))

    assert [each.raw for each in report.quarantined] == [b"bad", b"ba"]


class AddsUp(Job):
    """A map that adds up on itself; what it gives comes out at the end."""

    on_error = "skip:2"
    reduce = "sum"
    unsendable = False

    def setup(self) -> None:
        self.seen = Counter[str]()

    def map(self, key: Any, line: str) -> Iterator[tuple[str, Any]]:
        self.seen[line] += 1
        if line == "bad":
            if not self.unsendable:
                raise ValueError("no good")
            yield "unsendable", threading.Lock()

    def teardown(self) -> Iterator[tuple[str, int]]:
        yield from self.seen.items()


class AddsUpUnsendables(AddsUp):
    unsendable = True


@pytest.mark.parametrize("job", [AddsUp, AddsUpUnsendables])
def test_a_bad_record_leaves_nothing_on_a_job_that_adds_up(job: type[Job], tmp_path: Path, lines: Path) -> None:
    run = SequentialRun(job, tmp_path, [lines], reducers=1)

    # Nothing is called twice in one attempt: the record that fails ends it, and is named.
    for number in (2, 3):
        found = failure(run.map(number=number, tracked=True))
        assert found.record is not None
        assert (found.record.number, found.final) == (2, False)
    skips = tuple(Skip(RecordAt(number), "failed twice") for number in (2, 4))
    report = completed(run.map(number=4, tracked=True, skips=skips))

    assert run.lines_of(run.reduces([report])[0].parts[0].path) == ["a\t1", "b\t1", "c\t1", "d\t1"]
    assert [each.record.number for each in report.quarantined] == [2, 4]


class SeenOnce(Job):
    """A map that passes over what it has seen."""

    on_error = "skip:2"
    reduce = "sum"

    def setup(self) -> None:
        self.seen = set[str]()

    def map(self, key: Any, line: str) -> Iterator[tuple[str, int]]:
        if line in self.seen:
            return
        self.seen.add(line)
        if line == "bad":
            raise ValueError("no good")
        yield line, 1


class SeenOnceInReduce(Job):
    on_error = "skip:2"

    def map(self, key: Any, line: str) -> Iterator[tuple[str, int]]:
        yield line, 1

    def setup(self) -> None:
        self.seen = set[str]()

    def reduce(self, key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield from SeenOnce.map(self, 0, key)  # type: ignore[arg-type]


def test_a_job_that_remembers_sees_no_record_twice(tmp_path: Path, lines: Path) -> None:
    run = SequentialRun(SeenOnce, tmp_path, [lines], reducers=1)

    for number in (2, 3):  # The second try would pass: as a record that was seen before.
        found = failure(run.map(number=number, tracked=True))
        assert found.record is not None
        assert (found.record.number, found.final) == (2, False)
    skips = tuple(Skip(RecordAt(number), "failed twice") for number in (2, 4))
    report = completed(run.map(number=4, tracked=True, skips=skips))

    assert run.lines_of(run.reduces([report])[0].parts[0].path) == ["a\t1", "b\t1", "c\t1", "d\t1"]


def test_a_reduce_that_remembers_is_not_given_a_group_twice(tmp_path: Path, lines: Path) -> None:
    run = SequentialRun(SeenOnceInReduce, tmp_path, [lines], reducers=1)
    found = failure(run.reduce(run.maps(), number=2, tracked=True))
    assert found.record is not None
    assert (found.record.preview, found.final) == ("'bad'", False)


@pytest.mark.parametrize("door", ["map", "map_block"])
def test_a_tracked_attempt_spills_at_the_same_rows(door: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "HELD_SHARE", 0.01)
    path = write_lines(tmp_path / "numbers", *map(str, range(60_000)))

    def each(key: Any, line: str) -> Iterator[tuple[str, float]]:
        yield str(int(line) % 20_000), int(line) / 7

    def block(data: bytes) -> Iterator[tuple[str, float]]:
        for line in data.decode().splitlines():
            yield from each(None, line)

    job = function_job(**{door: each if door == "map" else block}, reduce="sum", block_bytes=100_000)
    run = SequentialRun(job, tmp_path, [path], memory_bytes=4 << 20)

    first, second = completed(run.map()), completed(run.map(number=2, tracked=True))

    assert first.metrics.spills > 2
    assert [section.extents for section in first.sections] == [section.extents for section in second.sections]


def test_a_long_record_is_cut_in_quarantine(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "long", "x" * 200_000)

    def each(key: Any, line: str) -> None:
        raise ValueError("no good")

    run = SequentialRun(function_job(map=each, reduce="sum", on_error="skip:1"), tmp_path, [path])

    assert len(completed(run.map(number=2, tracked=True)).quarantined[0].raw) == 64 * 1024


# ---------------------------------------------------------------------------------------------- blocks and batches


class FailingBlocks(Job):
    """Counts lines by blocks, and does not like some."""

    on_error = "skip:2"
    block_bytes = 4

    def map_block(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        count("blocks")
        for line in data.splitlines():
            yield line, 1
            if line == b"bad":
                raise ValueError("no good")

    reduce = "sum"


class FailingBatches(Job):
    on_error = "skip:2"

    def map_batch(self, batch: Any) -> Iterator[tuple[str, int]]:
        for line in batch.column("line").to_pylist():
            yield line, 1
            if line == "bad":
                raise ValueError("no good")

    reduce = "sum"


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("job", [FailingBlocks, FailingBatches])
def test_a_failed_block_is_cut_into_records(job: type[Job], number: int, tmp_path: Path, lines: Path) -> None:
    run = SequentialRun(job, tmp_path, [lines], reducers=1)

    assert failure(run.map()).record is None
    report = completed(run.map(number=number, tracked=True))

    assert run.lines_of(run.reduces([report])[0].parts[0].path) == ["a\t1", "b\t1", "c\t1", "d\t1"]
    assert [each.record.number for each in report.quarantined] == [2, 4]
    assert report.metrics.records_in == 6
    if job is FailingBlocks:
        assert [(each.record.offset, each.raw) for each in report.quarantined] == [(4, b"bad\n"), (10, b"bad\n")]


def test_a_bad_table_is_named(tmp_path: Path, lines: Path) -> None:
    import pyarrow as pa

    class Tables(Job):
        def map_batch(self, batch: Any) -> Any:
            return pa.table({"word": ["a"], "n": [1]})

        reduce = "sum"

    found = failure(SequentialRun(Tables, tmp_path, [lines]).map())

    assert "['word', 'n']" in found.message
    assert "key and value" in found.message


# ---------------------------------------------------------------------------------------------- the other functions


@pytest.mark.parametrize(
    ("wrong", "said"), [(7, "returned 7"), (-1, "returned -1"), ("0", "'0' (str)"), (0.0, "0.0 (float)"), (None, "N")]
)
def test_a_wrong_partition_is_named_with_its_key(wrong: Any, said: str, tmp_path: Path, lines: Path) -> None:
    job = job_that_fails(lambda: ("x", 1), partition=lambda key, reducers: wrong if key == "bad" else 0)
    run = SequentialRun(job, tmp_path, [lines])

    found = failure(run.map(number=2, tracked=True))

    assert "partition('bad', 2)" in found.message
    assert said in found.message
    assert found.record is not None
    assert found.record.number == 2
    assert said in failure(run.map()).message


def test_setup_teardown_and_combine_that_raise(tmp_path: Path, lines: Path) -> None:
    def each(key: Any, line: str) -> Iterator[tuple[str, int]]:
        yield "k", 1

    def fail(*arguments: Any) -> Any:
        raise ValueError("no good")

    for name in ("setup", "teardown", "combine"):
        functions: dict[str, Any] = {"map": each, "reduce": lambda key, values: sum(values), name: fail}
        job = function_job(**functions)
        for tracked in (False, True):
            found = failure(SequentialRun(job, tmp_path, [lines]).map(tracked=tracked))
            assert (found.cause, found.final, found.record) == ("exception", False, None)
            assert "in fail" in found.traceback


def test_a_combine_must_keep_the_key(tmp_path: Path, lines: Path) -> None:
    def combine(key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:
        yield key + "x", sum(values)

    job = function_job(map=lambda key, line: [(line, 1)], combine=combine, reduce=lambda key, values: sum(values))

    assert "must keep the key" in failure(SequentialRun(job, tmp_path, [lines]).map()).message


def test_an_init_that_fails_in_the_worker(tmp_path: Path, lines: Path) -> None:
    class Fragile(Job):
        made = 0

        def __init__(self) -> None:
            Fragile.made += 1
            if Fragile.made > 1:
                raise OSError("no such model")

        def map(self, key: Any, line: str) -> None:
            return None

    found = failure(SequentialRun(Fragile, tmp_path, [lines]).map())

    assert "no such model" in found.message


# ---------------------------------------------------------------------------------------------- the input


def test_a_missing_file_is_final(tmp_path: Path, lines: Path) -> None:
    run = SequentialRun(job_that_fails(lambda: ("x", 1)), tmp_path, [lines])
    lines.unlink()

    found = failure(run.map())

    assert (found.cause, found.final) == ("input", True)
    assert str(lines) in found.message


def test_bytes_of_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "latin"
    path.write_bytes(b"good\nch\xe2teau\ngood\n")
    job = job_that_fails(lambda: ("x", 1))

    found = failure(SequentialRun(job, tmp_path, [path]).map())
    assert (found.cause, found.final) == ("input", True)
    assert found.record is not None
    assert found.record.offset == 5

    report = completed(SequentialRun(job, tmp_path, [path], skip_max=1).map())
    assert [each.raw for each in report.quarantined] == [b"ch\xe2teau"]
    assert report.counters == {"seen": 2}


def test_a_full_disk_is_final(tmp_path: Path, lines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> Any:
        raise StorageFull("/full")

    run = SequentialRun(job_that_fails(lambda: ("x", 1)), tmp_path, [lines])
    monkeypatch.setattr(map_output, "Collector", full)

    found = failure(run.map())

    assert (found.cause, found.final) == ("storage_full", True)
    assert "/full" in found.message


# ---------------------------------------------------------------------------------------------- reduce


def reduce_job(fail: Callable[[], Any], **attributes: Any) -> Any:
    """Counts lines, and does `fail` after half of the values of "bad"."""

    def each(key: Any, line: str) -> Iterator[tuple[str, int]]:
        yield line, 1

    def total(key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:
        count("groups")
        yield key, next(values)
        if key == "bad":
            yield fail()
        for value in values:
            yield key, value

    return function_job(map=each, reduce=total, **attributes)


REDUCE_FAILURES = ["raises", "no pair", "exit", "memory", "recursion", "stop iteration", "generator exit"]


@pytest.mark.parametrize("name", REDUCE_FAILURES)
def test_a_reduce_that_fails(name: str, tmp_path: Path, lines: Path) -> None:
    fail, cause, said = FAILURES[name]
    run = SequentialRun(reduce_job(fail), tmp_path, [lines], reducers=1)
    maps = run.maps()

    untracked = failure(run.reduce(maps))
    tracked = failure(run.reduce(maps, number=2, tracked=True))

    assert (untracked.cause, untracked.record, untracked.final) == (cause, None, False)
    assert (tracked.cause, tracked.final) == (cause, True)
    assert said in tracked.message
    assert tracked.record == RecordAt(2, preview="'bad'")
    assert [name for name in run.left_over() if not name.startswith("m0")] == []


@pytest.mark.parametrize("name", REDUCE_FAILURES)
def test_a_bad_group_is_set_aside(name: str, tmp_path: Path, lines: Path) -> None:
    fail, _, _ = FAILURES[name]
    run = SequentialRun(reduce_job(fail, on_error="skip:1"), tmp_path, [lines], reducers=1)

    report = reduced(run.reduce(run.maps(), number=2, tracked=True))

    assert run.lines_of(report.parts[0].path) == ["a\t1", "b\t1", "c\t1", "d\t1"]
    assert report.counters == {"groups": 4}
    assert [(each.record.number, each.raw) for each in report.quarantined] == [(2, b"'bad'")]


def test_a_group_is_tried_again_with_all_its_values(tmp_path: Path, lines: Path) -> None:
    accidents = iter([True])

    def fail() -> Any:
        if next(accidents, False):
            raise OSError("the network")
        return "between", 0

    run = SequentialRun(reduce_job(fail), tmp_path, [lines], reducers=1)

    report = reduced(run.reduce(run.maps(), number=2, tracked=True))

    assert run.lines_of(report.parts[0].path)[2:5] == ["bad\t1", "between\t0", "bad\t1"]


def test_a_group_too_large_to_remember_is_left_to_the_next_attempt(
    tmp_path: Path, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_nothing_back(monkeypatch)
    run = SequentialRun(reduce_job(raising(ValueError("no good")), on_error="skip:1"), tmp_path, [lines], reducers=1)

    found = failure(run.reduce(run.maps(), number=2, tracked=True))

    assert not found.final
    assert found.record == RecordAt(2, preview="'bad'")


def test_values_are_remembered_by_their_size_not_by_their_number(tmp_path: Path) -> None:
    small, large = Replay(iter(range(10_000)), 1 << 20), Replay(("x" * 1_000 for _ in range(10_000)), 1 << 20)

    for replay in (small, large):
        assert sum(1 for _ in replay.first()) == 10_000
    assert list(small.again()) == list(range(10_000))
    assert not large.is_whole


def test_values_that_fail_on_their_way_are_not_missing_the_second_time() -> None:
    def values() -> Iterator[int]:
        yield 1
        raise MemoryError

    replay = Replay(values(), 1 << 20)
    with pytest.raises(MemoryError):
        list(replay.first())

    assert not replay.is_whole


def test_a_group_that_gives_too_much_to_hold_back(tmp_path: Path, lines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold_nothing_back(monkeypatch)
    monkeypatch.setattr(attempt, "PAIRS_FIRST", 0)
    monkeypatch.setattr(portions, "PAIRS_FIRST", 1)
    run = SequentialRun(reduce_job(raising(ValueError("no good")), on_error="skip:1"), tmp_path, [lines], reducers=1)

    found = failure(run.reduce(run.maps(), number=2, tracked=True))

    assert (found.record, found.final) == (RecordAt(2, preview="'bad'"), False)


def test_a_group_that_was_skipped_is_not_given_to_user_code(tmp_path: Path, lines: Path) -> None:
    run = SequentialRun(reduce_job(lambda: sys.exit("must not run"), on_error="skip:1"), tmp_path, [lines], reducers=1)

    report = reduced(run.reduce(run.maps(), number=4, tracked=True, skips=(Skip(RecordAt(2), "killed twice"),)))

    assert [(each.record.number, each.traceback) for each in report.quarantined] == [(2, "killed twice")]


def test_values_that_cannot_be_compared_name_the_key(tmp_path: Path) -> None:
    files = [write_lines(tmp_path / "0", "k"), write_lines(tmp_path / "1", "k")]

    def each(key: tuple[str, int], line: str) -> Iterator[tuple[str, Any]]:
        yield "k", 1 if key[0].endswith("0") else "one"

    run = SequentialRun(function_job(map=each, reduce="min"), tmp_path, files, reducers=1)

    found = failure(run.reduce(run.maps()))

    assert found.cause == "exception"
    for said in ("k", "int", "str"):
        assert said in found.message


def test_keys_of_two_kinds_in_two_splits(tmp_path: Path) -> None:
    files = [write_lines(tmp_path / "0", "k"), write_lines(tmp_path / "1", "k")]

    def each(key: tuple[str, int], line: str) -> Iterator[tuple[Any, int]]:
        yield (1 if key[0].endswith("0") else "one"), 1

    for reduce in ("sum", "list", lambda key, values: sum(values)):
        run = SequentialRun(function_job(map=each, reduce=reduce), tmp_path, files, reducers=1)
        found = failure(run.reduce(run.maps()))
        assert "int" in found.message
        assert "str" in found.message
