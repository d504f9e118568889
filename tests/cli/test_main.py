"""The command `onerack` itself: help, version, mistakes, and how little it imports to answer."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import onerack
from onerack.cli import main
from onerack.errors import JobInterrupted, UsageError

COMMANDS = ["run", "history", "show", "debug", "demo", "rpc describe", "rpc explain", "rpc call", "rpc health"]


@pytest.fixture(autouse=True)
def _own_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONERACK_HOME", str(tmp_path / "home"))


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.execute(["--version"]) == 0
    assert capsys.readouterr().out == f"onerack {onerack.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.execute([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: onerack {command}" in shown
    assert f"\n    onerack {command}" in shown.partition("Examples:")[2]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from onerack.cli.main import execute; execute(['--help'])\n"
        "heavy = {'numpy', 'pyarrow', 'rich', 'msgspec', 'fsspec', 'asyncio', 'onerack.mapreduce'}\n"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "JOB"),
        (["rnu"], "rnu"),
        (["run", "wordcount", "--reducers", "3"], "--reduce"),
        (["run", "wordcount", "--reduces", "many"], "--reduces"),
        (["run", "wordcount", "--workers", "0"], "--workers"),
        (["show", "no-such-job"], "no-such-job"),
        (["run", "wordcuont", "x"], "did you mean 'wordcount'?"),
        (["run", "xyz", "x"], "wordcount"),
        (["run", "no/such/job.py", "x"], "no/such/job.py"),
        (["run", "wordcount", "no-such-file", "--out", "o"], "no-such-file"),
        (["run", "wordcount", "x", "--out", "o", "--input-format", "fixed"], "fixed:100"),
        (["run", "wordcount", "x", "--out", "o", "--output-format", "tsv:rar"], "tsv:gzip"),
        (["run", "wordcount", "-i", "x", "--out", "o"], "-i: only the job grep"),
        (["run", "grep", "(", "x", "--out", "o"], "grep"),
        (["run", "wordcount"], "after the job"),
        (["run", "grep", "a", "x", "--out", "o", "--reduces", "2"], "grep has no reduce"),
        (["run", "grep", "a", "x", "--out", "o", "--output-format", "jsonl"], "grep writes text only"),
        (["run", "sort", "x", "--out", "o", "--reduces", "0"], "needs at least one reduce partition"),
        (["run", "wordcount", "x", "--out", "o", "--input-format", "parquet"], "not parquet"),
        (["run", "terasort", "x", "--out", "o", "--input-format", "text"], "terasort reads fixed"),
        (["run", "terasort", "x", "--out", "o", "--output-format", "jsonl"], "terasort writes fixed only"),
        (["run", "teragen", "--out", "o"], "ROWS"),
        (["run", "teragen", "5", "x", "--out", "o"], "reads nothing"),
        (["run", "wordcount", "x", "--out", "o", "--split-size", "64MX"], "64MX"),
        (["run", "wordcount", "x", "--out", "o", "--on-error", "ignore"], "skip:N"),
    ],
)
def test_a_mistake_is_named_and_ends_with_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.execute(words) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""
    assert "Traceback" not in shown.err

    assert main.execute([*words, "--json"]) == 2
    shown = capsys.readouterr()
    described = json.loads(shown.out)
    assert described["exit_code"] == 2
    assert said in described["error"]


def test_debug_needs_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.execute(["debug", "last"]) == 2
    assert "--task" in capsys.readouterr().err


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise JobInterrupted("the job was stopped; no output was left")

    monkeypatch.setattr(main, "app", interrupted)
    assert main.execute(["demo"]) == 130
    assert "no output was left" in capsys.readouterr().err


def test_main_ends_the_process_with_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise UsageError("no")

    monkeypatch.setattr(main, "app", refused)
    with pytest.raises(SystemExit) as ended:
        main.main(["demo"])
    assert ended.value.code == 2


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(main, "app", broken)
    with pytest.raises(ZeroDivisionError):
        main.execute(["demo", "--json"])
    assert json.loads(capsys.readouterr().out)["kind"] == "ZeroDivisionError"


def test_a_reader_that_goes_away_is_no_error_of_ours() -> None:
    code = "import sys; from onerack.cli.main import main; main(['run', '--help'])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("words", [["--help"], ["run", "wordcount", "nowhere", "--json"]])
def test_a_full_disk_under_the_output_is_one_message(words: list[str], tmp_path: Path) -> None:
    program = "from onerack.cli.main import main; main()"
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", program, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (ended.returncode, ended.stderr) == (1, "onerack: no space left on the disk that holds standard output\n")


def test_an_interruption_before_anything_is_imported_ends_quietly() -> None:
    program = """
import importlib.abc, sys
from onerack.cli.__main__ import main

class Impatient(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "typer":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Impatient())
main()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_error(closed: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a b a")
    program = shlex.quote("from onerack.cli.main import main; main()")
    command = f"{shlex.quote(sys.executable)} -c {program} run wordcount text --out counts {closed}"

    ended = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False)
    assert sorted(os.listdir(tmp_path / "counts"))[0] == "_SUCCESS"


def test_what_the_terminal_cannot_say_fails_no_job(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a b a")
    program = "from onerack.cli.main import main; main()"
    words = ["run", "wordcount", "text", "--out", "caf\xe9", "--reduces", "2"]

    ended = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert r"caf\xe9/part-00000 \u2026 part-00001" in ended.stdout
