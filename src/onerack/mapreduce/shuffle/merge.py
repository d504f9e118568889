"""The reduce side's entry: a partition's sections in, keys in increasing order out.

    fold_partition     for builtin reducers: columns of distinct keys and their results
    group_partition    for functions: (key, values) (groups.py); `group_windows`: the same, window by window

The idea: states of an associative reducer are hashed together, whatever the order of their keys, and the distinct
keys are sorted once. When the distinct keys of a partition do not fit into memory the partition is *scattered*: its
rows go, in order, to so many ranges of keys that each fits, and the ranges are folded one after the other.

The rule: every key's states are folded in the order of map tasks, one after the other, in memory or not, so results
(floats, too) do not depend on the limit.

Source: Dean & Ghemawat, OSDI 2004, section 3.1 (steps 5 and 6) and 4.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Final

import numpy as np
import pyarrow as pa

from onerack.mapreduce.columns import Columns
from onerack.mapreduce.kernels.buffers import bytes_list
from onerack.mapreduce.keys import ranges_of
from onerack.mapreduce.messages import Section
from onerack.mapreduce.reducers import Count, First, Max, Min, Reducer, Sum
from onerack.mapreduce.shuffle.arrays import (
    cut_rows,
    key_order,
    partition_borders,
    partition_order,
    slice_rows,
    take_rows,
    use_one_thread,
)
from onerack.mapreduce.shuffle.fold import NATIVE_KINDS, ColumnFold, finish_states
from onerack.mapreduce.shuffle.format import ShuffleWriter
from onerack.mapreduce.shuffle.gather import gather
from onerack.mapreduce.shuffle.groups import group_partition, group_windows
from onerack.mapreduce.shuffle.runs import (
    Progress,
    ScratchFiles,
    SectionRun,
    no_progress,
    read_runs,
    sorted_runs,
    window_bytes_of,
)
from onerack.mapreduce.shuffle.windows import HugeKey, Window, concat_columns, windows

__all__ = ["fold_partition", "group_partition", "group_windows"]

_NATIVE: Final = (Sum, Count, Min, Max, First)
_NATIVE_FACTOR: Final = 6
"""Joining, hashing and sorting columns takes so many times their bytes."""
_LOOP_FACTOR: Final = 24
"""The same for the reducers' own loops, whose states are Python objects: for what is no number, all but `first`."""
_BYTES_MIN: Final = 128 << 10
_BYTES_MAX: Final = 512 << 20
_OUTPUT_BYTES: Final = 4 << 20
_OUTPUT_ROWS: Final = 1 << 16
_RANGES_MAX: Final = 64
"""Where more ranges would be needed, a range is scattered again."""
_SAMPLE: Final = 4096


def fold_partition(
    sections: Sequence[Section],
    reduce: Reducer,
    *,
    memory_bytes: int,
    scratch: str,
    accelerate: bool = True,
    progress: Progress = no_progress,
) -> Iterator[Columns]:
    """Results of a builtin reducer, keys distinct and increasing. Requires: sections in map index order.

    Raises: SectionUnreadable: a section is gone or damaged.
    Raises: BadPair: keys of two kinds, or values that the reducer cannot add or compare.
    """
    use_one_thread()
    with ScratchFiles(scratch, progress) as files:
        runs = read_runs(sections, progress)
        first = next(runs, None)
        if first is None:
            return
        runs = chain([first], runs)
        # Rows that carry a sort key were not folded on the map side: the reducer wants to see them in its order.
        by_order = first[1].has_order
        if not (reduce.gathers or by_order):
            yield from _Folding(reduce, memory_bytes, files, accelerate).results(runs, sections)
            return
        sorted_stream = windows(
            sorted_runs(runs, by_order=by_order, memory_bytes=memory_bytes, scratch=files, accelerate=accelerate),
            by_order=by_order,
            window_bytes=window_bytes_of(memory_bytes),
            accelerate=accelerate,
        )
        yield from gather(reduce, _watched(sorted_stream, progress))


def _watched(stream: Iterator[Window | HugeKey], progress: Progress) -> Iterator[Window | HugeKey]:
    """The same; a huge key's pieces are progress, too."""
    for found in stream:
        yield found if isinstance(found, Window) else found._replace(pieces=_each_watched(found.pieces, progress))


def _each_watched(pieces: Iterable[Columns], progress: Progress) -> Iterator[Columns]:
    for piece in pieces:
        progress()
        yield piece


