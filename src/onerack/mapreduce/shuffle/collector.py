"""The map side of the shuffle: takes what the user's map emits, leaves one shuffle file with R sections.

The idea: what happens to a pair depends on the reducer alone.

    builtin, folding    one table of states for the whole split; at the end only its distinct keys are encoded,
                        hashed, put in partition order and written, unsorted: the reduce side hashes them again
    everything else     rows are buffered as columns, sorted by (partition, key, sort key), combined if the user
                        says how, and written as sorted runs

The rule: memory is bounded by spilling (the sizes are computed from the data, so a repeated attempt spills at the
same rows), and the sections say the same however often it spilled.

Source: Dean & Ghemawat, OSDI 2004, sections 3.1 and 4.3 (combiner).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from onerack.errors import BadPair
from onerack.mapreduce.columns import Columns
from onerack.mapreduce.keys import encode_keys
from onerack.mapreduce.messages import Section
from onerack.mapreduce.reducers import First, Gather, ListOf, Reducer
from onerack.mapreduce.shuffle.buffer import RowBuffer
from onerack.mapreduce.shuffle.combining import Combine, combined
from onerack.mapreduce.shuffle.fold import ColumnFold, states_of
from onerack.mapreduce.shuffle.map_side import MapSide
from onerack.mapreduce.shuffle.placing import Partition, Placing, SortKey, order_of_columns, order_of_pairs
from onerack.mapreduce.shuffle.tables import Pairs, PairTable, check_pairs, unzip
from onerack.mapreduce.values import encode_values, identities

_TABLE_SHARE: Final = 0.4
"""Of the worker's memory: emptying a table into columns takes about as much again."""
_BUFFER_SHARE: Final = 0.2
"""Sorting a buffer takes two copies of it and an order."""
_BYTES_MIN: Final = 64 << 10
"""Smaller buffers would cost more to write than they save."""
_BYTES_MAX: Final = 512 << 20
"""No buffer outgrows the 32-bit offsets of one array, however much memory there is."""


