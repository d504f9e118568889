"""How much memory objects take: what is inside of them counts, and asking is cheap."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from onerack.mapreduce.footprint import footprint

TEXT = "x" * 10_000


@pytest.mark.parametrize(
    "value",
    [
        TEXT,
        (1, TEXT),
        [TEXT],
        {"text": TEXT},
        {TEXT: 1},
        {TEXT},
        frozenset({TEXT}),
        {"a": [{"b": (None, TEXT)}]},
        SimpleNamespace(text=TEXT),
    ],
    ids=str,
)
def test_what_lies_inside_is_counted(value: Any) -> None:
    assert 10_000 < footprint([value]) < 11_000
    assert 20_000 < footprint([value, value]) < 22_000


def test_some_objects_stand_for_all() -> None:
    assert footprint([]) == 0
    assert footprint([7] * 1_000_000) == 1_000_000 * sys.getsizeof(7)
    assert 7_000_000 < footprint([list(range(1_000, 1_200))] * 1_000) < 7_500_000


def test_asking_ends_however_deep_and_wide_the_object() -> None:
    endless: list[Any] = []
    endless += [endless] * 100
    tree: Any = 1
    for _ in range(12):
        tree = [tree] * 12

    assert footprint([endless]) > 0
    assert footprint([tree]) > 0
