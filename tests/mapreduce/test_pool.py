"""The pool of real worker processes: they die, hang, stop, leak and lie, and the job's output stays the same."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onerack.codec import decode_file
from onerack.errors import JobFailed, NotExecuted
from onerack.mapreduce import JobResult, run
from onerack.mapreduce.messages import JournalRecord, TaskCompleted
from onerack.mapreduce.pool import Pool
from tests.mapreduce.processes import HASTY, is_alive

Pairs = Iterator[tuple[str, int]]


def count_words(books: Path, out: Path, sabotage: Any, **settings: Any) -> JobResult:
    """Word count, two workers, one map task for each book. `sabotage(path)` runs once, in `carla`'s first attempt."""
    marker = str(out) + ".sabotaged"

    def words(key: tuple[str, int], line: str) -> Pairs:
        import os

        if key[0].endswith("carla.txt") and not os.path.exists(marker):
            open(marker, "w").close()
            sabotage()
        for word in line.split():
            yield word, 1

    settings = {"workers": 2, "split_size": 64, **settings}
    return run(map=words, reduce="sum", input=str(books), output=str(out), **settings)


def repeated_tasks(result: JobResult) -> list[str]:
    """The tasks whose accepted attempt was not the first."""
    path = Path(result.directory, "journal.log")
    decoder = msgspec.msgpack.Decoder(JournalRecord)
    records = [decoder.decode(payload) for payload in decode_file(path.read_bytes(), str(path))]
    completed = [record.attempt for record in records if isinstance(record, TaskCompleted)]
    return [attempt.task for attempt in completed if attempt.number > 1]


def test_a_killed_worker_costs_only_its_running_task(books: Path, tmp_path: Path, word_counts: dict[str, int]) -> None:
    def sabotage() -> None:
        import os

        os.kill(os.getpid(), 9)

    result = count_words(books, tmp_path / "out", sabotage)

    assert dict(result.rows()) == word_counts
    assert repeated_tasks(result) == ["m2"]
    assert (result.retries, result.workers_lost) == (1, 1)


def test_a_task_that_ends_its_process_is_run_again(books: Path, tmp_path: Path, word_counts: dict[str, int]) -> None:
    def sabotage() -> None:
        import os

        os._exit(3)

    assert dict(count_words(books, tmp_path / "out", sabotage).rows()) == word_counts


def test_a_task_that_always_ends_its_process_fails_the_job_and_names_the_record(books: Path, tmp_path: Path) -> None:
    def words(key: Any, line: str) -> Pairs:
        if line == "the tale of berta":
            import os

            os._exit(3)
        yield line, 1

    with pytest.raises(JobFailed, match=r"exit status 3[\s\S]*berta\.txt, byte 0, number 0") as failed:
        run(map=words, reduce="sum", input=str(books), output=str(tmp_path / "out"), workers=2, split_size=64)

    assert failed.value.cause == "exit"
    assert sorted(os.listdir(tmp_path)) == ["books", "home"]


def test_a_stopped_worker_is_silent_and_replaced(books: Path, tmp_path: Path, word_counts: dict[str, int]) -> None:
    def sabotage() -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGSTOP)

    result = count_words(books, tmp_path / "out", sabotage, config=HASTY)

    assert dict(result.rows()) == word_counts
    assert repeated_tasks(result) == ["m2"]


def test_workers_that_never_introduce_themselves_end_the_job(
    books: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pool, "_heard", lambda pool, name, message: None)
    with pytest.raises(NotExecuted, match="no worker process can be started: workers end before they have started"):
        count_words(books, tmp_path / "out", None, config=HASTY)
    assert sorted(os.listdir(tmp_path)) == ["books", "home"]


