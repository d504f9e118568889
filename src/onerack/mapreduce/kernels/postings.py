"""Documents in, postings out: for each distinct word the documents that hold it.

The idea: as in counting words, one table numbers the words; a second array holds the last document of each word, so
that a pair (word, document) is noted once however often the word occurs there. Postings are sorted by word at the
end, by counting, since word numbers are dense. Without the compiler, a set of each document's words does the same.

The rule: documents are numbered 0, 1, 2 in the order in which they are added, and the postings of a word are in that
order. Words come out in order of first appearance, which differs between the two forms within a document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from onerack.mapreduce.kernels.compiler import available
from onerack.mapreduce.kernels.folding import Table
from onerack.mapreduce.kernels.words import rows_expected

_WORDS_AT_ONCE = 8192
_POSTINGS_START = 1 << 16
_OBJECT_BYTES = 200
"""A bytes object, a list and its place in a dict."""


class Postings(NamedTuple):
    """Word i is in the documents documents[starts[i] : starts[i + 1]], in increasing order."""

    words: Any
    """A binary array."""
    starts: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int32]


class PostingTable(Protocol):
    """Collects postings."""

    @property
    def memory_bytes(self) -> int:
        """What the table holds, near enough."""

    def add(self, first: int, stretches: Sequence[Any]) -> None:
        """Notes the words of stretches (buffers) of the documents `first`, `first` + 1, and so on.

        A document may come in several calls, but none after a later one.
        """

    def take(self) -> Postings:
        """All postings; the table is empty afterwards."""


def posting_table(accelerate: bool = True, input_bytes: int = 0) -> PostingTable:
    """An empty table; `input_bytes`: how much text is to come, so that the table need not grow as it is filled."""
    return CompiledPostings(input_bytes) if accelerate and available() else CollectedPostings()


class CompiledPostings:
    """The compiled form. Requires: `available()`."""

    def __init__(self, input_bytes: int = 0) -> None:
        from onerack.mapreduce.kernels.compiled import postings, words

        self._split = words.split_words
        self._post = postings.post
        self._starts = np.empty(_WORDS_AT_ONCE, np.int64)
        self._lengths = np.empty(_WORDS_AT_ONCE, np.int64)
        self._zeros = np.zeros(_WORDS_AT_ONCE, np.int64)
        self._numbers = np.empty(_WORDS_AT_ONCE, np.int32)
        self._table = Table(rows_expected(input_bytes))
        self._clear()

    def _clear(self) -> None:
        self._table.clear()
        self._last = np.full(_POSTINGS_START, -1, np.int32)
        self._words = np.empty(_POSTINGS_START, np.int32)
        self._documents = np.empty(_POSTINGS_START, np.int32)
        self._used = 0

    @property
    def memory_bytes(self) -> int:
        return self._table.memory_bytes + self._last.nbytes + self._words.nbytes + self._documents.nbytes

    def add(self, first: int, stretches: Sequence[Any]) -> None:
        # Joined, since a call for each of a thousand small documents would cost more than their words.
        content = np.frombuffer(b"\n".join(stretches), np.uint8)
        ends = np.cumsum([len(stretch) + 1 for stretch in stretches])
        position = 0
        while position < len(content):
            found, position = self._split(content, position, self._starts, self._lengths)
            starts, numbers = self._starts[:found], self._numbers[:found]
            self._table.add_spans(content, starts, self._lengths[:found], self._zeros[:found], numbers)
            self._make_room(found)
            self._used = self._post(numbers, starts, ends, first, self._last, self._words, self._documents, self._used)

    def _make_room(self, found: int) -> None:
        if self._table.rows > len(self._last):
            grown = np.full(max(2 * len(self._last), self._table.rows), -1, np.int32)
            grown[: len(self._last)] = self._last
            self._last = grown
        if self._used + found > len(self._words):
            size = len(self._words) * 3 // 2 + found
            self._words, self._documents = (
                np.concatenate([postings[: self._used], np.empty(size - self._used, np.int32)])
                for postings in (self._words, self._documents)
            )

    def take(self) -> Postings:
        words, documents = self._words[: self._used], self._documents[: self._used]
        starts = np.zeros(self._table.rows + 1, np.int64)
        np.cumsum(np.bincount(words, minlength=self._table.rows), out=starts[1:])
        # Postings are in order of documents already; a sort by (word, document) needs no stable one.
        ordered = np.sort(words.astype(np.int64) << 32 | documents)
        taken = Postings(self._table.keys(), starts, (ordered & 0xFFFFFFFF).astype(np.int32))
        self._clear()
        return taken


class CollectedPostings:
    """The plain form."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._documents_of: dict[bytes, list[int]] = {}
        self._used = 0
        self._word_bytes = 0

    @property
    def memory_bytes(self) -> int:
        return len(self._documents_of) * _OBJECT_BYTES + self._word_bytes + 8 * self._used

    def add(self, first: int, stretches: Sequence[Any]) -> None:
        for document, data in enumerate(stretches, first):
            self._add_words(document, set(bytes(data).split()))

    def _add_words(self, document: int, words: set[bytes]) -> None:
        for word in words:
            documents = self._documents_of.get(word)
            if documents is None:
                self._documents_of[word] = [document]
                self._word_bytes += len(word)
            elif documents[-1] != document:
                documents.append(document)
            else:
                continue
            self._used += 1

    def take(self) -> Postings:
        words = pa.array(list(self._documents_of), pa.binary())
        lists = list(self._documents_of.values())
        starts = np.zeros(len(lists) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, lists), np.int64, len(lists)), out=starts[1:])
        documents = np.fromiter((number for each in lists for number in each), np.int32, self._used)
        self._clear()
        return Postings(words, starts, documents)
