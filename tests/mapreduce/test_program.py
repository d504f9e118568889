"""Programs: how a job travels, and what a user is told when it cannot."""

from __future__ import annotations

import linecache
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onerack.errors import UsageError
from onerack.mapreduce.context import TaskContext, running
from onerack.mapreduce.job import Job
from onerack.mapreduce.messages import AttemptId, Program
from onerack.mapreduce.program import load, load_stages, program_of
from tests.mapreduce.sequential_run import function_job

JOB_FILE = """
import helper_of_job
from onerack.mapreduce import Job

class Second(Job):
    def map(self, key, value):
        yield key, value

class First(Job):
    then = Second
    reduce = "sum"
    def map(self, key, value):
        yield helper_of_job.lower(value), 1
"""


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    (tmp_path / "helper_of_job.py").write_text("def lower(text): return text.lower()\n")
    path = tmp_path / "words.py"
    path.write_text(JOB_FILE)
    return path


@pytest.fixture(autouse=True)
def _sys_path_as_before() -> Iterator[None]:
    before, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if name.startswith(("onerack_job_", "helper_of_job", "package_of_jobs")):
            del sys.modules[name]


def file_with(tmp_path: Path, source: str, name: str = "job.py") -> str:
    path = tmp_path / name
    path.write_text(source)
    return str(path)


