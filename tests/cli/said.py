"""What a command line printed, and its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from onerack.cli.main import execute


class Said:
    """Of one command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        (line,) = self.out.splitlines()
        return json.loads(line)


Say = Callable[..., Said]


def sayer(capfd: pytest.CaptureFixture[str], *first: str) -> Say:
    """Runs command lines that begin with these words."""

    def say(*words: str) -> Said:
        code = execute([*first, *words])
        captured = capfd.readouterr()
        return Said(code, captured.out, captured.err)

    return say
