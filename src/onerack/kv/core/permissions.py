"""Permissions: which keys a user may read and write.

The idea: a role gives ranges, a user has roles, so what a user may is a union of ranges. Merged, it is a short sorted
list of disjoint ranges, in which one bisection tells whether a whole asked-for range lies inside one of them: a range
that is covered by two neighbours together is covered.

The rules: what is not granted is refused. A range that touches one key outside is refused whole. A grant without a key
grants nothing, although `range_end` could make it everything: so it is in etcd, and to give less is safe.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

from onerack.kv.core.store import EVERYTHING, End, end_of

READ: Final = 0
WRITE: Final = 1
READ_WRITE: Final = 2

Grant = tuple[bytes, bytes, int]
"""key, range_end as in a request, and READ, WRITE or READ_WRITE."""


class Cover:
    """A union of ranges."""

    def __init__(self, ranges: Iterable[tuple[bytes, End]]) -> None:
        self._begins: list[bytes] = []
        self._ends: list[bytes] = []
        for begin, end in sorted((begin, _successor(begin) if end is None else end) for begin, end in ranges):
            if end != EVERYTHING and end <= begin:
                continue
            if self._begins and _reaches(self._ends[-1], begin):
                self._ends[-1] = _farther(self._ends[-1], end)
            else:
                self._begins.append(begin)
                self._ends.append(end)

    def holds(self, key: bytes, end: End) -> bool:
        """Whether all of the range is inside. A range without any key is held to be the one key that it begins with."""
        if end is None or (end != EVERYTHING and end <= key):
            end = _successor(key)
        place = bisect_right(self._begins, key) - 1
        if place < 0:
            return False
        limit = self._ends[place]
        return limit == EVERYTHING or (end != EVERYTHING and end <= limit)


class Rights:
    """What one user may."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        grants = [grant for grant in grants if grant[0]]
        self._read = Cover((key, end_of(end)) for key, end, kind in grants if kind != WRITE)
        self._write = Cover((key, end_of(end)) for key, end, kind in grants if kind != READ)

    def may_read(self, key: bytes, end: End) -> bool:
        return self._read.holds(key, end)

    def may_write(self, key: bytes, end: End) -> bool:
        return self._write.holds(key, end)


def _successor(key: bytes) -> bytes:
    """The smallest key behind this one."""
    return key + b"\0"


def _reaches(end: bytes, begin: bytes) -> bool:
    return end == EVERYTHING or begin <= end


def _farther(one: bytes, other: bytes) -> bytes:
    return EVERYTHING if EVERYTHING in (one, other) else max(one, other)