def test_a_worker_in_a_long_c_call_is_silent_and_not_dead(
    books: Path, tmp_path: Path, word_counts: dict[str, int]
) -> None:
    def sabotage() -> None:

        began = time.monotonic()
        length = 20_000_000
        while (
            time.monotonic() - began < 1.5
        ):  # One call of sum() holds the interpreter's lock from its start to its end.
            began = time.monotonic()
            sum(range(length))
            length *= 2

    result = count_words(books, tmp_path / "out", sabotage, config=HASTY)

    assert dict(result.rows()) == word_counts
    assert result.retries == 0


def test_a_worker_whose_code_closes_descriptors_is_lost_and_replaced(
    books: Path, tmp_path: Path, word_counts: dict[str, int]
) -> None:
    def sabotage() -> None:
        import os

        os.closerange(3, 1000)
        time.sleep(1000)

    result = count_words(books, tmp_path / "out", sabotage)

    assert dict(result.rows()) == word_counts
    assert repeated_tasks(result) == ["m2"]


def test_a_worker_whose_code_writes_to_its_connection_is_lost_with_a_verdict(books: Path, tmp_path: Path) -> None:
    def words(key: Any, line: str) -> Pairs:
        import contextlib
        import os

        for descriptor in map(int, os.listdir("/proc/self/fd")):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket"):
                    os.write(descriptor, b"\xff" * 64)
        time.sleep(1000)
        yield line, 1

    config = msgspec.structs.replace(HASTY, losses_max=1)
    with pytest.raises(JobFailed, match="out of reach: its connection has ended: the peer broke the protocol"):
        run(map=words, reduce="sum", input=str(books), output=str(tmp_path / "out"), split_size=64, config=config)


def test_a_worker_without_any_memory_left_goes_on_speaking(
    books: Path, tmp_path: Path, word_counts: dict[str, int]
) -> None:
    def sabotage() -> None:

        hoard: list[Any] = []
        for size in (1 << 26, 1 << 20, 1 << 12, 64):
            try:
                while True:
                    hoard.append(bytes(size))
            except MemoryError:
                pass
        time.sleep(0.7)  # Several heartbeats are due in that time.
        hoard.clear()

    result = count_words(books, tmp_path / "out", sabotage, memory="128MB", config=HASTY)

    assert dict(result.rows()) == word_counts
    assert (result.retries, result.workers_lost) == (0, 0)


def test_a_hanging_task_is_killed_at_its_stall_deadline(
    books: Path, tmp_path: Path, word_counts: dict[str, int]
) -> None:
    def sabotage() -> None:
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)

    config = msgspec.structs.replace(HASTY, task_stall_timeout_s=1.0)
    result = count_words(books, tmp_path / "out", sabotage, config=config)

    assert dict(result.rows()) == word_counts
    assert repeated_tasks(result) == ["m2"]


def test_the_record_in_which_a_c_function_hangs_is_named(books: Path, tmp_path: Path) -> None:
    """The heartbeat thread cannot run then: what it would have said is read from the position file."""

    def words(key: Any, line: str) -> Pairs:
        if line == "the tale of berta":
            import re

            re.match("(a+)+$", "a" * 60 + "b")  # holds the interpreter's lock for years
        yield line, 1

    config = msgspec.structs.replace(HASTY, task_stall_timeout_s=1.0, attempts_max=3)
    with pytest.raises(JobFailed, match=r"berta\.txt, byte 0, number 0: the tale of berta"):
        run(map=words, reduce="sum", input=str(books), output=str(tmp_path / "out"), split_size=64, config=config)


def test_an_emission_that_is_refused_is_told_once(books: Path, tmp_path: Path) -> None:
    def words(key: Any, line: str) -> Any:
        yield [line], 1

    with pytest.raises(JobFailed, match="a key of type list") as failed:
        run(map=words, reduce="sum", input=str(books), output=str(tmp_path / "out"), workers=1)

    assert "During handling" not in str(failed.value)


