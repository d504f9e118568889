"""Values: one block of them becomes one typed column, and comes back exactly as it was.

The idea: most jobs' values are all int, float, str or bytes, and a typed column of these costs next to nothing. The
rest is "plain": msgpack, extended where msgpack forgets a type (plain.py). Only what is not plain data at all, an
object of a class, needs a pickle, and pickles are the submitter's explicit choice (`values = "pickle"`), opened in
the worker process that runs the submitter's code anyway.

The rule: decode(encode(values)) == values, types included, or `UnserialisableValue` that names type and remedy. All
values of one column have one kind; columns of different kinds may follow each other (`unify`).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import cloudpickle
import numpy as np
import pyarrow as pa

from onerack.errors import UnserialisableValue
from onerack.mapreduce import plain
from onerack.mapreduce.columns import Array, ValueKind
from onerack.mapreduce.kernels.buffers import bytes_list
from onerack.mapreduce.keys import one_array

_EXACT: Final[dict[type, ValueKind]] = {int: "int", float: "float", str: "str", bytes: "bytes", type(None): "none"}


def encode_values(values: Sequence[object], allow_pickle: bool = False) -> tuple[ValueKind, Array]:
    """Kind and column of a block of values.

    Raises: UnserialisableValue: some value is not plain data, and pickles are not allowed.
    Raises: OverflowError: the block exceeds what one array can hold; take fewer rows.
    """
    types = set(map(type, values))
    if any(issubclass(kind, np.generic) for kind in types):
        values = [value.item() if isinstance(value, np.generic) else value for value in values]
        types = set(map(type, values))
    if len(types) == 1:
        kind = _EXACT.get(types.pop())
        if kind is not None:
            column = _encode_typed(kind, values)
            if column is not None:
                return kind, column
    if not values:
        return "none", pa.nulls(0)
    try:
        return "plain", one_array(pa.array(plain.encode_all(values), pa.binary()))
    except UnserialisableValue:
        if not allow_pickle:
            raise
    return "pickle", one_array(pa.array(list(map(_pickle, values)), pa.binary()))


def _encode_typed(kind: ValueKind, values: Sequence[Any]) -> Array | None:
    """The column, or None when it cannot hold these (ints beyond 64 bits, strings with lone surrogates)."""
    try:
        if kind == "int":
            return pa.array(np.array(values, np.int64))
        if kind == "float":
            return pa.array(np.array(values, np.float64))
        if kind == "str":
            return one_array(pa.array(values, pa.string()))
    except OverflowError:
        if kind == "int":
            return None
        raise
    except UnicodeEncodeError:
        return None
    if kind == "bytes":
        return one_array(pa.array(values, pa.binary()))
    return pa.nulls(len(values))


def _pickle(value: object) -> bytes:
    try:
        return cast(bytes, cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))
    except Exception as error:
        raise UnserialisableValue(
            f"a value of type {type(value).__name__} cannot be pickled ({error}); emit the data it is made of instead"
        ) from error


def _unpickle(raw: bytes) -> object:
    # Only a worker comes here, and only for a job whose submitter chose values="pickle": the same submitter's code
    # runs in this process anyway.
    return pickle.loads(raw)  # noqa: S301


def decode_values(kind: ValueKind, array: Array) -> list[Any]:
    """The values of a column."""
    if kind in ("int", "float"):
        return cast("list[Any]", array.to_numpy(zero_copy_only=False).tolist())
    if kind == "str":
        return cast("list[Any]", array.to_pylist())
    if kind == "none":
        return [None] * len(array)
    raws = bytes_list(array)
    if kind == "bytes":
        return raws
    decode: Callable[[bytes], object] = plain.decode if kind == "plain" else _unpickle
    return list(map(decode, raws))


def identities(kind: ValueKind, array: Array) -> Array:
    """What tells values apart, as bytes: see `plain.identity`. Pickled values are told apart by their pickles."""
    if kind == "pickle":
        raws = [b"\x7f" + raw for raw in bytes_list(array)]
    else:
        raws = list(map(plain.identity, decode_values(kind, array)))
    return one_array(pa.array(raws, pa.binary()))


def unify(columns: Sequence[tuple[ValueKind, Array]]) -> tuple[ValueKind, list[Array]]:
    """Columns of several kinds as columns of one kind that holds them all."""
    kinds = {kind for kind, _ in columns}
    if len(kinds) == 1:
        return columns[0][0], [array for _, array in columns]
    target: ValueKind = "pickle" if "pickle" in kinds else "plain"
    arrays = []
    for kind, array in columns:
        if kind == target:
            arrays.append(array)
            continue
        values = decode_values(kind, array)
        raws = list(map(_pickle, values)) if target == "pickle" else plain.encode_all(values)
        arrays.append(one_array(pa.array(raws, pa.binary())))
    return target, arrays
