"""Counting words in bytes: blocks in, distinct words and their counts out.

The idea: a block is cut into words and the words are looked up in the table some thousand at a time, so that their
positions never leave the cache. Without the compiler, `bytes.split` and `Counter` do the same in two calls.

The rule: a word is what `bytes.split()` gives. Words come out in order of first appearance.
"""

from __future__ import annotations

import sys
from collections import Counter
from itertools import islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from onerack.mapreduce.kernels.compiler import available
from onerack.mapreduce.kernels.folding import Table

_WORDS_AT_ONCE = 8192
_BYTES_PER_DISTINCT_WORD = 80
"""In a split of source text; other texts have fewer distinct words."""
_ROWS_AT_FIRST_MAX = 1 << 20
_OBJECT_BYTES = 72
"""A bytes object and the int beside it, without the word itself."""


class WordTable(Protocol):
    """Counts words."""

    @property
    def memory_bytes(self) -> int:
        """What the table holds, near enough."""

    def add(self, data: Any) -> None:
        """Counts the words of a buffer, which must not begin or end within a word."""

    def take(self) -> tuple[Any, npt.NDArray[np.int64]]:
        """The distinct words (a binary array) and their counts; the table is empty afterwards."""


def word_table(accelerate: bool = True, input_bytes: int = 0) -> WordTable:
    """An empty table; `input_bytes`: how much text is to come, so that the table need not grow as it is filled."""
    return CompiledWords(input_bytes) if accelerate and available() else CountedWords()


def rows_expected(input_bytes: int) -> int:
    """How many distinct words so much text may hold."""
    return min(input_bytes // _BYTES_PER_DISTINCT_WORD, _ROWS_AT_FIRST_MAX)


class CompiledWords:
    """The compiled form. Requires: `available()`."""

    def __init__(self, input_bytes: int = 0) -> None:
        from onerack.mapreduce.kernels.compiled import words

        self._split = words.split_words
        self._table = Table(rows_expected(input_bytes))
        self._starts = np.empty(_WORDS_AT_ONCE, np.int64)
        self._lengths = np.empty(_WORDS_AT_ONCE, np.int64)
        self._ones = np.ones(_WORDS_AT_ONCE, np.int64)

    @property
    def memory_bytes(self) -> int:
        return self._table.memory_bytes

    def add(self, data: Any) -> None:
        if not len(data):
            return
        content = np.frombuffer(data, np.uint8)
        position = 0
        while position < len(content):
            found, position = self._split(content, position, self._starts, self._lengths)
            self._table.add_spans(content, self._starts[:found], self._lengths[:found], self._ones[:found])

    def take(self) -> tuple[Any, npt.NDArray[np.int64]]:
        words, counts = self._table.keys(), self._table.sums()
        self._table.clear()
        return words, counts


class CountedWords:
    """The plain form."""

    def __init__(self) -> None:
        self._counts: Counter[bytes] = Counter()
        self._word_bytes = 0

    @property
    def memory_bytes(self) -> int:
        return sys.getsizeof(self._counts) + len(self._counts) * _OBJECT_BYTES + self._word_bytes

    def add(self, data: Any) -> None:
        known = len(self._counts)
        self._counts.update(bytes(data).split())
        fresh = islice(reversed(self._counts), len(self._counts) - known)
        self._word_bytes += sum(map(len, fresh))

    def take(self) -> tuple[Any, npt.NDArray[np.int64]]:
        words = pa.array(list(self._counts), pa.binary())
        counts = np.fromiter(self._counts.values(), np.int64, len(self._counts))
        self._counts = Counter()
        self._word_bytes = 0
        return words, counts
