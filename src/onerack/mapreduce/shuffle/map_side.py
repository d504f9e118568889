"""The map side's frame: one attempt, one shuffle file, and what every collector says of it.

The idea: collectors differ in what they take and how they order it (collector.py anything, folded.py states,
postings.py postings, rows.py raw rows); that the file is written once, counted, and ends by `close` or by `abort`, is
the same for all. So is the spreading of columns: rows in partition order, one extent for each partition that has any.

The rule: nothing has its name before `close`, and nothing is left after `abort`.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from onerack.mapreduce.columns import Columns
from onerack.mapreduce.messages import KeyKinds, Section
from onerack.mapreduce.shuffle.arrays import (
    partition_borders,
    partition_order,
    slice_rows,
    take_rows,
    use_one_thread,
)
from onerack.mapreduce.shuffle.format import ENCODING, ShuffleWriter


class MapSide:
    """Base of the collectors of one map attempt. Ended by `close` or `abort`."""

    def __init__(self, path: str, *, reducers: int, encoding: str = ENCODING) -> None:
        use_one_thread()
        self.spills = 0
        self._reducers = reducers
        self._writer = ShuffleWriter(path, reducers, encoding=encoding)

    @property
    def bytes_written(self) -> int:
        return self._writer.bytes_written

    @property
    def rows_written(self) -> int:
        return self._writer.rows_written

    @property
    def kinds(self) -> KeyKinds:
        """Those of all keys written so far; unknown for rows that are no columns, which are of one kind anyway."""
        first = self._writer.kinds.first
        return KeyKinds() if first is None else KeyKinds(first.key, first.order)

    def close(self) -> tuple[Section, ...]:
        """Writes the footer; returns a section for each partition."""
        return self._writer.close()

    def abort(self) -> None:
        """Drops everything, the unfinished file included."""
        self._writer.abort()

    def _spread(self, columns: Columns, partitions: npt.NDArray[np.int32]) -> None:
        """One unsorted extent for each partition that has rows; within it they keep their order."""
        ordered = take_rows(columns, partition_order(partitions, self._reducers))
        self._write_extents(ordered, partition_borders(partitions, self._reducers), is_sorted=False)

    def _write_extents(
        self, columns: Columns, borders: npt.NDArray[np.int64], *, order_kind: str = "", is_sorted: bool
    ) -> None:
        """Requires: the rows are in partition order, and partition i begins at borders[i]."""
        for partition, (start, end) in enumerate(pairwise(borders.tolist())):
            if end > start:
                rows = slice_rows(columns, start, end - start)
                self._writer.add_extent(partition, rows, order_kind=order_kind, is_sorted=is_sorted)
