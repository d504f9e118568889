"""Portions: everything comes, in order, and no more of it at once than memory likes."""

from __future__ import annotations

from collections.abc import Iterator

from onerack.mapreduce.worker.portions import PAIRS_FIRST, PAIRS_MAX, Portions


def emitted(count: int, text: str) -> Iterator[tuple[int, str]]:
    for number in range(count):
        yield number, text + str(number)


def test_small_pairs_come_by_thousands() -> None:
    portions = list(Portions().of(emitted(10_000, "x")))

    assert [pair for portion in portions for pair in portion] == list(emitted(10_000, "x"))
    assert len(portions[0]) == PAIRS_FIRST
    assert max(map(len, portions)) == PAIRS_MAX
    assert len(portions) < 12


def test_large_pairs_come_by_few() -> None:
    text = "x" * 1_000_000
    sizes = [len(portion) for portion in Portions().of(emitted(100, text))]

    assert sum(sizes) == 100
    assert max(sizes) <= PAIRS_FIRST
    assert max(sizes[1:]) <= 4


def test_the_size_is_remembered_from_one_stream_to_the_next() -> None:
    portions = Portions()
    assert len(list(portions.of(emitted(10_000, "x")))) > 4

    assert [len(portion) for portion in portions.of(emitted(3_000, "x"))] == [PAIRS_MAX, 3_000 - PAIRS_MAX]
