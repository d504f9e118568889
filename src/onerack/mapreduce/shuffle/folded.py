"""The map side for jobs that fold by themselves: takes distinct keys with their states, and only spreads them.

The idea: a builtin job that has counted a whole split has nothing left to fold, and the general collector would do it
once more (a third of the time of counting). The sections are the same: unsorted extents of states, which the reduce
side (`fold_partition`) hashes together.

The rule: each call's keys are distinct; keys may come again in the next call, which is a spill.
"""

from __future__ import annotations

from itertools import pairwise

from onerack.mapreduce.columns import Columns
from onerack.mapreduce.keys import partitions_of
from onerack.mapreduce.messages import Section
from onerack.mapreduce.shuffle.arrays import (
    partition_borders,
    partition_order,
    slice_rows,
    take_rows,
    use_one_thread,
)
from onerack.mapreduce.shuffle.format import ShuffleWriter


class FoldedCollector:
    """Collects states of one map attempt. Ended by `close` or `abort`."""

    def __init__(self, path: str, *, reducers: int, accelerate: bool) -> None:
        use_one_thread()
        self.spills = 0
        self._reducers = reducers
        self._accelerate = accelerate
        self._writer = ShuffleWriter(path, reducers)

    @property
    def bytes_written(self) -> int:
        return self._writer.bytes_written

    @property
    def rows_written(self) -> int:
        return self._writer.rows_written

    def add_columns(self, columns: Columns) -> None:
        """Writes one extent for each partition that has rows."""
        if not columns.rows:
            return
        self.spills += self._writer.rows_written > 0
        partitions = partitions_of(columns.keys, self._reducers, accelerate=self._accelerate)
        ordered = take_rows(columns, partition_order(partitions, self._reducers))
        for partition, (start, end) in enumerate(pairwise(partition_borders(partitions, self._reducers).tolist())):
            if end > start:
                self._writer.add_extent(partition, slice_rows(ordered, start, end - start), is_sorted=False)

    def close(self) -> tuple[Section, ...]:
        """Writes the footer; returns a section for each partition."""
        return self._writer.close()

    def abort(self) -> None:
        """Leaves nothing behind."""
        self._writer.abort()
