"""The map side's buffer of rows, for jobs that a table cannot fold: encoded at once, sorted once, written as runs.

The idea: pairs become columns block by block, so that the buffer holds bytes (whose size is known exactly) and not
objects. When it is full it is sorted, stably, by partition, key and sort key, and becomes one sorted run for each
partition; equal rows are dropped where only distinct ones count.

The rule: rows of equal keys (and equal sort keys) stay in order of emission.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from onerack.errors import BadKey
from onerack.mapreduce.canonical import mixed_kinds
from onerack.mapreduce.columns import Columns, KeyKind
from onerack.mapreduce.keys import one_array
from onerack.mapreduce.shuffle.arrays import key_order, partition_borders, partition_order, take_rows
from onerack.mapreduce.values import unify


class RowBuffer:
    """Rows with their partitions, in order of emission."""

    def __init__(self, *, accelerate: bool) -> None:
        self.kind: KeyKind | None = None
        self.order_kind = ""
        self.size_bytes = 0
        self._accelerate = accelerate
        self._blocks: list[Columns] = []
        self._partitions: list[npt.NDArray[np.int32]] = []

    def add(self, columns: Columns, partitions: npt.NDArray[np.int32], order_kind: str) -> None:
        if self.kind is None:
            self.kind, self.order_kind = columns.key_kind, order_kind
        if columns.key_kind != self.kind:
            raise mixed_kinds(self.kind, columns.key_kind)
        if order_kind != self.order_kind:
            raise BadKey(f"sort_key: sort keys of two kinds in one job: {self.order_kind} and {order_kind}")
        self._blocks.append(columns)
        self._partitions.append(partitions)
        self.size_bytes += columns.keys.nbytes + columns.values.nbytes + partitions.nbytes
        if columns.order is not None:
            self.size_bytes += columns.order.nbytes

    def drain_sorted(self, reducers: int, *, distinct: bool) -> tuple[Columns, npt.NDArray[np.int64]]:
        """All rows by (partition, key, sort key), and where each partition starts. The buffer is empty afterwards.

        Requires: the buffer holds rows. `distinct`: of rows equal in key and sort key only the first stays.
        """
        columns, partitions = self._drain()
        order = key_order(columns.keys, columns.order, self._accelerate)
        order = order[partition_order(partitions[order], reducers)]
        columns, partitions = take_rows(columns, order), partitions[order]
        if distinct:
            kept = np.flatnonzero(_differs_from_last(columns))
            if len(kept) < columns.rows:
                columns, partitions = take_rows(columns, kept), partitions[kept]
        return columns, partition_borders(partitions, reducers)

    def _drain(self) -> tuple[Columns, npt.NDArray[np.int32]]:
        blocks, partitions = self._blocks, self._partitions
        self._blocks, self._partitions, self.size_bytes = [], [], 0
        value_kind, values = unify([(block.value_kind, block.values) for block in blocks])
        orders: list[Any] = [block.order for block in blocks]
        joined = Columns(
            blocks[0].key_kind,
            one_array(pa.concat_arrays([block.keys for block in blocks])),
            value_kind,
            one_array(pa.concat_arrays(values)),
            None if blocks[0].order is None else pa.concat_arrays(orders),
        )
        return joined, np.concatenate(partitions)


def _differs_from_last(columns: Columns) -> npt.NDArray[np.bool_]:
    """For each row of a sorted run whether its key or its sort key is another than that of the row before."""
    differs = np.ones(columns.rows, np.bool_)
    for array in (columns.keys, columns.order):
        if array is not None and columns.rows > 1:
            same = pc.equal(array.slice(1), array.slice(0, len(array) - 1)).to_numpy(zero_copy_only=False)
            differs[1:] = same if array is columns.keys else differs[1:] & same
    differs[1:] = ~differs[1:]
    return differs
