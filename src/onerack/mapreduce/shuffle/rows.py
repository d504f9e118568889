"""Sections of raw rows: records of one size, sorted by a key that is their first bytes.

The idea: a sort of fixed records needs no columns. A block of the input is one array of rows; its order is that of
the first 8 bytes read as a number, ties settled by the rest of the key; rows are moved twice, once in the map (into
runs, cut at the splitters) and once in the reduce (into the output), each time by one vectorised gather. Joining the
runs and sorting their prefixes again costs less than any merge of them.

The rule: the order is stable: rows of equal keys stay in the order of the input. Memory is bounded: what does not fit
at once is cut at keys, in every run by binary search; only rows of one and the same key cannot be cut, and these are
in order as they lie.

Source: Dean & Ghemawat, OSDI 2004, section 5.3; Nyberg et al., "AlphaSort", 1994, for sorting prefixes, not records.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from onerack.errors import Corruption
from onerack.mapreduce.messages import Section
from onerack.mapreduce.shuffle.format import ALIGNMENT, SectionUnreadable, read_extents
from onerack.mapreduce.shuffle.map_side import MapSide

Rows = npt.NDArray[np.uint8]
"""Shape (rows, bytes of a row)."""

ENCODING: Final = "raw-rows"
_PREFIX_BYTES: Final = 8
_OUTPUT_BYTES: Final = 4 << 20
_SAMPLE: Final = 64
_WINDOW_BYTES_MAX: Final = 32 << 20
"""Rows sorted at once in a reduce: more would not fit into the processor's cache, and their gather would wait."""
_SORT_FACTOR: Final = 2
"""Sorting rows takes so many times their bytes: themselves, joined, and prefixes and order beside them."""


def rows_order(rows: Rows, key_bytes: int) -> npt.NDArray[np.int64]:
    """The stable order of rows by their first `key_bytes` bytes. Requires: 8 <= key_bytes <= 16."""
    assert _PREFIX_BYTES <= key_bytes <= 2 * _PREFIX_BYTES, "a key is a prefix and at most as much again"
    prefixes = _number(rows[:, :_PREFIX_BYTES])
    order = np.argsort(prefixes)  # Not stable, but several times faster: ties are settled below.
    ordered = prefixes[order]
    equals_next = ordered[1:] == ordered[:-1]
    if not equals_next.any():
        return order
    tied = np.zeros(len(order), np.bool_)
    tied[1:] = equals_next
    tied[:-1] |= equals_next
    group = order[tied]
    tails = _number(rows[group, _PREFIX_BYTES:key_bytes])
    order[tied] = group[np.lexsort((group, tails, ordered[tied]))]
    return order


def first_fall(rows: Rows, key_bytes: int) -> int:
    """The first row whose key is smaller than that of the row before it; -1: there is none."""
    high, low = _number(rows[:, :_PREFIX_BYTES]), _number(rows[:, _PREFIX_BYTES:key_bytes])
    falls = (high[1:] < high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] < low[:-1]))
    return int(falls.argmax()) + 1 if falls.any() else -1


def _number(columns: Rows) -> npt.NDArray[np.uint64]:
    """Up to 8 bytes of each row as a number that sorts as they do."""
    wide = np.zeros((len(columns), _PREFIX_BYTES), np.uint8)
    wide[:, : columns.shape[1]] = columns
    return wide.view(">u8").reshape(-1).astype(np.uint64)


def gathered(rows: Rows, order: npt.NDArray[np.int64]) -> Rows:
    """The rows in that order."""
    moved = np.empty((len(order), rows.shape[1]), np.uint8)
    # "clip" spares numpy a copy that it would need to undo a failure; there is none to come.
    return np.take(rows, order, axis=0, out=moved, mode="clip")


class RowsCollector(MapSide):
    """The map side: takes blocks of rows, leaves a shuffle file whose sections hold one sorted run for each block."""

    def __init__(
        self, path: str, *, reducers: int, splitters: Sequence[bytes], record_bytes: int, key_bytes: int
    ) -> None:
        super().__init__(path, reducers=reducers, encoding=ENCODING)
        self._splitters = splitters
        self._record_bytes = record_bytes
        self._key_bytes = key_bytes
        self._blocks = 0

    def add_rows(self, data: Any) -> None:
        """Sorts and writes a buffer of whole rows."""
        if not len(data):
            return
        self.spills += self._blocks > 0
        self._blocks += 1
        rows = rows_in(data, self._record_bytes)
        ordered = gathered(rows, rows_order(rows, self._key_bytes))
        borders = [0, *(lower_row(ordered, splitter) for splitter in self._splitters), len(ordered)]
        for partition, (start, end) in enumerate(pairwise(borders)):
            if end > start:
                self._write_run(partition, ordered[start:end])

    def _write_run(self, partition: int, run: Rows) -> None:
        padding = bytes(-run.nbytes % ALIGNMENT)
        bounds = (run[0, : self._key_bytes].tobytes(), run[-1, : self._key_bytes].tobytes())
        self._writer.append(partition, [run.reshape(-1), padding], rows=len(run), is_sorted=True, bounds=bounds)


