"""`run` as users call it: from scripts, loops and threads, well and badly."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from onerack.errors import InputError, JobFailed, JobInterrupted, OutputExists, StorageFull, UsageError
from onerack.mapreduce import run
from tests.mapreduce.processes import family, is_alive, wait_until

Pairs = Iterator[tuple[Any, Any]]


def words(key: Any, line: str) -> Pairs:
    for word in line.split():
        yield word, 1


def left_in(folder: Path) -> list[str]:
    """Everything in a folder, hidden names too."""
    return sorted(os.listdir(folder))


# -------------------------------------------------------------------------------------------------- where it works


def test_it_works_inside_a_running_event_loop(books: Path, tmp_path: Path, word_counts: dict[str, int]) -> None:
    async def cell() -> dict[str, int]:
        return dict(run(map=words, reduce="sum", input=str(books), output=str(tmp_path / "out")).rows())

    assert asyncio.run(cell()) == word_counts


def test_it_works_in_a_thread_and_two_at_once(books: Path, tmp_path: Path, word_counts: dict[str, int]) -> None:
    counted: dict[int, dict[str, int]] = {}

    def count(number: int) -> None:
        output = str(tmp_path / f"out{number}")
        counted[number] = dict(run(map=words, reduce="sum", input=str(books), output=output, workers=1).rows())

    threads = [threading.Thread(target=count, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counted == {0: word_counts, 1: word_counts}


SCRIPT = """
import os, sys, time
print("main is run", flush=True)
from onerack.mapreduce import run

def first(key, line):
    {body}
    yield line[:1], 1

if {guard}:
    result = run(map=first, reduce="sum", input={input!r}, output={output!r}, workers=2, split_size=64)
    print(dict(result.rows()))
"""


def start_script(tmp_path: Path, books: Path, body: str = "pass", guard: str = "True") -> subprocess.Popen[str]:
    """A user's script, without a `__main__` guard unless asked for."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(body=body, guard=guard, input=str(books), output=str(tmp_path / "out")))
    return subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_script_needs_no_guard_and_its_main_is_run_once(books: Path, tmp_path: Path) -> None:
    with start_script(tmp_path, books) as script:
        output, _ = script.communicate(timeout=60)

    assert output.splitlines() == ["main is run", "{'i': 10, 't': 4}"]


# -------------------------------------------------------------------------------------------------- the end


