"""Brings each engine's output into one canonical form and hashes it, so that results are equal before times count.

The idea: engines differ in the order of their rows and the number of their files, never in the rows. So lines of all
files are sorted as bytes by GNU sort and hashed. Where order *is* the result (a sort), files are hashed one after
the other as they are.

The rule: nothing is normalised away that a user could mistake for the answer.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from pathlib import Path


def output_files(directory: Path) -> list[Path]:
    """The files of a result in order of their names; those that begin with a dot or `_` are not results."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name[0] not in "._"]
    return [path for path in files if path.stat().st_size]


def as_sorted_lines(directory: Path, escaped: bool) -> str:
    """sha256 of all lines, sorted as bytes; `escaped` says that the engine wrote a backslash as two."""
    return sorted_hash(f"{lines_of(directory, escaped)} | sort")


def as_index(directory: Path, escaped: bool) -> str:
    """sha256 of an inverted index: `word TAB documents`, whose documents may be separated by spaces or a JSON list."""
    # A JSON list of names without blanks or quotes differs from a list by spaces only in these characters; they are
    # replaced after the first tab alone, since words of source text contain all of them.
    program = r"""{ i = index($0, "\t"); names = substr($0, i + 1); gsub(/["\[\],]+/, " ", names);
      gsub(/^ +| +$/, "", names); gsub(/  +/, " ", names); print substr($0, 1, i) names }"""
    return sorted_hash(f"{lines_of(directory, escaped)} | awk '{program}' | sort")


def lines_of(directory: Path, escaped: bool) -> str:
    """A shell command that prints all lines of a result, escapes undone: TSV here knows `\\`, `\t` and `\n`, and no
    word or line of a corpus contains a tab or a line end, so only the first occurs."""
    files = " ".join(shlex.quote(str(path)) for path in output_files(directory)) or "/dev/null"
    return rf"sed 's/\\\\/\\/g' {files}" if escaped else f"cat {files}"


def as_is(directory: Path, escaped: bool) -> str:
    """sha256 of the files one after the other: order counts."""
    assert not escaped
    total = hashlib.sha256()
    for path in output_files(directory):
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                total.update(block)
    return total.hexdigest()[:16]


def nothing(directory: Path, _: bool) -> str:
    """For cases whose output is not their point: only that there is one."""
    return "some" if output_files(directory) else "none"


def sorted_hash(pipeline: str) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    command = ["bash", "-c", f"set -o pipefail; {pipeline}"]
    total = hashlib.sha256()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        while block := process.stdout.read(1 << 20):
            total.update(block)
    if process.returncode != 0:
        raise RuntimeError(f"sorting a result failed with exit code {process.returncode}")
    return total.hexdigest()[:16]


def result_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in output_files(directory))