def refused(job: Any, *arguments: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(program_of(job, arguments))
    return str(caught.value)


def travelled(program: Program) -> Program:
    """The program behind a wire."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(program), type=Program)


def test_a_job_file_travels_as_its_source(job_file: Path) -> None:
    program = program_of(str(job_file))
    job_file.write_text("raise SystemExit")

    job = load(travelled(program))

    assert program.form == "source"
    assert (job.name, job.reduce) == ("First", "sum")
    assert list(job.map(0, "A")) == [("a", 1)]


def test_stages_are_counted_from_the_first(job_file: Path) -> None:
    program = program_of(job_file)

    assert [stage.name for stage in load_stages(program)] == ["First", "Second"]
    assert load(program, 1).name == "Second"
    with pytest.raises(UsageError, match="2 stages"):
        load(program, 2)


def test_one_class_of_a_file(job_file: Path) -> None:
    assert load(program_of(f"{job_file}:Second")).name == "Second"
    message = refused(f"{job_file}:Third")
    assert "words.py has no job Third" in message
    assert "Second, First" in message


def test_a_file_with_functions_is_a_job(tmp_path: Path) -> None:
    path = file_with(tmp_path, "def map(key, value):\n    yield value, 1\nreduce = 'sum'\n", "count.py")

    job = load(program_of(path))

    assert (job.name, job.reduce) == ("count", "sum")


def test_a_job_file_may_bear_the_name_of_a_library(tmp_path: Path) -> None:
    path = file_with(tmp_path, "import json\ndef map(key, value):\n    yield json.dumps(value), 1\n", "json.py")

    assert list(load(program_of(path)).map(0, [1])) == [("[1]", 1)]


def test_several_classes_must_be_told_apart(tmp_path: Path) -> None:
    source = "class A:\n    def map(self, k, v): pass\nclass B:\n    def map(self, k, v): pass\n"
    message = refused(file_with(tmp_path, source))

    assert "several jobs: A, B" in message
    assert "job.py:A" in message
    assert "no job" in refused(file_with(tmp_path, "x = 1", "other.py"))


def test_a_syntax_error_shows_the_line(tmp_path: Path) -> None:
    path = file_with(tmp_path, "def map(key, value):\n    yield value,, 1\n")

    message = refused(path)

    assert f'File "{path}", line 2' in message
    assert "yield value,, 1" in message
    assert "^" in message
    assert "SyntaxError" in message


def test_a_file_that_fails_shows_its_own_traceback(tmp_path: Path) -> None:
    path = file_with(tmp_path, "def check():\n    raise ValueError('not today')\ncheck()\n")

    message = refused(path)

    assert "job.py failed while it was loaded" in message
    assert "raise ValueError('not today')" in message
    assert "program.py" not in message
    assert "sys.exit" not in message


@pytest.mark.parametrize("source", ["import sys\nsys.exit(3)", "raise KeyError(1)"])
def test_a_file_that_failed_is_no_module(source: str, tmp_path: Path) -> None:
    refused(file_with(tmp_path, source, "broken.py"))

    assert "onerack_job_broken" not in sys.modules


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "latin.py"
    path.write_bytes("# coding: latin-1\ndef map(key, value):\n    yield 'é', 1\n".encode("latin-1"))
    assert list(load(program_of(path)).map(0, 0)) == [("é", 1)]

    path.write_bytes("def map(key, value):\n    yield 'é', 1\n".encode("latin-1"))
    assert "latin.py" in refused(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "there is no such job file" in refused(str(tmp_path / "job.py"))
    assert "cannot be read" in refused(str(_folder(tmp_path / "folder.py")))


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_dotted_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = _folder(tmp_path / "package_of_jobs")
    (package / "__init__.py").touch()
    (package / "words.py").write_text(JOB_FILE.replace("import helper_of_job", ""))
    (package / "broken.py").write_text("import nothing_like_it")
    monkeypatch.syspath_prepend(str(tmp_path))

    for name in ("package_of_jobs.words", "package_of_jobs.words:First", "package_of_jobs.words.First"):
        program = program_of(name)
        assert program.form == "dotted"
        assert load(travelled(program)).name == "First"
    assert "no job Nope" in refused("package_of_jobs.words.Nope")
    assert "nothing_like_it" in refused("package_of_jobs.broken")
    assert "no_such_package" in refused("no_such_package.words")


def test_a_name_that_means_nothing_says_what_could_be_meant() -> None:
    message = refused("wordcuont")

    assert "no job 'wordcuont'" in message
    assert "wordcount" in message
    assert "job.py[:Class]" in message


def test_a_builtin(tmp_path: Path) -> None:
    program = program_of("grep", ["error"])

    job = load(travelled(program))

    assert program == Program("builtin", "grep", arguments=("error",))
    assert job.name == "grep"
    assert job.fresh().source is not job.source


def test_arguments_are_for_builtins(job_file: Path) -> None:
    assert "takes no arguments" in refused(str(job_file), "x")
    assert "arguments" in refused(function_job(map=lambda key, value: ()), "x")


# ---------------------------------------------------------------------------------------------- objects


class Grep(Job):
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.hits = 0

    def map(self, key: Any, value: str) -> Iterator[tuple[str, int]]:
        self.hits += 1
        if self.pattern in value:
            yield value, self.hits


def test_functions_and_objects_travel_as_pickles() -> None:
    program = program_of(function_job(map=lambda key, value: [(value * 2, 1)], reduce="sum"))

    assert program.form == "pickle"
    assert list(load(travelled(program)).map(0, "a")) == [("aa", 1)]
    assert list(load(travelled(program_of(Grep("x")))).map(0, "xy")) == [("xy", 1)]


def test_every_attempt_gets_the_object_as_it_was_sent() -> None:
    job = load(travelled(program_of(Grep("x"))))

    assert [list(job.fresh().map(0, "x")) for _ in range(2)] == [[("x", 1)], [("x", 1)]]


def test_a_chain_of_objects() -> None:
    first = Grep("x")
    first.then = [Grep("y"), function_job(map=lambda key, value: [(value, 1)])]
    program = travelled(program_of(first))

    assert list(load(program, 1).fresh().map(0, "y")) == [("y", 1)]
    assert list(load(program, 2).fresh().map(0, "z")) == [("z", 1)]


def test_what_cannot_be_sent_is_named_with_the_remedy() -> None:
    lock = threading.Lock()

    message = refused(function_job(map=lambda key, value: lock))

    assert "lock" in message
    assert "setup()" in message


def test_a_job_is_checked_before_it_is_sent() -> None:
    assert "no map" in refused(3)
    assert "topk:N" in refused(function_job(map=lambda key, value: (), reduce="topk"))


def test_a_running_script_cannot_be_its_own_job() -> None:
    assert "its own job" in refused(sys.modules["__main__"])


def test_a_job_file_that_runs_itself_is_stopped(tmp_path: Path) -> None:
    source = (
        "from onerack.mapreduce.program import program_of\n"
        "def map(key, value):\n    yield value, 1\n"
        "program_of(__file__)\n"
    )

    message = refused(file_with(tmp_path, source, "loop.py"))

    assert "if __name__ == '__main__':" in message
    assert message.count("Traceback") == 1


def test_a_task_cannot_run_a_job() -> None:
    with running(TaskContext(AttemptId("j", "map", 0, 1))), pytest.raises(UsageError, match="inside a task"):
        program_of("wordcount")


def test_functions_of_a_script_without_a_guard(tmp_path: Path) -> None:
    """The script sends its functions, and another process runs them without running the script."""
    script = file_with(
        tmp_path,
        "import sys\n"
        "from types import SimpleNamespace\n"
        "from onerack.mapreduce.program import program_of\n"
        "import msgspec\n"
        "print('script runs', file=sys.stderr)\n"
        "def words(key, value):\n    yield value, helper(value)\n"
        "def helper(value):\n    return len(value)\n"
        "sys.stdout.buffer.write(msgspec.msgpack.encode(program_of(SimpleNamespace(map=words, job_name='words'))))\n",
        "script.py",
    )
    sent = subprocess.run([sys.executable, script], capture_output=True, check=True)

    job = load(msgspec.msgpack.decode(sent.stdout, type=Program))

    assert list(job.map(0, "abc")) == [("abc", 3)]
    assert job.name == "words"


def test_lines_of_a_notebook_travel_along() -> None:
    """What exists in this process only must show in tracebacks of another."""
    cell = "<cell-7>"
    source = "def words(key, value):\n    raise ValueError('in the cell')\n"
    linecache.cache[cell] = (len(source), None, source.splitlines(keepends=True), cell)
    names: dict[str, Any] = {}
    exec(compile(source, cell, "exec"), names)
    program = program_of(function_job(map=names["words"]))
    del linecache.cache[cell]

    load(travelled(program))

    assert linecache.getline(cell, 2) == "    raise ValueError('in the cell')\n"


def test_the_search_path_travels_without_what_is_there_already(tmp_path: Path) -> None:
    program = program_of(function_job(map=lambda key, value: ()))
    program = msgspec.structs.replace(program, search_path=(str(tmp_path), *program.search_path))
    before = list(sys.path)

    load(program)

    assert sys.path[0] == str(tmp_path)
    assert [folder for folder in sys.path if folder in before] == before
    assert all(os.path.isabs(folder) for folder in program.search_path)


def test_functions_that_refer_to_too_much_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onerack.mapreduce.program.PAYLOAD_BYTES_MAX", 100_000)
    table = bytes(200_000)

    def each(key: Any, line: str) -> Any:
        yield table[len(line)], 1

    with pytest.raises(UsageError, match=r"at most 97.7 KB go to the workers"):
        program_of(function_job(map=each, reduce="sum"))
