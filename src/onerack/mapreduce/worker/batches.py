"""Record batches that `map_batch` emits: two Arrow columns, key and value, on their way into the shuffle.

The idea: whoever uses `map_batch` has his pairs in Arrow already, and Arrow is what the shuffle wants. For the usual
types the columns pass without a Python object being made; other types take the way over Python values, where keys.py
and values.py decide. The rule: a batch means exactly what its rows would mean, emitted one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from onerack.errors import BadKey, BadPair
from onerack.mapreduce.columns import Array, Columns, KeyKind, ValueKind
from onerack.mapreduce.keys import encode_keys, encode_kind
from onerack.mapreduce.values import encode_values

ROWS_MAX = 65_536
"""Rows of one batch of columns: far from where an array's offsets end."""


def is_table(emitted: object) -> bool:
    return isinstance(emitted, (pa.RecordBatch, pa.Table))


def columns_of(table: Any) -> Iterator[Columns]:
    """The rows of a record batch or table with the columns `key` and `value`.

    Raises: BadPair: it has other columns; a key is null.
    """
    if not is_table(table):
        raise BadPair(f"map_batch emitted a {type(table).__name__} among tables; emit pairs, or tables, not both")
    names = list(table.schema.names)
    if sorted(names) != ["key", "value"]:
        raise BadPair(f"map_batch emitted a table with the columns {names}; it must have two, key and value")
    for batch in table.to_batches(max_chunksize=ROWS_MAX) if isinstance(table, pa.Table) else _pieces(table):
        key_kind, keys = _keys(batch.column("key"))
        value_kind, values = _values(batch.column("value"))
        yield Columns(key_kind, keys, value_kind, values)


def pairs_of_table(table: Any) -> list[tuple[Any, Any]]:
    """The same rows as Python pairs."""
    return list(zip(table.column("key").to_pylist(), table.column("value").to_pylist(), strict=True))


def _pieces(batch: Any) -> Iterator[Any]:
    for start in range(0, batch.num_rows, ROWS_MAX):
        yield batch.slice(start, ROWS_MAX)


def _plain(array: Array) -> Array:
    """Without dictionary encoding or large offsets."""
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        return array.cast(pa.string())
    if pa.types.is_large_binary(array.type) or pa.types.is_binary_view(array.type):
        return array.cast(pa.binary())
    return array


def _keys(array: Array) -> tuple[KeyKind, Array]:
    array = _plain(array)
    if array.null_count and not pa.types.is_null(array.type):
        raise BadKey("map_batch emitted a null among its keys; keys of one job are of one kind")
    if pa.types.is_string(array.type):
        return "str", array.cast(pa.binary())
    if pa.types.is_binary(array.type):
        return "bytes", array
    if pa.types.is_signed_integer(array.type):
        return "int", encode_kind("int", array.cast(pa.int64()).to_numpy(zero_copy_only=False))
    if pa.types.is_float64(array.type):
        return "float", encode_kind("float", array.to_numpy(zero_copy_only=False))
    return encode_keys(array.to_pylist())


def _values(array: Array) -> tuple[ValueKind, Array]:
    array = _plain(array)
    if not array.null_count:
        if pa.types.is_signed_integer(array.type):
            return "int", array.cast(pa.int64())
        if pa.types.is_float64(array.type):
            return "float", array
        if pa.types.is_string(array.type):
            return "str", array
        if pa.types.is_binary(array.type):
            return "bytes", array
    return encode_values(array.to_pylist())
