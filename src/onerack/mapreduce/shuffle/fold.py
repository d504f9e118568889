"""A fold of columns by key: states in, one state for each distinct key out.

The idea: columns pile up until they are worth a pass; then keys are numbered by hashing, in order of first
appearance, and the states of each number are folded natively. What comes out is put in front of what comes next, so
the fold is the same as one over all rows in sequence.

The rule: same states as reducers.py gives, bit for bit. Sums start at 0 and go in row order; where int64 would
overflow, or kinds mix, or the values are no numbers, the reducer's own loop takes over.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from onerack.mapreduce.canonical import decode_key, mixed_kinds, preview
from onerack.mapreduce.columns import Array, Columns, KeyKind, ValueKind
from onerack.mapreduce.kernels.buffers import bytes_list
from onerack.mapreduce.kernels.folding import fold_sum, number_keys
from onerack.mapreduce.keys import one_array
from onerack.mapreduce.reducers import Count, First, Max, Mean, Min, Reducer, Sum, TopK
from onerack.mapreduce.shuffle.arrays import group_starts
from onerack.mapreduce.values import decode_values, encode_values, unify

NATIVE_KINDS: Final = ("int", "float")
"""Values that are folded as arrays. (`first` looks at none.)"""


class ColumnFold:
    """Folds columns of states."""

    def __init__(self, reduce: Reducer, *, accelerate: bool) -> None:
        self.reduce = reduce
        self.kind: KeyKind | None = None
        self.size_bytes = 0
        """Of all rows held, folded and not."""
        self._accelerate = accelerate
        self._held: list[Columns] = []

    def add(self, columns: Columns) -> None:
        """Takes states in; they are later than all before."""
        if self.kind is None:
            self.kind = columns.key_kind
        elif columns.key_kind != self.kind:
            raise mixed_kinds(self.kind, columns.key_kind)
        if columns.rows:
            self._held.append(columns)
            self.size_bytes += columns.keys.nbytes + columns.values.nbytes

    def compact(self) -> Columns | None:
        """Folds what is held; returns it, too: distinct keys in order of first appearance."""
        if not self._held:
            return None
        assert self.kind is not None
        keys = one_array(pa.concat_arrays([columns.keys for columns in self._held]))
        value_kind, arrays = unify([(columns.value_kind, columns.values) for columns in self._held])
        values = one_array(pa.concat_arrays(arrays))
        self._held.clear()
        folded = self._fold(keys, value_kind, values)
        self.size_bytes = folded.keys.nbytes + folded.values.nbytes
        self._held.append(folded)
        return folded

    def drain(self) -> Columns | None:
        """As `compact`; the fold is empty afterwards."""
        folded = self.compact()
        self._held.clear()
        self.size_bytes = 0
        return folded

    def _fold(self, keys: Array, kind: ValueKind, values: Array) -> Columns:
        assert self.kind is not None
        if kind in NATIVE_KINDS:
            native = fold_numbers(self.reduce, keys, values.to_numpy(zero_copy_only=False), self._accelerate)
            if native is not None:
                return Columns(self.kind, native[0], kind, pa.array(native[1]))
        if type(self.reduce) is First:
            distinct, numbers = number_keys(keys, self._accelerate)
            firsts = first_rows(numbers, np.arange(len(keys)), len(distinct))
            return Columns(self.kind, distinct, kind, values.take(pa.array(firsts)))
        return self._fold_objects(keys, kind, values)

    def _fold_objects(self, keys: Array, kind: ValueKind, values: Array) -> Columns:
        """The reducer's own loop, over canonical keys."""
        assert self.kind is not None
        key_kind = self.kind
        table: dict[Any, Any] = {}
        self.reduce.add_states(
            table, bytes_list(keys), decode_values(kind, values), lambda raw: preview(decode_key(key_kind, raw))
        )
        raws, states = self.reduce.rows(table)
        state_kind, column = encode_values(states, allow_pickle=kind == "pickle")
        return Columns(key_kind, one_array(pa.array(raws, pa.binary())), state_kind, column)


def fold_numbers(
    reduce: Reducer, keys: Array, values: npt.NDArray[Any], accelerate: bool
) -> tuple[Array, npt.NDArray[Any]] | None:
    """Distinct keys and their states, or None when numpy cannot give what Python would."""
    if isinstance(reduce, (Sum, Count)):
        try:
            return fold_sum(keys, values, accelerate)
        except OverflowError:
            return None
    if isinstance(reduce, (Min, Max)):
        distinct, numbers = number_keys(keys, accelerate)
        return distinct, _extremes(reduce, numbers, values, len(distinct))
    return None


def _extremes(reduce: Reducer, numbers: npt.NDArray[Any], values: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    extreme = np.minimum if isinstance(reduce, Min) else np.maximum
    rows = np.arange(len(values))
    states = values[first_rows(numbers, rows, count)]
    with np.errstate(invalid="ignore"):  # NaN is meant to spread.
        extreme.at(states, numbers, values)
    if values.dtype == np.float64 and (states == 0).any():
        # 0.0 and -0.0 are equal, and the first of equals is the one to keep.
        equal = np.flatnonzero((values == 0) & (states[numbers] == 0))
        states[numbers[equal]] = values[first_rows(numbers[equal], equal, count)[numbers[equal]]]
    return states


def first_rows(numbers: npt.NDArray[Any], rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """For each number the first of its `rows`: assigned backwards, so that the first comes last and stays."""
    firsts = np.zeros(count, np.int64)
    firsts[numbers[::-1]] = rows[::-1]
    return firsts


def states_of(reduce: Reducer, columns: Columns) -> Columns:
    """Columns of values as columns of states, one for each row."""
    if isinstance(reduce, Count):
        return columns._replace(value_kind="int", values=pa.array(np.ones(columns.rows, np.int64)))
    if isinstance(reduce, Mean):
        values = decode_values(columns.value_kind, columns.values)
        table: dict[Any, Any] = {}
        reduce.add_values(table, range(len(values)), values, lambda row: preview(decode_row(columns, row)))
        kind, states = encode_values(list(table.values()))
        return columns._replace(value_kind=kind, values=states)
    return columns


def decode_row(columns: Columns, row: int) -> object:
    """The key of one row."""
    return decode_key(columns.key_kind, columns.keys[row].as_py())


def finish_states(reduce: Reducer, columns: Columns) -> Columns:
    """Folded states as results, one row for each key. Requires: rows of one key lie together."""
    if reduce.state_is_value:
        return columns
    states = decode_values(columns.value_kind, columns.values)
    starts = group_starts(columns.keys)
    if isinstance(reduce, TopK):
        borders = [*starts.tolist(), len(states)]
        states = [states[start:end] for start, end in pairwise(borders)]
    kind, results = encode_values(list(map(reduce.finish, states)), allow_pickle=columns.value_kind == "pickle")
    return columns._replace(keys=columns.keys.take(pa.array(starts)), value_kind=kind, values=results)
