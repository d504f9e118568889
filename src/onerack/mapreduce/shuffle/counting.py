"""Counting keys: tables that do what `Counter.update` does, without its misses.

The idea: the time of a word count goes into a dict that misses the processor's cache at every other word. Compiled,
a table looks ahead, so that the memory of the next words is on its way while the present one is counted, and its keys
are canonical bytes already. Without the compiler a dict is kept so small (some ten thousand words, which most words
of a text are among) that it fits; when it is full, its counts become columns, and those are folded natively.

The rule: counts are ints, whose sums do not depend on how they were grouped; that is what makes this exact, and why
nothing else may be added here. Both tables give the same counts, and the keys in order of first appearance, as one
dict would.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from onerack.mapreduce.canonical import encode_str
from onerack.mapreduce.columns import Columns, KeyKind
from onerack.mapreduce.kernels.compiler import available
from onerack.mapreduce.kernels.folding import Table
from onerack.mapreduce.keys import encode_kind
from onerack.mapreduce.reducers import Reducer
from onerack.mapreduce.shuffle.fold import ColumnFold

_KEYS_MAX: Final = 10_000
"""Measured on source text: twice as many leave the cache, half as many are written out too often."""
_CONTENT_BYTES_MAX: Final = 4 << 20
"""Long keys make the dict full, too."""
_FOLD_BYTES_MIN: Final = 64 << 20
"""Columns are not worth a pass before they hold so much."""
_ROWS_EXPECTED: Final = 1 << 19
"""A compiled table that begins large does not grow; memory that it does not need is never touched."""
_ROW_BYTES: Final = 128
"""What a distinct key takes in a compiled table, with room to spare."""
_SEPARATOR: Final = b"\n"
"""Hardly ever part of a word."""
_BASES: Final[dict[KeyKind, type]] = {"str": str, "bytes": bytes}


class CountTable(ABC):
    """How often each key was added. Keys are str or bytes: a dict merges numbers and tuples that are not the same."""

    @property
    @abstractmethod
    def size_bytes(self) -> int:
        """What the counts take, near enough; nothing as long as there are none."""

    @abstractmethod
    def add(self, keys: Sequence[Any]) -> None:
        """Counts the keys. Raises: TypeError: some key is of another type. BadKey: a lone surrogate."""

    @abstractmethod
    def drain(self) -> Columns:
        """Keys and their counts; the table is empty afterwards. Requires: it was not empty."""


def count_table(kind: KeyKind, reduce: Reducer, *, bytes_max: int, accelerate: bool) -> CountTable:
    """The faster table of those that can be had. `bytes_max`: it will be drained when it is larger."""
    if accelerate and available():
        return CompiledCounts(kind, min(_ROWS_EXPECTED, bytes_max // _ROW_BYTES))
    return DictCounts(kind, reduce, accelerate=accelerate)


class CompiledCounts(CountTable):
    """The compiled table. Requires: `available()`."""

    def __init__(self, kind: KeyKind, rows_expected: int) -> None:
        assert kind in _BASES
        self.kind = kind
        self._table = Table(rows_expected)
        self._ones = np.ones(1 << 12, np.int64)

    @property
    def size_bytes(self) -> int:
        return self._table.used_bytes if self._table.rows else 0

    def add(self, keys: Sequence[Any]) -> None:
        content = np.frombuffer(self._joined(keys), np.uint8)
        # Finding the ends in the joined keys takes a fifth of the time of asking each key for its length.
        ends = np.flatnonzero(content == _SEPARATOR[0])
        if len(ends) != len(keys):
            self._add_with_separators(keys)
            return
        if len(self._ones) < len(keys):
            self._ones = np.ones(len(keys), np.int64)
        starts = np.empty_like(ends)
        starts[0] = 0
        np.add(ends[:-1], 1, out=starts[1:])
        self._table.add_spans(content, starts, ends - starts, self._ones[: len(keys)])

    def _add_with_separators(self, keys: Sequence[Any]) -> None:
        """Keys of which some hold the separator: those one by one, the others as they should be."""
        others: list[Any] = []
        for key in keys:
            raw = key if self.kind == "bytes" else key.encode()
            if _SEPARATOR in raw:
                self._add_others(others)
                others = []
                self._table.add_spans(
                    np.frombuffer(raw, np.uint8), np.zeros(1, np.int64), np.array([len(raw)]), self._ones[:1]
                )
            else:
                others.append(key)
        self._add_others(others)

    def _add_others(self, keys: Sequence[Any]) -> None:
        if keys:
            self.add(keys)

    def _joined(self, keys: Sequence[Any]) -> bytes:
        """The keys, each with a separator behind it."""
        if self.kind == "bytes":
            if not all(issubclass(found, bytes) for found in set(map(type, keys))):
                raise TypeError("keys that are not all bytes")
            return _SEPARATOR.join([*keys, b""])
        return _encoded([*keys, ""], _SEPARATOR.decode())

    def drain(self) -> Columns:
        counts: npt.NDArray[np.int64] = self._table.sums()
        columns = Columns(self.kind, self._table.keys(), "int", pa.array(counts))
        self._table.clear()
        return columns


class DictCounts(CountTable):
    """A small dict in front of a fold of columns."""

    def __init__(self, kind: KeyKind, reduce: Reducer, *, accelerate: bool) -> None:
        assert kind in _BASES
        self.kind = kind
        self._base = _BASES[kind]
        self._counts: Counter[Any] = Counter()
        self._content_bytes = 0
        self._fold = ColumnFold(reduce, accelerate=accelerate)
        self._folded_bytes = 0

    @property
    def size_bytes(self) -> int:
        return self._fold.size_bytes + self._content_bytes + 12 * len(self._counts)

    def add(self, keys: Sequence[Any]) -> None:
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
        self._content_bytes += len(_encoded(fresh, ""))

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
        self._pour()
        self._folded_bytes = 0
        columns = self._fold.drain()
        assert columns is not None, "an empty table is not drained"
        return columns


def _encoded(keys: Sequence[str], separator: str) -> bytes:
    """All keys in UTF-8, with a separator between them. Raises: BadKey: a lone surrogate. TypeError: no str."""
    try:
        return separator.join(keys).encode()
    except UnicodeEncodeError:
        for key in keys:
            encode_str(key)
        raise