class _Folding:
    """One fold: in memory as long as the distinct keys fit, else range by range."""

    def __init__(self, reduce: Reducer, memory_bytes: int, files: ScratchFiles, accelerate: bool) -> None:
        self._reduce = reduce
        self._memory_bytes = memory_bytes
        self._limit(_NATIVE_FACTOR if isinstance(reduce, _NATIVE) else _LOOP_FACTOR)
        self._files = files
        self._accelerate = accelerate

    def _limit(self, factor: int) -> None:
        self._bytes_max = max(_BYTES_MIN, min(self._memory_bytes // factor, _BYTES_MAX))

    def results(self, runs: Iterator[SectionRun], sections: Sequence[Section]) -> Iterator[Columns]:
        fold = ColumnFold(self._reduce, accelerate=self._accelerate)
        ranges: _Ranges | None = None
        try:
            for columns in (columns for _, run in runs for columns in run.columns()):
                self._files.progress()
                if columns.value_kind not in NATIVE_KINDS and not isinstance(self._reduce, First):
                    self._limit(_LOOP_FACTOR)
                if ranges is not None:
                    ranges.add(columns)
                    continue
                fold.add(columns)
                if fold.size_bytes > self._bytes_max:
                    folded = fold.compact()
                    if folded is not None and fold.size_bytes > self._bytes_max // 2 and not _is_one_key(folded):
                        fold.drain()
                        ranges = self._scatter(folded, sum(section.size_bytes for section in sections))
            if ranges is None:
                yield from self._in_order(fold.drain())
                return
            scattered = ranges.close()
        except BaseException:
            if ranges is not None:
                ranges.abort()
            raise
        for section in scattered:
            yield from self.results(read_runs([section]), [section])

    def _scatter(self, folded: Columns, total_bytes: int) -> _Ranges:
        """Opens the ranges and puts into them what has been folded so far: it comes before all that follows."""
        count = min(max(2 * total_bytes // self._bytes_max + 1, 2), _RANGES_MAX)
        ranges = _Ranges(self._files.next_path(), _borders(folded, count, self._bytes_max), self._bytes_max // 2)
        for start, rows in cut_rows([folded.keys, folded.values], self._bytes_max // 4, folded.rows):
            ranges.add(slice_rows(folded, start, rows))
        return ranges

    def _in_order(self, folded: Columns | None) -> Iterator[Columns]:
        if folded is None:
            return
        columns = take_rows(folded, key_order(folded.keys, None, self._accelerate))
        columns = finish_states(self._reduce, columns)
        for start, rows in cut_rows([columns.keys, columns.values], _OUTPUT_BYTES, _OUTPUT_ROWS):
            yield slice_rows(columns, start, rows)


def _is_one_key(folded: Columns) -> bool:
    return bool(folded.keys[0] == folded.keys[-1])


def _borders(folded: Columns, count: int, sample_bytes: int) -> list[bytes]:
    """Up to count - 1 borders that cut the distinct keys into ranges of about equal size.

    Requires: at least two keys. There is a border, and a key below the lowest, so every range is smaller than all.
    """
    affordable = folded.rows * sample_bytes // (folded.keys.nbytes + 1)
    rows = np.linspace(0, folded.rows - 1, max(2, min(folded.rows, affordable, _SAMPLE))).astype(np.int64)
    sample = sorted(set(bytes_list(folded.keys.take(pa.array(rows)))))
    return sorted({sample[len(sample) * part // count] for part in range(1, count)} - {sample[0]}) or [sample[-1]]


class _Ranges:
    """Rows spread over ranges of keys, in the order in which they come, in a scratch file with a section for each."""

    def __init__(self, path: str, borders: Sequence[bytes], buffer_bytes: int) -> None:
        self._borders = borders
        self._buffer_bytes = buffer_bytes
        self._held: list[Columns] = []
        self._held_bytes = 0
        self._writer = ShuffleWriter(path, len(borders) + 1)

    def add(self, columns: Columns) -> None:
        self._held.append(columns)
        self._held_bytes += columns.keys.nbytes + columns.values.nbytes
        if self._held_bytes > self._buffer_bytes:
            self._flush()

    def _flush(self) -> None:
        if not self._held:
            return
        columns = concat_columns(self._held)
        self._held, self._held_bytes = [], 0
        ranges = ranges_of(columns.keys, self._borders)
        columns = take_rows(columns, partition_order(ranges, len(self._borders) + 1))
        borders = partition_borders(ranges, len(self._borders) + 1).tolist()
        for place, (start, end) in enumerate(pairwise(borders)):
            if end > start:
                self._writer.add_extent(place, slice_rows(columns, start, end - start), is_sorted=False)

    def close(self) -> Sequence[Section]:
        self._flush()
        return self._writer.close()

    def abort(self) -> None:
        self._writer.abort()