def rows_in(data: Any, record_bytes: int) -> Rows:
    """A buffer of whole rows as an array, not copied."""
    return np.frombuffer(data, np.uint8).reshape(-1, record_bytes)


def lower_row(rows: Rows, key: bytes) -> int:
    """How many of the sorted rows come before the first whose key is >= `key`."""
    return bisect_left(range(len(rows)), key, key=lambda row: rows[row, : len(key)].tobytes())


def upper_row(rows: Rows, key: bytes) -> int:
    """How many of the sorted rows come before the first whose key is > `key`."""
    return bisect_right(range(len(rows)), key, key=lambda row: rows[row, : len(key)].tobytes())


def read_rows(sections: Sequence[Section], record_bytes: int) -> list[Rows]:
    """The sorted runs of a partition, in map order, each a view of a mapped file.

    Raises: SectionUnreadable.
    """
    runs = []
    for section in sections:
        for extent, content in read_extents(section):
            size = extent.rows * record_bytes
            if size > len(content):
                damage = Corruption(section.path, extent.offset, f"{extent.rows} rows", f"{len(content)} bytes")
                raise SectionUnreadable(section.path, str(damage), corrupt=True)
            runs.append(rows_in(content[:size], record_bytes))
    return runs


def merged(runs: Sequence[Rows], key_bytes: int, memory_bytes: int) -> Iterator[Rows]:
    """All rows of sorted runs in order, in pieces of a few megabytes."""
    whole = [run for run in runs if len(run)]
    if not whole:
        return
    record_bytes = whole[0].shape[1]
    step = max(1, _OUTPUT_BYTES // record_bytes)
    for window in _windows(whole, key_bytes, min(memory_bytes // _SORT_FACTOR, _WINDOW_BYTES_MAX)):
        if _is_one_key(window, key_bytes):
            for run in window:
                yield from (run[start : start + step] for start in range(0, len(run), step))
            continue
        rows = window[0] if len(window) == 1 else np.concatenate(window)
        order = rows_order(rows, key_bytes)
        yield from (gathered(rows, order[start : start + step]) for start in range(0, len(rows), step))


def _windows(runs: list[Rows], key_bytes: int, window_bytes: int) -> Iterator[list[Rows]]:
    """Parts of the runs, one after the other in order of their keys: small, or of one key."""
    if sum(run.nbytes for run in runs) <= window_bytes or _is_one_key(runs, key_bytes):
        yield runs
        return
    lowest = min(_key(run, 0, key_bytes) for run in runs)
    border = _median(runs, key_bytes)
    # Where the median is the lowest key itself, that key is what is cut off.
    cut = lower_row if border > lowest else upper_row
    places = [cut(run, border) for run in runs]
    below = [run[:place] for run, place in zip(runs, places, strict=True) if place]
    above = [run[place:] for run, place in zip(runs, places, strict=True) if place < len(run)]
    yield from _windows(below, key_bytes, window_bytes)
    yield from _windows(above, key_bytes, window_bytes)


def _key(run: Rows, row: int, key_bytes: int) -> bytes:
    return run[row, :key_bytes].tobytes()


def _is_one_key(runs: list[Rows], key_bytes: int) -> bool:
    first = _key(runs[0], 0, key_bytes)
    return all(_key(run, row, key_bytes) == first for run in runs for row in (0, -1))


def _median(runs: list[Rows], key_bytes: int) -> bytes:
    """A key near the middle: the weighted median of some keys of every run."""
    sample: list[tuple[bytes, int]] = []
    for run in runs:
        step = -(-len(run) // _SAMPLE)
        sample += [(_key(run, row, key_bytes), min(step, len(run) - row)) for row in range(0, len(run), step)]
    sample.sort()
    half = sum(weight for _, weight in sample) // 2
    for key, weight in sample:
        half -= weight
        if half < 0:
            return key
    return sample[-1][0]
