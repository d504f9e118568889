"""`onerack run` as a user's shell calls it: what the current directory means, and what goes where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CONSOLE_SCRIPT = "import sys; sys.path.pop(0); from onerack.cli.main import main; main()"
"""What pip installs as `onerack`: the current directory is not in its path."""


@pytest.mark.parametrize("name", ["package.job", "package.job:Lines", "package.job.Lines", "alone:Lines"])
def test_a_dotted_name_is_found_from_the_current_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "one.py").write_text("ONE = 1\n")
    lines = "class Lines:\n    reduce = 'sum'\n    def map(self, key, line):\n        yield line, ONE\n"
    (tmp_path / "package" / "job.py").write_text("from .one import ONE\n" + lines)
    (tmp_path / "alone.py").write_text("ONE = 1\n" + lines)
    (tmp_path / "in.txt").write_text("a\nb\na\n")

    done = subprocess.run(
        [sys.executable, "-c", CONSOLE_SCRIPT, "run", name, "in.txt", "--out", "out", "--reduces", "1", "--quiet"],
        cwd=tmp_path, env={**os.environ, "ONERACK_HOME": str(tmp_path / "home")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "part-00000").read_text() == "a\t2\nb\t1\n"


def test_what_a_job_file_prints_is_no_part_of_the_answer(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("print('loading a model')\ndef map(key, line): yield line, 1\n")
    (tmp_path / "in.txt").write_text("a\n")

    done = subprocess.run(
        [sys.executable, "-c", CONSOLE_SCRIPT, "run", "job.py", "in.txt", "--out", "out", "--json"],
        cwd=tmp_path, env={**os.environ, "ONERACK_HOME": str(tmp_path / "home")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert json.loads(done.stdout)["state"] == "done"
    assert "loading a model" in done.stderr
