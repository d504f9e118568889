"""Golden stories: what is said to a core, line by line, and below each line what it answered when a person read it.

    # a comment
    command
    ----
    answer

The rule: what happens today must be what stands there. `ONERACK_REWRITE_STORIES=1` writes today's answers into the
files, to be read line by line before they are kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def retell(text: str, obey: Callable[[str], list[str]]) -> str:
    """The same story with the answers of today: `obey` does what a line says."""
    told: list[str] = []
    in_answer = False
    for line in text.splitlines():
        if line == "----":
            continue
        if not line.strip():
            in_answer = False
            told.append("")
        elif line.startswith("#"):
            told.append(line)
        elif not in_answer:
            told += [line, "----", *obey(line)]
            in_answer = True
    return "\n".join(told).rstrip() + "\n"


def check_story(path: Path, retold: Callable[[str], str]) -> None:
    text = path.read_text(encoding="utf-8")
    told = retold(text)
    if os.environ.get("ONERACK_REWRITE_STORIES"):
        path.write_text(told, encoding="utf-8")
    assert told == text
