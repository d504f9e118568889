"""Slices, sizes and orders of Arrow columns: what every file of the shuffle does with rows.

The idea: rows are moved by position (an order, a slice, a border), never one by one. The rule: every sort is stable,
so that rows with equal keys stay in (map index, emission) order from the first file to the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from onerack.mapreduce.columns import Array, Columns
from onerack.mapreduce.kernels.sorting import sort_order

_SMALL_PARTITION: Final = 1 << 16
_VARIABLE: Final = (pa.binary(), pa.string())


def use_one_thread() -> None:
    """A task has one core: more threads of Arrow would only fight the other workers' tasks."""
    if pa.cpu_count() != 1:
        pa.set_cpu_count(1)


def row_ends(array: Array) -> npt.NDArray[np.int64]:
    """How many bytes the rows up to and including each one take; the first of len + 1 entries is 0."""
    if array.type in _VARIABLE:
        offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
        return offsets.astype(np.int64) - int(offsets[0]) + 4 * np.arange(len(array) + 1)
    width = 0 if array.type == pa.null() else array.type.bit_width // 8
    return width * np.arange(len(array) + 1, dtype=np.int64)


def cut_rows(arrays: Sequence[Array], bytes_max: int, rows_max: int) -> Iterator[tuple[int, int]]:
    """(start, rows) of consecutive pieces of at most `bytes_max` and `rows_max`, but at least one row each."""
    count = len(arrays[0])
    if not count:
        return
    ends = sum((row_ends(array) for array in arrays[1:]), row_ends(arrays[0]))
    start = 0
    while start < count:
        stop = int(np.searchsorted(ends, ends[start] + bytes_max, side="right")) - 1
        stop = min(max(stop, start + 1), start + rows_max, count)
        yield start, stop - start
        start = stop


def first_and_last(keys: Array, is_sorted: bool) -> tuple[bytes, bytes]:
    """The smallest and the largest key. Requires: at least one."""
    if is_sorted:
        return keys[0].as_py(), keys[-1].as_py()
    bounds = pc.min_max(keys)
    return bounds["min"].as_py(), bounds["max"].as_py()


def take_rows(columns: Columns, order: npt.NDArray[Any]) -> Columns:
    """The rows in the given order."""
    indices = pa.array(order)
    return columns._replace(
        keys=columns.keys.take(indices),
        values=columns.values.take(indices) if len(columns.values) else columns.values,
        order=None if columns.order is None else columns.order.take(indices),
    )


def slice_rows(columns: Columns, start: int, rows: int) -> Columns:
    return columns._replace(
        keys=columns.keys.slice(start, rows),
        values=columns.values.slice(start, rows),
        order=None if columns.order is None else columns.order.slice(start, rows),
    )


def key_order(keys: Array, order: Array | None, accelerate: bool) -> npt.NDArray[np.int64]:
    """The stable order of rows by key, and among equal keys by `order` when there is one."""
    if order is None:
        return sort_order(keys, accelerate)
    first = sort_order(order, accelerate)
    return first[sort_order(keys.take(pa.array(first)), accelerate)]


def partition_order(partitions: npt.NDArray[np.int32], reducers: int) -> npt.NDArray[np.int64]:
    """The stable order of rows by partition. Below 65,536 partitions numpy counts instead of comparing."""
    narrow = partitions.astype(np.uint16) if reducers <= _SMALL_PARTITION else partitions
    return np.argsort(narrow, kind="stable")


def partition_borders(partitions: npt.NDArray[np.int32], reducers: int) -> npt.NDArray[np.int64]:
    """Where each partition starts once rows are in partition order; the last of R + 1 entries is the end."""
    borders = np.zeros(reducers + 1, np.int64)
    np.cumsum(np.bincount(partitions, minlength=reducers), out=borders[1:])
    return borders


def group_starts(keys: Array) -> npt.NDArray[np.int64]:
    """The rows of a sorted array at which another key begins."""
    if not len(keys):
        return np.zeros(0, np.int64)
    differs = pc.not_equal(keys.slice(1), keys.slice(0, len(keys) - 1)).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.flatnonzero(differs) + 1])


def lower_bound(keys: Array, key: bytes, start: int = 0) -> int:
    """How many rows of a sorted array come before the first that is >= `key`."""
    return _bound(keys, key, start, lambda found: found < key)


def upper_bound(keys: Array, key: bytes, start: int = 0) -> int:
    """How many rows of a sorted array come before the first that is > `key`."""
    return _bound(keys, key, start, lambda found: found <= key)


def _bound(keys: Array, key: bytes, start: int, goes_before: Any) -> int:
    low, high = start, len(keys)
    while low < high:
        middle = (low + high) // 2
        if goes_before(keys[middle].as_py()):
            low = middle + 1
        else:
            high = middle
    return low
