"""The reduce side of an inverted index: the postings of many splits as rows of words and names.

The idea: numbers of words and documents, made dense over the whole partition and ordered by bytes and by name, fit
together into one 64-bit number a posting, and sorting these numbers is all there is to merging. Names come in at the
very end, a few megabytes of output at a time.

The rule: memory is bounded. A partition whose postings would not fit is worked off in ranges of words, each in a
pass of its own over the (mapped) sections.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from onerack.mapreduce.kernels.buffers import Rows, bytes_list, list_array, rows_of
from onerack.mapreduce.kernels.compiler import available
from onerack.mapreduce.kernels.folding import number_keys
from onerack.mapreduce.kernels.sorting import sort_order
from onerack.mapreduce.keys import ranges_of
from onerack.mapreduce.outputs import tsv
from onerack.mapreduce.shuffle.postings import Extent

_POSTING_BYTES = 32
"""What one posting takes while it is sorted: its numbers, before and after, and the sort's result."""
_WORD_BYTES = 64
_RANGE_BYTES_MAX = 1 << 30
"""No range outgrows the 32-bit offsets of one array."""
_SLICE_BYTES = 8 << 20
_SAMPLE = 4096


class IndexRows(NamedTuple):
    """Words in order, each with the documents from starts[i] to starts[i + 1]."""

    words: Any
    starts: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int32]
    """Positions in `names`."""
    names: list[str]
    quoted: Any
    """The names as a binary array of `_quoted`."""

    accelerate: bool

    def as_tsv(self) -> Any:
        """word TAB ["name","name"] NEWLINE, for every row, in one buffer."""
        words = tsv.escaped(self.words)
        if self.accelerate and available():
            return _compiled_lines(rows_of(words), self.starts, self.documents, rows_of(self.quoted))
        lists = list_array(self.starts, self.quoted.take(pa.array(self.documents)))
        joined = pc.binary_join(lists, pa.scalar(b",", pa.binary()))
        nothing = pa.scalar(b"", pa.binary())
        return tsv.content_of(pc.binary_join_element_wise(words, b"\t[", joined, b"]\n", nothing))

    def as_pairs(self) -> list[tuple[bytes, list[str]]]:
        """(word, names) for every row."""
        bounds = self.starts.tolist()
        names = [self.names[document] for document in self.documents.tolist()]
        return [(word, names[bounds[row] : bounds[row + 1]]) for row, word in enumerate(bytes_list(self.words))]


def _compiled_lines(words: Rows, starts: npt.NDArray[np.int64], documents: npt.NDArray[np.int32], names: Rows) -> Any:
    from onerack.mapreduce.kernels.compiled.postings import index_lines

    # For each row a tab, a bracket and a newline, for each name a comma (or the closing bracket).
    size = int(words.offsets[-1] - words.offsets[0]) + 3 * len(words) + len(documents)
    size += int(np.diff(names.offsets)[documents].sum(dtype=np.int64))
    text = np.empty(size + 8, np.uint8)
    written = index_lines(words.data, words.offsets, starts, documents, names.data, names.offsets, text)
    assert written == size, "the text has the length that was computed"
    return text[:size].data


def index_rows(extents: Sequence[Extent], memory_bytes: int, accelerate: bool) -> Iterator[IndexRows]:
    """The rows of a partition in order, in slices of bounded size."""
    names = sorted({name for extent in extents for name in extent.names})
    places = {name: place for place, name in enumerate(names)}
    documents = [np.array([places[name] for name in extent.names], np.int32) for extent in extents]
    quoted = pa.array(list(map(_quoted, names)), pa.binary())
    splitters = _splitters(extents, memory_bytes)
    for part in range(len(splitters) + 1):
        chosen = [_rows_of_range(extent, splitters, part) for extent in extents]
        merged = _merge(chosen, documents, accelerate)
        if merged is not None:
            yield from _slices(*merged, names, quoted, accelerate)


def _quoted(name: str) -> bytes:
    """A name as it stands in a JSON list in a field of a TSV file."""
    if name.isascii() and name.isprintable() and '"' not in name and "\\" not in name:
        return b'"%b"' % name.encode()
    return tsv.field_of([name])[1:-1]


def _splitters(extents: Sequence[Extent], memory_bytes: int) -> list[bytes]:
    """Words that cut the partition into ranges that fit."""
    needed = sum(
        len(extent.lists.values) * _POSTING_BYTES + extent.words.nbytes + len(extent.words) * _WORD_BYTES
        for extent in extents
    )
    ranges = -(-needed // max(1, min(memory_bytes // 2, _RANGE_BYTES_MAX)))
    if ranges <= 1:
        return []
    sample: list[bytes] = []
    for extent in extents:
        step = max(1, len(extent.words) * len(extents) // _SAMPLE)
        sample += bytes_list(extent.words.take(pa.array(np.arange(0, len(extent.words), step))))
    sample.sort()
    return sorted({sample[len(sample) * part // ranges] for part in range(1, ranges)})


def _rows_of_range(extent: Extent, splitters: Sequence[bytes], part: int) -> tuple[Any, Any]:
    """The extent's words, and their lists, that belong to one range."""
    if not splitters:
        return extent.words, extent.lists
    rows = pa.array(np.flatnonzero(ranges_of(extent.words, splitters) == part))
    return extent.words.take(rows), extent.lists.take(rows)


def _merge(
    chosen: Sequence[tuple[Any, Any]], documents: Sequence[npt.NDArray[np.int32]], accelerate: bool
) -> tuple[Any, npt.NDArray[np.int64]] | None:
    """The distinct words in order, and the distinct postings (word << 32 | document) in order."""
    if not any(len(words) for words, _ in chosen):
        return None
    words = pa.concat_arrays([words for words, _ in chosen])
    distinct, numbers = number_keys(words, accelerate)
    order = sort_order(distinct, accelerate)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    word_of_row = ranks[numbers]
    postings = []
    row = 0
    for (_, lists), places in zip(chosen, documents, strict=True):
        lengths = np.diff(lists.offsets.to_numpy())
        rows = word_of_row[row : row + len(lists)]
        postings.append(np.repeat(rows, lengths) << 32 | places[lists.flatten().to_numpy()])
        row += len(lists)
    joined = np.concatenate(postings)
    joined.sort()
    # A document that was cut by a split border has come twice.
    kept = np.ones(len(joined), np.bool_)
    np.not_equal(joined[1:], joined[:-1], out=kept[1:])
    return distinct.take(pa.array(order)), joined if kept.all() else joined[kept]


def _slices(
    words: Any, postings: npt.NDArray[np.int64], names: list[str], quoted: Any, accelerate: bool
) -> Iterator[IndexRows]:
    """The rows in slices whose output is a few megabytes, but at least one row."""
    starts = np.zeros(len(words) + 1, np.int64)
    np.cumsum(np.bincount(postings >> 32, minlength=len(words)), out=starts[1:])
    documents = (postings & 0xFFFFFFFF).astype(np.int32)
    name_bytes = quoted.nbytes // max(1, len(names)) + 1
    step = max(1, _SLICE_BYTES // name_bytes)
    row = 0
    while row < len(words):
        end = int(np.searchsorted(starts, starts[row] + step, side="right")) - 1
        end = min(max(end, row + 1), row + step, len(words))
        yield IndexRows(
            words.slice(row, end - row),
            starts[row : end + 1] - starts[row],
            documents[starts[row] : starts[end]],
            names,
            quoted,
            accelerate,
        )
        row = end
