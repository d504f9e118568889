"""Who is interested in a key: watchers of single keys, and of ranges.

    |----a----|                      ranges
         |-------b-------|
    [  a ][ a,b][    b   ][ nobody   segments: to each key belongs exactly one

The idea: a single key is found in a dictionary. Ranges cut the line of all keys into segments, and each segment knows
its watchers, so that one bisection finds all that contain a key. To add a range cuts at most two segments, and adds
to those between. Plain lists hold them: to make room in one costs less than a tree, up to a hundred thousand ranges.

The rule: the answer comes in an order that only depends on the order in which watchers were added.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Generic, TypeVar

from onerack.kv.core.store import EVERYTHING, End

_Who = TypeVar("_Who")


class Interest(Generic[_Who]):
    """Finds by a key everybody who has asked for it."""

    def __init__(self) -> None:
        self._exact: dict[bytes, dict[_Who, None]] = {}
        self._begins: list[bytes] = [b""]
        """First keys of the segments, in order; a segment ends where the next one begins."""
        self._segments: list[dict[_Who, None]] = [{}]
        """Who is interested in the segment of the same place."""
        self._ranges: dict[tuple[bytes, bytes], int] = {}
        """How many have asked for just this range."""

    def __bool__(self) -> bool:
        return bool(self._exact or self._ranges)

    def add(self, who: _Who, key: bytes, end: End) -> None:
        """Requires: `who` is not in here."""
        if end is None:
            self._exact.setdefault(key, {})[who] = None
            return
        self._ranges[key, end] = self._ranges.get((key, end), 0) + 1
        for segment in self._between(key, end):
            segment[who] = None

    def remove(self, who: _Who, key: bytes, end: End) -> None:
        """Requires: `who` was added with the same key and end."""
        if end is None:
            watchers = self._exact[key]
            del watchers[who]
            if not watchers:
                del self._exact[key]
            return
        for segment in self._between(key, end):
            del segment[who]
        self._ranges[key, end] -= 1
        if not self._ranges[key, end]:
            del self._ranges[key, end]
            self._join(key)
            if end != EVERYTHING:
                self._join(end)

    def of(self, key: bytes) -> Iterable[_Who]:
        """Everybody who is interested in this key."""
        exact = self._exact.get(key, ())
        if not self._ranges:
            return exact
        segment = self._segments[bisect_right(self._begins, key) - 1]
        return (*exact, *segment) if exact else segment

    def _between(self, key: bytes, end: bytes) -> list[dict[_Who, None]]:
        """The segments that together are the range, cut out where they were not."""
        first = self._cut(key)
        last = len(self._begins) if end == EVERYTHING else self._cut(end)
        return self._segments[first:last]

    def _cut(self, key: bytes) -> int:
        """The place of the segment that begins here."""
        place = bisect_left(self._begins, key)
        if place == len(self._begins) or self._begins[place] != key:
            self._begins.insert(place, key)
            self._segments.insert(place, dict(self._segments[place - 1]))
        return place

    def _join(self, key: bytes) -> None:
        """The segment that begins here is no other than the one before, if nobody begins or ends here."""
        place = bisect_left(self._begins, key)
        if place and list(self._segments[place - 1]) == list(self._segments[place]):
            del self._begins[place], self._segments[place]
