"""`onerack run` as a user's shell calls it: what the current directory means for the name of a job."""

from __future__ import annotations

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
