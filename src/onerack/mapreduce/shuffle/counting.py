"""Counting keys: a small dict in front of a fold of columns.

The idea: the time of a word count goes into a dict that misses the processor's cache at every other word. A dict of
some ten thousand words fits, and still meets most words of a text over and over. So it is kept that small: when it is
full, its counts become columns, and those are folded natively, now and then and at the end (a third less time than
one large dict, and a quarter of its memory).

The rule: counts are ints, whose sums do not depend on how they were grouped; that is what makes this exact, and why
nothing else may be added here. Keys come out in order of first appearance, as those of a dict would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

import numpy as np
import pyarrow as pa

from onerack.mapreduce.canonical import encode_str
from onerack.mapreduce.columns import Columns, KeyKind
from onerack.mapreduce.keys import encode_kind
from onerack.mapreduce.reducers import Reducer
from onerack.mapreduce.shuffle.fold import ColumnFold

_KEYS_MAX: Final = 10_000
"""Measured on source text: twice as many leave the cache, half as many are written out too often."""
_CONTENT_BYTES_MAX: Final = 4 << 20
"""Long keys make the dict full, too."""
_FOLD_BYTES_MIN: Final = 32 << 20
"""Columns are not worth a pass before they hold so much."""
_BASES: Final[dict[KeyKind, type]] = {"str": str, "bytes": bytes}


class CountTable:
    """How often each key was added."""

    def __init__(self, kind: KeyKind, reduce: Reducer, *, accelerate: bool) -> None:
        assert kind in _BASES, "a dict merges numbers and tuples that are not the same key"
        self.kind = kind
        self._base = _BASES[kind]
        self._counts: Counter[Any] = Counter()
        self._content_bytes = 0
        self._fold = ColumnFold(reduce, accelerate=accelerate)
        self._folded_bytes = 0

    @property
    def size_bytes(self) -> int:
        """What the counts take as columns, near enough; nothing as long as there are none."""
        return self._fold.size_bytes + self._content_bytes + 12 * len(self._counts)

    def add(self, keys: Sequence[Any]) -> None:
        """Counts the keys.

        Raises: TypeError: some key is of another type. Raises: BadKey: a lone surrogate.
        """
        before = len(self._counts)
        self._counts.update(keys)
        self._measure(list(islice(reversed(self._counts), len(self._counts) - before)))
        if len(self._counts) > _KEYS_MAX or self._content_bytes > _CONTENT_BYTES_MAX:
            self._pour()

    def _measure(self, fresh: list[Any]) -> None:
        """Takes note of the keys that are new, and refuses those that must not be there."""
        if not all(issubclass(found, self._base) for found in set(map(type, fresh))):
            raise TypeError(f"keys that are not all {self.kind}")
        if self.kind == "bytes":
            self._content_bytes += sum(map(len, fresh))
            return
        try:
            self._content_bytes += len("".join(fresh).encode())
        except UnicodeEncodeError:
            for key in fresh:
                encode_str(key)
            raise

    def _pour(self) -> None:
        """Turns the dict into columns."""
        counts = np.fromiter(self._counts.values(), np.int64, len(self._counts))
        self._fold.add(Columns(self.kind, encode_kind(self.kind, list(self._counts)), "int", pa.array(counts)))
        self._counts = Counter()
        self._content_bytes = 0
        if self._fold.size_bytes > max(_FOLD_BYTES_MIN, 2 * self._folded_bytes):
            self._fold.compact()
            self._folded_bytes = self._fold.size_bytes

    def drain(self) -> Columns:
        """Keys and their counts; the table is empty afterwards. Requires: it was not empty."""
        self._pour()
        self._folded_bytes = 0
        columns = self._fold.drain()
        assert columns is not None, "an empty table is not drained"
        return columns
