"""The command line that all peer programs share: `PROGRAM CASE INPUT OUTPUT [--workers N] [PATTERN]`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """What a peer is asked to do."""

    source: Path
    """A file, or a folder of documents."""
    target: Path
    """An existing, empty folder for the result."""
    workers: int
    pattern: str


def main(cases: Mapping[str, Callable[[Task], None]]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=sorted(cases))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--pattern", default="")
    options = parser.parse_args()
    options.target.mkdir(parents=True, exist_ok=True)
    cases[options.case](Task(options.source, options.target, options.workers, options.pattern))


def spans(path: Path, size: int) -> list[tuple[str, int, int]]:
    """Byte ranges of about `size` that end at line ends: (path, start, length)."""
    found: list[tuple[str, int, int]] = []
    total = path.stat().st_size
    with path.open("rb") as file:
        start = 0
        while start < total:
            file.seek(min(start + size, total))
            file.readline()
            found.append((str(path), start, file.tell() - start))
            start = file.tell()
    return found


def read_span(span: tuple[str, int, int]) -> bytes:
    path, start, length = span
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(length)