class Collector(MapSide):
    """Collects the pairs of one map attempt. Ended by `close` or `abort`."""

    def __init__(
        self,
        path: str,
        *,
        reducers: int,
        reduce: Reducer | None,
        combine: Combine | None = None,
        partition: Partition | None = None,
        splitters: Sequence[bytes] = (),
        sort_key: SortKey | None = None,
        memory_bytes: int,
        allow_pickle: bool = False,
        accelerate: bool = True,
    ) -> None:
        super().__init__(path, reducers=reducers)
        self._combine = combine
        self._is_combining = False
        self._sort_key = sort_key if _uses_sort_key(reduce) else None
        self._distinct = isinstance(reduce, Gather) and reduce.wants_distinct
        self._allow_pickle = allow_pickle
        self._placing = Placing(reducers, partition, splitters, accelerate=accelerate)
        self._table_bytes_max = _within_limits(memory_bytes * _TABLE_SHARE)
        self._buffer_bytes_max = _within_limits(memory_bytes * _BUFFER_SHARE)
        folding = None if reduce is None or reduce.gathers or self._sort_key is not None else reduce
        self._table = (
            None if folding is None else PairTable(folding, bytes_max=self._table_bytes_max, accelerate=accelerate)
        )
        self._fold = None if folding is None else ColumnFold(folding, accelerate=accelerate)
        self._fold_bytes_folded = 0
        self._buffer = RowBuffer(accelerate=accelerate)

    # ------------------------------------------------------------------------------------------ in

    def add_pairs(self, pairs: Pairs) -> None:
        """Takes a block of pairs, in order of emission.

        Raises: BadPair: (BadKey, UnserialisableValue, IncomparableValues, BadPartition) the block is unusable.
        """
        if not pairs:
            return
        if self._table is None or self._combine is not None:
            self._buffer_pairs(pairs)
            return
        if self._fold is not None and self._fold.size_bytes:
            self._spill()
        self._table.add(pairs)
        if self._table.size_bytes > self._table_bytes_max:
            self._spill()

    def add_columns(self, columns: Columns) -> None:
        """Takes pairs that are columns already; otherwise as `add_pairs`."""
        if not columns.rows:
            return
        if self._fold is None or self._combine is not None:
            self._buffer_columns(columns)
            return
        if self._table is not None and not self._table.is_empty:
            self._spill()
        self._fold.add(states_of(self._fold.reduce, columns))
        if self._fold.size_bytes > max(self._buffer_bytes_max, 2 * self._fold_bytes_folded):
            self._fold.compact()
            self._fold_bytes_folded = self._fold.size_bytes
        if self._fold.size_bytes > 2 * self._buffer_bytes_max:
            self._spill()

    def _buffer_pairs(self, pairs: Pairs) -> None:
        """Encodes a block and buffers it; a block that no array can hold is taken in halves."""
        keys, values = unzip(pairs)
        check_pairs(pairs)
        try:
            key_kind, raws = encode_keys(keys)
            value_kind, column = encode_values(values, self._allow_pickle)
        except (OverflowError, pa.ArrowCapacityError):
            if len(pairs) == 1:
                raise BadPair("a key or value of 2 GiB or more was emitted; emit it in pieces") from None
            self._buffer_pairs(pairs[: len(pairs) // 2])
            self._buffer_pairs(pairs[len(pairs) // 2 :])
            return
        columns = Columns(key_kind, raws, value_kind, column)
        order_kind = ""
        if self._sort_key is not None:
            order_kind, order = order_of_pairs(self._sort_key, keys, values)
            columns = columns._replace(order=order)
        partitions = self._placing.of_columns(columns) if self._placing.is_native else self._placing.of_keys(keys)
        self._buffer_rows(columns, partitions, order_kind)

    def _buffer_columns(self, columns: Columns) -> None:
        order_kind = ""
        if self._sort_key is not None and columns.order is None:
            order_kind, order = order_of_columns(self._sort_key, columns)
            columns = columns._replace(order=order)
        self._buffer_rows(columns, self._placing.of_columns(columns), order_kind)

    def _buffer_rows(self, columns: Columns, partitions: npt.NDArray[np.int32], order_kind: str) -> None:
        if self._distinct:
            columns = columns._replace(order=identities(columns.value_kind, columns.values))
        self._buffer.add(columns, partitions, order_kind)
        if self._buffer.size_bytes > self._buffer_bytes_max and not self._is_combining:
            self._spill()

    # ------------------------------------------------------------------------------------------ out

    def close(self) -> tuple[Section, ...]:
        """Writes what is left and the footer; returns the R sections."""
        self._write_held()
        return super().close()

    def _spill(self) -> None:
        self.spills += 1
        self._write_held()

    def _write_held(self) -> None:
        if self._combine is not None and self._buffer.size_bytes:
            self._combine_buffer(self._combine)
        if self._table is not None and not self._table.is_empty:
            for states in self._table.drain(self._allow_pickle):
                self._spread(states, self._placing.of_columns(states))
        if self._fold is not None and self._fold.size_bytes:
            folded = self._fold.drain()
            assert folded is not None, "a fold of some size holds rows"
            self._spread(folded, self._placing.of_columns(folded))
        self._fold_bytes_folded = 0
        if self._buffer.size_bytes:
            columns, borders = self._buffer.drain_sorted(self._reducers, distinct=self._distinct)
            self._write_extents(columns, borders, order_kind=self._buffer.order_kind, is_sorted=True)

    def _combine_buffer(self, combine: Combine) -> None:
        """Replaces the buffered rows by what `combine` makes of them: states when the reducer folds, else rows."""
        columns, _ = self._buffer.drain_sorted(self._reducers, distinct=False)
        self._is_combining = True
        for block in combined(columns, combine):
            if self._table is not None:
                self._table.add(block)
            else:
                self._buffer_pairs(block)
        self._is_combining = False


def _within_limits(size: float) -> int:
    return max(_BYTES_MIN, min(int(size), _BYTES_MAX))


def _uses_sort_key(reduce: Reducer | None) -> bool:
    """Whether the order of values can be seen: by functions, by `list` and by `first`."""
    return reduce is None or isinstance(reduce, (ListOf, First))
