"""Portions: how many pairs are gathered before they go on.

The idea: every portion costs some calls, so it should be large; and it lies in memory as Python objects, so it must not
be. For words the number decides: blocks of 65,536 pairs cost half as much again on the whole map side as those of
2,048, because their tuples leave the processor's cache and Python's list of free tuples (2,000 of them) before they are
used again. For documents the bytes decide. How large pairs are is seen when they are there, so the first portion is
small, and the last pairs of each say how many the next may have.

The rule: what is emitted comes out in order, none is left out; and C drives the loop over it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from onerack.mapreduce.footprint import footprint

PAIRS_FIRST: Final = 8
PAIRS_MAX: Final = 2_048
_BYTES: Final = 4 << 20
_GROWTH: Final = 4
_LAST: Final = 2


class Portions:
    """Remembers from one stream of emissions to the next how large pairs have been."""

    def __init__(self) -> None:
        self._pairs = PAIRS_FIRST

    def of(self, emissions: Iterator[Any]) -> Iterator[list[Any]]:
        """Everything that `emissions` gives."""
        while pairs := list(islice(emissions, self._pairs)):
            yield pairs
            if len(pairs) < self._pairs:
                return
            last = pairs[-_LAST:]
            affordable = _BYTES * len(last) // (footprint(last, _LAST) + 1)
            self._pairs = max(1, min(affordable, _GROWTH * self._pairs, PAIRS_MAX))
