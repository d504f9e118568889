"""The examples run, on real input: the standard library's own files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from onerack.cli.main import execute

EXAMPLES = Path(__file__).parent.parent / "examples"
LIBRARY = Path(sysconfig.get_path("stdlib"))


@pytest.fixture(autouse=True)
def _own_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONERACK_HOME", str(tmp_path / "home"))


def rows(folder: Path) -> list[list[str]]:
    """The rows of a TSV output, in order of its parts."""
    parts = sorted(folder.glob("part-*"))
    assert (folder / "_SUCCESS").exists()
    return [line.split("\t") for part in parts for line in part.read_text(encoding="utf-8").splitlines()]


def run_example(name: str, out: Path, *words: str) -> None:
    assert execute(["run", str(EXAMPLES / name), *words, "--out", str(out), "--workers", "2", "--quiet"]) == 0


def test_wordcount(tmp_path: Path) -> None:
    book = LIBRARY / "argparse.py"
    run_example("wordcount.py", tmp_path / "counts", str(book))
    expected = Counter(book.read_text(encoding="utf-8").split())
    counts = {word.replace("\\\\", "\\"): int(count) for word, count in rows(tmp_path / "counts")}
    assert counts == expected


def test_page_rank(tmp_path: Path) -> None:
    run_example("page_rank.py:Links", tmp_path / "ranks", str(LIBRARY / "[a-d]*.py"))
    ((key, best),) = rows(tmp_path / "ranks")
    ranked = json.loads(best)
    assert key == "best"
    assert len(ranked) == 10
    assert ranked == sorted(ranked, reverse=True)
    assert "sys" in [module for _, module in ranked[:3]]


def test_longest_functions(tmp_path: Path) -> None:
    run_example("longest_functions.py", tmp_path / "longest", str(LIBRARY / "argparse.py"), str(LIBRARY / "token.py"))
    parts = sorted((tmp_path / "longest").glob("part-*"))
    found = [json.loads(line) for part in parts for line in part.read_text(encoding="utf-8").splitlines()]
    longest = {row["key"]: row["value"] for row in found}
    assert set(longest) == {"argparse.py", "token.py"}
    lengths = [lines for lines, _ in longest["argparse.py"]]
    assert len(lengths) == 3
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > 50


def test_bad_records(tmp_path: Path) -> None:
    import token

    run_example("bad_records.py", tmp_path / "tokens")
    numbers = {name: int(number) for name, number in rows(tmp_path / "tokens")}
    assert numbers["NAME"] == token.NAME
    kept = [
        json.loads(line)
        for path in sorted((tmp_path / "tokens" / "_quarantine").iterdir())
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    bad = [line for line in Path(token.__file__).read_text().splitlines() if line.strip() and not is_token(line)]
    assert len(kept) == len(bad) > 10
    assert any("ValueError" in record["traceback"] for record in kept)


def is_token(line: str) -> bool:
    number = line.partition(" = ")[2]
    return number.strip().isdigit() and " = " not in number


def run_script(name: str, home: Path, *words: str) -> list[str]:
    """The lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *words],
        env={**os.environ, "ONERACK_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_notebook(tmp_path: Path) -> None:
    lines = run_script("notebook.py", tmp_path, str(LIBRARY / "textwrap.py"))
    assert len(lines) == 10
    means = [float(line.split()[1]) for line in lines]
    assert means == sorted(means, reverse=True)


def test_rpc_hello(tmp_path: Path) -> None:
    assert run_script("rpc_hello.py", tmp_path) == ["Hello, world! Hello, world!", "not executed bad_arguments"]


def test_rpc_streams(tmp_path: Path) -> None:
    lines = run_script("rpc_streams.py", tmp_path, str(LIBRARY / "textwrap.py"))
    count = len((LIBRARY / "textwrap.py").read_text().splitlines())
    assert lines[-1] == f"{count + 1}: the end"


def test_bank(tmp_path: Path) -> None:
    lines = run_script("bank.py", tmp_path, "--kills", "3")
    assert [line.split(":")[0] for line in lines[:3]] == ["kill  1", "kill  2", "kill  3"]
    assert [line.split()[0] for line in lines[-5:]] == ["yes"] * 5


def test_prove_counter(tmp_path: Path) -> None:
    lines = run_script("prove_counter.py", tmp_path, "10")
    assert lines[0].startswith("200 calls, ")
    assert "HastyCounter.add was executed 2 times, but at most once is allowed (exactly_once)" in lines[2]
    assert lines[-1].startswith("  again: seed=")


def test_counter(tmp_path: Path) -> None:
    lines = run_script("counter.py", tmp_path)
    assert [line.rpartition(" ")[2] for line in (*lines[:3], *lines[4:])] == ["1", "11", "111", "1111", "1111"]
    assert lines[3].endswith("and is lost now")


@pytest.mark.soak
def test_bank_whose_server_is_killed_a_hundred_times(tmp_path: Path) -> None:
    run_script("bank.py", tmp_path, "--kills", "100", "--clients", "8")


def test_every_example_is_run_here() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert {f"test_{name}" for name in names} <= set(globals())