def test_a_backup_task_wins_and_the_straggler_is_killed(
    books: Path, tmp_path: Path, word_counts: dict[str, int]
) -> None:
    def sabotage() -> None:

        time.sleep(1000)

    config = msgspec.structs.replace(HASTY, backup_age_min_s=0.3, backup_phase_fraction=0.5)
    result = count_words(books, tmp_path / "out", sabotage, backup_tasks=True, config=config)

    assert dict(result.rows()) == word_counts
    assert repeated_tasks(result) == ["m2"]
    assert (result.retries, result.metrics.records_in) == (0, 14)


def test_a_record_that_ends_its_process_is_set_aside(books: Path, tmp_path: Path) -> None:
    def words(key: Any, line: str) -> Pairs:
        if line == "the tale of berta":
            import os

            os.kill(os.getpid(), 11)
        yield line, 1

    result = run(map=words, reduce="sum", input=str(books), output=str(tmp_path / "out"), workers=2, on_error="skip:1")

    assert dict(result.rows())["it was it"] == 10
    (record,) = result.quarantined
    assert (record.record.path, record.record.offset) == (str(books / "berta.txt"), 0)
    assert record.raw == b"the tale of berta"
    assert "SIGSEGV" in record.traceback


def test_a_killed_nursery_is_started_again(books: Path, tmp_path: Path, word_counts: dict[str, int]) -> None:
    def sabotage() -> None:
        import os

        os.kill(os.getppid(), 9)
        time.sleep(1000)  # The kernel ends this process with its parent.

    assert dict(count_words(books, tmp_path / "out", sabotage).rows()) == word_counts


def test_what_user_code_has_started_ends_with_the_job(books: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def sabotage() -> None:
        import os
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for leaves_the_group in (False, True):
            if os.fork() == 0:
                if leaves_the_group:
                    os.setsid()
                with open(pids, "a") as file:
                    file.write(f"{os.getpid()}\n")
                time.sleep(1000)
                os._exit(0)
        while not pids.exists() or pids.read_text().count("\n") < 2:
            time.sleep(0.01)

    count_words(books, tmp_path / "out", sabotage)

    started = [int(line) for line in pids.read_text().split()]
    assert len(started) == 2
    assert not [pid for pid in started if is_alive(pid)]


def test_user_code_reads_no_input_and_prints_into_its_log(books: Path, tmp_path: Path) -> None:
    def words(key: Any, line: str) -> Pairs:
        import sys

        print("read", repr(sys.stdin.read()))
        yield line, 1

    result = run(map=words, reduce="sum", input=str(books / "anna.txt"), output=str(tmp_path / "out"))

    logs = Path(result.directory, "logs")
    assert (logs / "m0.1.log").read_text() == "read ''\n" * 2
    assert [path.name for path in logs.iterdir()] == ["m0.1.log"], "attempts that print nothing leave no file"


def test_taking_too_much_memory_at_once_is_a_memory_error_with_the_users_line(books: Path, tmp_path: Path) -> None:
    def greedy(key: Any, line: str) -> Pairs:
        yield line, len(bytearray(4 << 30))

    with pytest.raises(JobFailed, match=r"in greedy[\s\S]*MemoryError") as failed:
        run(map=greedy, reduce="sum", input=str(books), output=str(tmp_path / "out"), workers=2, memory="128MB")

    assert failed.value.cause == "memory"


def test_the_watch_ends_a_worker_that_lifts_its_own_limit(books: Path, tmp_path: Path) -> None:
    def greedy(key: Any, line: str) -> Pairs:
        import resource

        if line != "the tale of dora":
            return
        resource.setrlimit(resource.RLIMIT_DATA, (-1, -1))
        hoard = []
        while True:
            hoard.append(b"x" * (32 << 20))
            time.sleep(0.02)
            yield line, 1

    with pytest.raises(JobFailed, match=r"share of the job's memory is 64 MiB[\s\S]*dora\.txt") as failed:
        run(
            map=greedy, reduce="sum", input=str(books), output=str(tmp_path / "out"),
            workers=1, memory="64MB", config=HASTY,
        )  # fmt: skip

    assert failed.value.cause == "memory"
