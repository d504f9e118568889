"""Who is interested in a key: watchers of single keys, and of ranges.

    |----a----|                      ranges
         |-------b-------|
    [  a ][ a,b][    b   ][ nobody   segments: to each key belongs exactly one

The idea: a single key is found in a dictionary. Ranges cut the line of all keys into segments, and each segment knows
its watchers, so that one bisection finds all that contain a key. To add a range cuts at most two segments, and adds
to those between.

The rule: the answer comes in an order that only depends on the order in which watchers were added.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from sortedcontainers import SortedDict

from onerack.kv.core.store import EVERYTHING, End

_Who = TypeVar("_Who")


class Interest(Generic[_Who]):
    """Finds by a key everybody who has asked for it."""

    def __init__(self) -> None:
        self._exact: dict[bytes, dict[_Who, None]] = {}
        self._segments: SortedDict = SortedDict({b"": {}})
        """First key of a segment -> who is interested in it; the segment ends where the next one begins."""
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

    def of(self, key: bytes) -> Iterator[_Who]:
        """Everybody who is interested in this key."""
        exact = self._exact.get(key)
        if exact:
            yield from exact
        if self._ranges:
            yield from self._segments.peekitem(self._segments.bisect_right(key) - 1)[1]

    def _between(self, key: bytes, end: bytes) -> list[dict[_Who, None]]:
        """The segments that together are the range, cut out where they were not."""
        self._cut(key)
        if end == EVERYTHING:
            return [self._segments[begin] for begin in self._segments.irange(key)]
        self._cut(end)
        return [self._segments[begin] for begin in self._segments.irange(key, end, (True, False))]

    def _cut(self, key: bytes) -> None:
        if key not in self._segments:
            self._segments[key] = dict(self._segments.peekitem(self._segments.bisect_right(key) - 1)[1])

    def _join(self, key: bytes) -> None:
        """The segment that begins here is no other than the one before, if nobody begins or ends here."""
        place = self._segments.bisect_left(key)
        if place and place < len(self._segments) and self._segments.peekitem(place)[0] == key:
            before, own = self._segments.peekitem(place - 1)[1], self._segments.peekitem(place)[1]
            if list(before) == list(own):
                del self._segments[key]
