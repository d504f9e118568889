"""Sorted runs become one sorted stream, a window at a time.

The idea: a k-way merge row by row is the slowest thing Python can do. Instead look a little ahead in every run, take
the smallest key found there as a border, and cut every run at it by binary search: what lies below the border is
complete, small enough by construction, and is joined and sorted natively. Runs are mapped files; nothing is copied
before the cut.

A key whose rows fill more than the look-ahead is *huge*: no border can be drawn above it. It is handed over by
itself, as the list of its slices in run order, or, where values are sorted too, through windows over its sort keys.

The rule: rows of equal keys (and equal sort keys) come in run order, which is (map index, emission) order. Memory is
one window, whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from onerack.mapreduce.columns import Array, Columns
from onerack.mapreduce.keys import one_array
from onerack.mapreduce.shuffle.arrays import key_order, lower_bound, row_ends, slice_rows, take_rows, upper_bound
from onerack.mapreduce.values import unify

SortedBy = Literal["keys", "order"]


class Window(NamedTuple):
    """Sorted rows. All rows of their keys are among them."""

    columns: Columns


class HugeKey(NamedTuple):
    """One key with more rows than a window. `pieces` are its rows, in order; they need not be read to the end."""

    raw: bytes
    pieces: Iterable[Columns]


class _Cursor:
    """A place in one sorted run."""

    def __init__(self, chunks: Sequence[Columns], sorted_by: SortedBy) -> None:
        self._chunks = [chunk for chunk in chunks if chunk.rows]
        self._sorted_by = sorted_by
        self._chunk = 0
        self._row = 0
        self._enter()

    def _enter(self) -> None:
        if not self.at_end:
            current = self._chunks[self._chunk]
            self._names: Array = getattr(current, self._sorted_by)
            arrays = [current.keys, current.values, *([] if current.order is None else [current.order])]
            self._ends = np.sum([row_ends(array) for array in arrays], axis=0)

    @property
    def at_end(self) -> bool:
        return self._chunk == len(self._chunks)

    def name_beyond(self, budget: int) -> bytes | None:
        """The name of the first row more than `budget` bytes (and at least one row) ahead; None: there is none."""
        reach = int(np.searchsorted(self._ends, self._ends[self._row] + budget, side="right")) - 1
        reach = max(reach, self._row + 1)
        if reach < len(self._names):
            return _bytes_at(self._names, reach)
        if self._chunk + 1 < len(self._chunks):
            return _bytes_at(getattr(self._chunks[self._chunk + 1], self._sorted_by), 0)
        return None

    def take_below(self, border: bytes | None) -> list[Columns]:
        """Moves to the first row whose name is not below `border`, and returns the rows passed."""
        return self._take(lambda names, row: len(names) if border is None else lower_bound(names, border, row))

    def take_equal(self, name: bytes) -> list[Columns]:
        """Moves behind the rows called `name`, and returns them. Requires: no row ahead is below `name`."""
        return self._take(lambda names, row: upper_bound(names, name, row))

    def _take(self, bound: Any) -> list[Columns]:
        taken = []
        while not self.at_end:
            end = bound(self._names, self._row)
            if end > self._row:
                taken.append(slice_rows(self._chunks[self._chunk], self._row, end - self._row))
            if end < len(self._names):
                self._row = end
                break
            self._chunk += 1
            self._row = 0
            self._enter()
        return taken


def _bytes_at(array: Array, row: int) -> bytes:
    found: bytes = array[row].as_py()
    return found


def windows(
    runs: Sequence[Sequence[Columns]],
    *,
    by_order: bool,
    window_bytes: int,
    accelerate: bool,
    sorted_by: SortedBy = "keys",
) -> Iterator[Window | HugeKey]:
    """The rows of sorted runs in order of their keys, and of their sort keys if `by_order`."""
    cursors = [cursor for cursor in (_Cursor(run, sorted_by) for run in runs) if not cursor.at_end]
    while cursors:
        budget = window_bytes // len(cursors)
        names = [name for name in (cursor.name_beyond(budget) for cursor in cursors) if name is not None]
        border = min(names, default=None)
        taken = [cursor.take_below(border) for cursor in cursors]
        if any(taken):
            yield Window(_joined(taken, by_order, sorted_by, accelerate))
        else:
            assert border is not None, "without a border everything is taken"
            slices = [cursor.take_equal(border) for cursor in cursors]
            yield HugeKey(border, _pieces(slices, by_order, window_bytes, accelerate))
        cursors = [cursor for cursor in cursors if not cursor.at_end]


def _pieces(slices: list[list[Columns]], by_order: bool, window_bytes: int, accelerate: bool) -> Iterator[Columns]:
    """The rows of one huge key: in run order, or by sort key (and what is huge there too in run order)."""
    if not by_order:
        for of_run in slices:
            yield from of_run
        return
    for found in windows(slices, by_order=False, window_bytes=window_bytes, accelerate=accelerate, sorted_by="order"):
        if isinstance(found, Window):
            yield found.columns
        else:
            yield from found.pieces


def _joined(taken: list[list[Columns]], by_order: bool, sorted_by: SortedBy, accelerate: bool) -> Columns:
    """The slices of a window as one, sorted. Slices of one run are in order already."""
    slices = [piece for of_run in taken for piece in of_run]
    joined = concat_columns(slices)
    if sum(map(bool, taken)) == 1:
        return joined
    names = joined.keys if sorted_by == "keys" else joined.order
    return take_rows(joined, key_order(names, joined.order if by_order else None, accelerate))


def concat_columns(slices: Sequence[Columns]) -> Columns:
    """Rows of several columns, one after the other."""
    if len(slices) == 1:
        return slices[0]
    value_kind, values = unify([(piece.value_kind, piece.values) for piece in slices])
    orders: list[Any] = [piece.order for piece in slices]
    return Columns(
        slices[0].key_kind,
        one_array(pa.concat_arrays([piece.keys for piece in slices])),
        value_kind,
        one_array(pa.concat_arrays(values)),
        None if orders[0] is None else one_array(pa.concat_arrays(orders)),
    )
