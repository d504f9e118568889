"""Unions of ranges: whether one holds a range, compared with trying each key."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onerack.kv.core.permissions import READ, READ_WRITE, WRITE, Cover, Rights
from onerack.kv.core.store import EVERYTHING, End

ALPHABET = b"abc"
KEYS = [bytes(letters) for size in (1, 2) for letters in product(ALPHABET, repeat=size)]
ends = st.sampled_from([None, EVERYTHING, *KEYS, b"d"])
Range = tuple[bytes, End]
ranges = st.tuples(st.sampled_from(KEYS), ends)


def inside(key: bytes, begin: bytes, end: End) -> bool:
    return key == begin if end is None else key >= begin and (end == EVERYTHING or key < end)


@given(st.lists(ranges, max_size=5), ranges)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_a_range_is_held_only_if_each_of_its_keys_is(
    granted: list[tuple[bytes, End]], asked: tuple[bytes, End]
) -> None:
    if Cover(granted).holds(*asked):
        assert all(any(inside(key, *one) for one in granted) for key in KEYS if inside(key, *asked))


def test_neighbours_together_hold_what_none_of_them_holds_alone() -> None:
    cover = Cover([(b"a", b"b"), (b"b", b"c"), (b"c", None), (b"x", EVERYTHING), (b"y", b"z")])
    assert cover.holds(b"a", b"c\0")
    assert cover.holds(b"zz", EVERYTHING)
    assert not cover.holds(b"a", b"d")
    assert not cover.holds(b"a", EVERYTHING)
    assert not cover.holds(b"A", None)


def test_a_range_without_end_is_held_only_by_one_without_end() -> None:
    assert not Cover([(b"a", b"\xff\xff\xff")]).holds(b"b", EVERYTHING)
    assert Cover([(b"a", EVERYTHING)]).holds(b"b", EVERYTHING)


@pytest.mark.parametrize(
    ("kind", "reads", "writes"), [(READ, True, False), (WRITE, False, True), (READ_WRITE, True, True)]
)
def test_kinds_of_permission(kind: int, reads: bool, writes: bool) -> None:
    rights = Rights([(b"a", b"\0", kind)])
    assert (rights.may_read(b"b", None), rights.may_write(b"b", EVERYTHING)) == (reads, writes)


def test_everything_is_granted_from_the_smallest_key_on_and_without_a_key_nothing() -> None:
    assert Rights([(b"\0", b"\0", READ)]).may_read(b"\0", EVERYTHING)
    for end in (b"\0", b"\xff", b""):
        assert not Rights([(b"", end, READ_WRITE)]).may_read(b"\0", None)
        assert not Rights([(b"", end, READ_WRITE)]).may_write(b"a", None)
