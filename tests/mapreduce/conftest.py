"""What all tests of mapreduce share: a home of their own for jobs, and some text to work on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The jobs directory's place, so that no test leaves traces in the user's own."""
    path = tmp_path / "home"
    monkeypatch.setenv("ONERACK_HOME", str(path))
    return path


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """A folder of four small texts; with `split_size=64` each is one map task."""
    folder = tmp_path / "books"
    folder.mkdir()
    for number, name in enumerate(("anna", "berta", "carla", "dora")):
        (folder / f"{name}.txt").write_text(f"the tale of {name}\n" + "it was it\n" * (number + 1))
    return folder


@pytest.fixture
def word_counts(books: Path) -> dict[str, int]:
    """The words of `books`, counted by a plain loop."""
    return dict(Counter(word for path in books.iterdir() for word in path.read_text().split()))
