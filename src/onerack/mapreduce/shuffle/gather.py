"""The reduce side of `list`, `set`, `distinct` (and of `first` with a sort key): all values of a key meet.

The idea: rows come sorted, for `set` and `distinct` by the values' identities as well, so that equal values are
neighbours and counting them needs no memory. Within a window this is done for all keys at once.

The rule: `distinct` is exact in bounded memory; `list` and `set` hold one key's result, which is their value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onerack.mapreduce.columns import Array, Columns, KeyKind
from onerack.mapreduce.reducers import Distinct, First, ListOf, Reducer, SetOf
from onerack.mapreduce.shuffle.arrays import group_starts
from onerack.mapreduce.shuffle.windows import HugeKey, Window
from onerack.mapreduce.values import decode_values, encode_values


def gather(reduce: Reducer, stream: Iterable[Window | HugeKey]) -> Iterator[Columns]:
    """One row for each key of a sorted stream."""
    key_kind: KeyKind | None = None
    for found in stream:
        if isinstance(found, Window):
            key_kind = found.columns.key_kind
            yield _gather_window(reduce, found.columns)
        else:
            yield _gather_huge(reduce, found, key_kind)


def _gather_window(reduce: Reducer, columns: Columns) -> Columns:
    starts = group_starts(columns.keys)
    keys = columns.keys.take(pa.array(starts))
    if isinstance(reduce, First):
        return columns._replace(keys=keys, values=columns.values.take(pa.array(starts)), order=None)
    borders = np.append(starts, columns.rows)
    if isinstance(reduce, ListOf):
        return _as_lists(reduce, columns, keys, columns.values, borders)
    is_new = _is_new(columns.order)
    is_new[starts] = True
    if isinstance(reduce, Distinct):
        counts = np.add.reduceat(is_new.astype(np.int64), starts)
        return Columns(columns.key_kind, keys, "int", pa.array(counts))
    borders = np.concatenate([[0], np.cumsum(is_new)])[borders]
    return _as_lists(reduce, columns, keys, columns.values.filter(pa.array(is_new)), borders)


def _as_lists(reduce: Reducer, columns: Columns, keys: Array, values: Array, borders: Any) -> Columns:
    """One list for each key: values[borders[i] : borders[i + 1]]."""
    held = decode_values(columns.value_kind, values)
    lists = [held[start:end] for start, end in pairwise(borders.tolist())]
    if isinstance(reduce, SetOf):
        lists = list(map(reduce.arrange, lists))
    kind, results = encode_values(lists, allow_pickle=columns.value_kind == "pickle")
    return Columns(columns.key_kind, keys, kind, results)


def _is_new(order: Array | None) -> Any:
    """For each row whether its sort key is another than that of the row before; the first row is new."""
    assert order is not None, "rows for set and distinct carry the values' identities"
    is_new = np.ones(len(order), np.bool_)
    if len(order) > 1:
        is_new[1:] = pc.not_equal(order.slice(1), order.slice(0, len(order) - 1)).to_numpy(zero_copy_only=False)
    return is_new


def _gather_huge(reduce: Reducer, huge: HugeKey, key_kind: KeyKind | None) -> Columns:
    last: bytes | None = None
    count = 0
    values: list[Any] = []
    may_pickle = False
    for columns in huge.pieces:
        key_kind = columns.key_kind
        may_pickle = may_pickle or columns.value_kind == "pickle"
        if isinstance(reduce, First):
            return columns._replace(keys=columns.keys.slice(0, 1), values=columns.values.slice(0, 1), order=None)
        if isinstance(reduce, ListOf):
            values += decode_values(columns.value_kind, columns.values)
            continue
        assert columns.order is not None
        is_new = _is_new(columns.order)
        is_new[0] = columns.order[0].as_py() != last
        last = columns.order[-1].as_py()
        count += int(is_new.sum())
        if isinstance(reduce, SetOf):
            values += decode_values(columns.value_kind, columns.values.filter(pa.array(is_new)))
    result: Any = count if isinstance(reduce, Distinct) else values
    if isinstance(reduce, SetOf):
        result = reduce.arrange(values)
    kind, results = encode_values([result], allow_pickle=may_pickle)
    assert key_kind is not None
    return Columns(key_kind, pa.array([huge.raw], pa.binary()), kind, results)
