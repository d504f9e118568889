"""Who is interested in a key, compared with asking everybody."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from onerack.kv.core.ranges import Interest
from onerack.kv.core.store import EVERYTHING, End

KEYS = [b"a", b"aa", b"b", b"c", b"d"]
begins = st.sampled_from(KEYS)


@st.composite
def ranges(draw: Any) -> tuple[bytes, End]:
    begin = draw(begins)
    return begin, draw(st.sampled_from([None, EVERYTHING, *[key for key in [*KEYS, b"e"] if key > begin]]))


def inside(key: bytes, begin: bytes, end: End) -> bool:
    return key == begin if end is None else key >= begin and (end == EVERYTHING or key < end)


@given(st.lists(st.tuples(ranges(), st.integers(0, 9)), max_size=12))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_everybody_is_found_whose_range_holds_the_key(steps: list[tuple[tuple[bytes, End], int]]) -> None:
    interest: Interest[int] = Interest()
    known: dict[int, tuple[bytes, End]] = {}
    for number, (one, victim) in enumerate(steps):
        interest.add(number, *one)
        known[number] = one
        if victim in known:
            interest.remove(victim, *known.pop(victim))
        assert bool(interest) == bool(known)
        for key in [b"0", *KEYS, b"bb", b"z"]:
            found = list(interest.of(key))
            assert len(found) == len(set(found))
            assert set(found) == {who for who, asked in known.items() if inside(key, *asked)}
    for who, asked in list(known.items()):
        interest.remove(who, *asked)
    assert not interest
    assert len(interest._segments) == len(interest._begins) == 1, "what nobody needs is joined again"
