"""The map side for jobs that fold by themselves: takes distinct keys with their states, and only spreads them.

The idea: a builtin job that has counted a whole split has nothing left to fold, and the general collector would do it
once more (a third of the time of counting). The sections are the same: unsorted extents of states, which the reduce
side (`fold_partition`) hashes together.

The rule: each call's keys are distinct; keys may come again in the next call, which is a spill.
"""

from __future__ import annotations

from onerack.mapreduce.columns import Columns
from onerack.mapreduce.keys import partitions_of
from onerack.mapreduce.shuffle.map_side import MapSide


class FoldedCollector(MapSide):
    """Collects states of one map attempt. Ended by `close` or `abort`."""

    def __init__(self, path: str, *, reducers: int, accelerate: bool) -> None:
        super().__init__(path, reducers=reducers)
        self._accelerate = accelerate

    def add_columns(self, columns: Columns) -> None:
        """Writes one extent for each partition that has rows."""
        if not columns.rows:
            return
        self.spills += self._writer.rows_written > 0
        self._spread(columns, partitions_of(columns.keys, self._reducers, accelerate=self._accelerate))