def hanging_script(tmp_path: Path, books: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A script whose map tasks hang, and all processes below it, once two of them hang."""
    body = f"open({str(tmp_path)!r} + '/hangs-' + str(os.getpid()), 'w').close(); time.sleep(1000)"
    script = start_script(tmp_path, books, body)
    wait_until(lambda: len(list(tmp_path.glob("hangs-*"))) == 2)
    return script, family(script.pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_parent_alone_ends_everything_within_two_seconds(
    books: Path, tmp_path: Path, number: signal.Signals
) -> None:
    script, processes = hanging_script(tmp_path, books)

    with script:
        began = time.monotonic()
        script.send_signal(number)
        output, _ = script.communicate(timeout=60)

    assert time.monotonic() - began < 2
    assert f"JobInterrupted: job {job_of(tmp_path)} was interrupted by {number.name}" in output
    assert len(processes) >= 3
    assert not [pid for pid in processes if is_alive(pid)]
    assert [name for name in left_in(tmp_path) if "hangs" not in name] == ["books", "home", "script.py"]
    assert left_in(tmp_path / "home" / "jobs" / job_of(tmp_path)) == [
        "journal.log",
        "spec.msgpack",
        "status.json",
        "trace.log",
    ]


def test_nothing_outlives_a_killed_parent(books: Path, tmp_path: Path) -> None:
    script, processes = hanging_script(tmp_path, books)

    with script:
        script.kill()

    wait_until(lambda: not [pid for pid in processes if is_alive(pid)], timeout_s=5)


def job_of(tmp_path: Path) -> str:
    (job,) = os.listdir(tmp_path / "home" / "jobs")
    return job


def test_a_callers_own_exception_ends_the_job(books: Path, tmp_path: Path) -> None:
    def object_to(status: Any) -> None:
        raise KeyError("no")

    with pytest.raises(KeyError, match="no"):
        run(map=words, reduce="sum", input=str(books), output=str(tmp_path / "out"), on_status=object_to)

    assert left_in(tmp_path) == ["books", "home"]


def test_a_keyboard_interrupt_in_the_callers_code_is_an_interruption(books: Path, tmp_path: Path) -> None:
    def press(status: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(JobInterrupted, match="SIGINT"):
        run(map=words, reduce="sum", input=str(books), output=str(tmp_path / "out"), on_status=press)

    assert left_in(tmp_path) == ["books", "home"]


# -------------------------------------------------------------------------------------------------- what is wrong


def test_a_failure_shows_the_users_traceback_then_the_record_then_the_command(books: Path, tmp_path: Path) -> None:
    def divide(key: Any, line: str) -> Pairs:
        yield line, 1 // (len(line) - len("the tale of dora"))

    with pytest.raises(JobFailed) as failed:
        run(map=divide, reduce="sum", input=str(books), output=str(tmp_path / "out"), workers=1)

    lines = str(failed.value).splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "test_client.py" in lines[1]
    assert "in divide" in lines[1]
    assert "ZeroDivisionError" in str(failed.value)
    assert not [
        line for line in lines if "onerack/mapreduce" in line.replace(os.sep, "/") and line.startswith("  File")
    ]
    assert lines[-2].startswith(f"  record: {books}/dora.txt, byte 0, number 0")
    assert lines[-1].startswith(f"  run this task again under pdb: onerack debug {failed.value.job_directory} --task m")
    assert failed.value.cause == "exception"
    assert left_in(tmp_path) == ["books", "home"]


def test_a_broken_input_is_named_without_a_debugger_that_could_not_help(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(b"this is no gzip")

    with pytest.raises(JobFailed, match=r"a\.gz") as failed:
        run(map=words, reduce="sum", input=str(tmp_path / "a.gz"), output=str(tmp_path / "out"), workers=1)

    assert failed.value.cause == "input"
    assert "pdb" not in str(failed.value)


@pytest.mark.parametrize("sort_key", [None, lambda key, value: value])
def test_keys_of_two_kinds_are_refused_in_whatever_tasks_and_partitions_they_are(tmp_path: Path, sort_key: Any) -> None:
    (tmp_path / "numbers.txt").write_text("1\n7.0\n")

    def emit(key: Any, line: str) -> Pairs:
        number = float(line) if "." in line else int(line)
        yield (number, 1) if sort_key is None else (line, number)

    with pytest.raises(JobFailed, match=r"keys of two kinds in one job: int .* and float"):
        run(map=emit, reduce="list", sort_key=sort_key, input=str(tmp_path / "numbers.txt"), split_size=2, reducers=8,
            workers=1, output=str(tmp_path / "out"), output_format="jsonl")  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"workers": 0}, "workers=0"),
        ({"workers": "2"}, "workers='2'"),
        ({"reducers": -1}, "reducers=-1"),
        ({"memory": "10MB"}, "memory='10MB'"),
        ({"memory": "1 parsec"}, "memory='1 parsec' is no size"),
        ({"split_size": "64XB"}, "split_size='64XB' is no size"),
        ({"split_size": 0}, "split_size=0"),
        ({"input": None}, "what to read is not said"),
        ({"input": []}, "what to read is not said"),
        ({"output": None}, "where to write is not said"),
        ({"output": ""}, "where to write is not said"),
        ({"map": None, "reduce": None}, "needs a job, or functions"),
        ({"job": "wordcount"}, "was given a job and map, reduce beside it"),
        ({"reduce": "summ"}, "summ"),
        ({"on_error": "ignore"}, "on_error"),
        ({"encoding": "klingon"}, "klingon"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    books: Path, tmp_path: Path, settings: dict[str, Any], complaint: str
) -> None:
    request = {"map": words, "reduce": "sum", "input": str(books), "output": str(tmp_path / "out"), **settings}

    with pytest.raises(UsageError) as refused:
        run(request.pop("job", None), **request)

    assert complaint in str(refused.value)
    assert left_in(tmp_path) == ["books"]


def test_a_missing_input_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        run(map=words, reduce="sum", input=str(tmp_path / "nowhere*"), output=str(tmp_path / "out"))

    assert left_in(tmp_path) == ["home"]
    assert left_in(tmp_path / "home" / "jobs") == []


@pytest.mark.parametrize("place", ["input", "output"])
def test_the_memory_of_one_process_is_no_place_for_a_job(books: Path, tmp_path: Path, place: str) -> None:
    places: dict[str, Any] = {"input": str(books), "output": str(tmp_path / "out"), place: "memory://bucket/words"}

    with pytest.raises(UsageError, match="memory://bucket/words lies in the memory of this process"):
        run(map=words, **places)


@pytest.mark.parametrize("place", ["input", "output", "files"])
def test_a_name_that_no_message_can_hold_is_refused(books: Path, tmp_path: Path, place: str) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9")
    path.touch()
    places: dict[str, Any] = {"input": str(books), "output": str(tmp_path / "out"), place: [str(path)]}
    places["output"] = str(path) if place == "output" else places["output"]

    with pytest.raises(UsageError, match="not valid UTF-8"):
        run(map=words, **places)


def test_an_output_that_exists_is_refused_and_kept(books: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("mine")

    with pytest.raises(OutputExists):
        run(map=words, reduce="sum", input=str(books), output=str(tmp_path / "out"))

    assert left_in(tmp_path / "out") == ["precious"]


@pytest.mark.parametrize(
    ("place", "complaint"),
    [(lambda books: books / "out", "inside the input"), (lambda books: books, "inside the output")],
)
def test_output_and_input_lie_apart(books: Path, place: Callable[[Path], Path], complaint: str) -> None:
    output = place(books)

    with pytest.raises(UsageError, match=complaint):
        run(map=words, reduce="sum", input=str(books / "*.txt" if output == books else books),
            output=str(output), overwrite=True)  # fmt: skip

    assert left_in(books) == ["anna.txt", "berta.txt", "carla.txt", "dora.txt"]


class Shelf(MemoryFileSystem):  # type: ignore[misc]
    """A store behind a URL."""

    protocol = "shelf"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("shelf://").strip("/")


@pytest.mark.parametrize(("output", "complaint"), [("in/out", "inside the input"), ("", "inside the output")])
def test_output_and_input_lie_apart_in_a_store_too(output: str, complaint: str) -> None:
    fsspec.register_implementation("shelf", Shelf)
    Shelf().pipe_file("/top/in/a.txt", b"a")

    with pytest.raises(UsageError, match=complaint):
        run(map=words, input="shelf://top/in", output=f"shelf://top/{output}", overwrite=True)

    assert Shelf().find("/top") == ["/top/in/a.txt"]


@pytest.mark.parametrize("name", ["logs", "parts", "spec.msgpack", "trace.log", "_quarantine", "_SUCCESS"])
def test_a_disk_that_is_full_for_the_smallest_file_is_named(
    name: str, books: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(real: Callable[..., Any]) -> Callable[..., Any]:
        def make(path: Any, *arguments: Any, **options: Any) -> Any:
            if os.path.basename(str(path)) == name and arguments != ("rb",):
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(path, *arguments, **options)

        return make

    def emit(key: Any, line: str) -> Pairs:
        yield 1 / (line != "the tale of dora"), 1

    monkeypatch.setattr(os, "mkdir", full(os.mkdir))
    monkeypatch.setattr("io.open", full(open))
    monkeypatch.setattr("builtins.open", full(open))
    with pytest.raises(StorageFull):
        run(map=emit, reduce="count", input=str(books), output=str(tmp_path / "out"), on_error="skip:9", workers=1)

    assert left_in(tmp_path) == ["books", "home"]


def test_a_full_disk_is_named_and_nothing_is_left(books: Path, tmp_path: Path) -> None:
    def fill(file: Any, key: Any, value: Any) -> None:
        import errno

        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises((StorageFull, JobFailed)) as failed:
        run(map=words, reduce="sum", write=fill, input=str(books), output=str(tmp_path / "out"), workers=1)

    assert left_in(tmp_path) == ["books", "home"]
    assert "space" in str(failed.value)


# -------------------------------------------------------------------------------------------------- what it does


def test_keys_between_stages_may_be_of_any_kinds(books: Path, tmp_path: Path) -> None:
    class Named:
        reduce = "sum"

        def map(self, key: Any, count: int) -> Pairs:
            yield repr(key), count

    class Lengths:
        def map(self, key: Any, line: str) -> Pairs:
            yield len(line) % 3, 1

        def reduce(self, key: int, ones: Iterator[int]) -> Pairs:
            count = sum(ones)
            yield from [(key, count), ("total", count), (None, 1)]

    Lengths.then = Named  # type: ignore[attr-defined]
    found = dict(run(Lengths, input=str(books), output=str(tmp_path / "out"), reducers=1).rows())

    kinds = found.pop("None")
    total = found.pop("'total'")
    assert (sorted(found), total) == ([str(key) for key in range(3)][:kinds], sum(found.values()))


def test_stages_follow_each_other_on_the_same_workers(books: Path, tmp_path: Path) -> None:
    class ByCount:
        reduce = "list"

        def map(self, word: str, count: int) -> Pairs:
            yield count, word

    result = run(
        map=words, reduce="sum", then=ByCount, input=str(books), output=str(tmp_path / "out"),
        output_format="jsonl", workers=2,
    )  # fmt: skip

    assert dict(result.rows())[20] == ["it"]
    assert left_in(tmp_path / "home" / "jobs" / result.job) == [
        "journal.log",
        "spec.msgpack",
        "stage-2",
        "status.json",
        "trace.log",
    ]


def test_a_range_partition_gives_a_total_order_over_all_parts(books: Path, tmp_path: Path) -> None:
    result = run(
        map=words,
        reduce="sum",
        partition="range",
        reducers=3,
        input=str(books),
        output=str(tmp_path / "out"),
        workers=2,
    )

    keys = [key for key, _ in result.rows()]
    assert len(result.parts) == 3
    assert keys == sorted(keys)
    assert all(result.partition_bytes)


def test_an_empty_input_gives_an_empty_output(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")

    result = run(map=words, reduce="sum", reducers=2, input=str(tmp_path / "empty.txt"), output=str(tmp_path / "out"))

    assert list(result.rows()) == []
    assert len(result.parts) == 2


def test_bad_records_go_into_quarantine_and_the_rest_is_counted(books: Path, tmp_path: Path) -> None:
    def strict(key: Any, line: str) -> Pairs:
        yield {"the": "tale", "it": "it"}[line.split()[0]], 1 // ("dora" not in line)

    result = run(map=strict, reduce="sum", input=str(books), output=str(tmp_path / "out"), on_error="skip:1", workers=1)

    assert dict(result.rows()) == {"it": 10, "tale": 3}
    assert [each.record.path for each in result.quarantined] == [str(books / "dora.txt")]
    assert "ZeroDivisionError" in result.quarantined[0].traceback
    assert "_quarantine" in left_in(tmp_path / "out")
