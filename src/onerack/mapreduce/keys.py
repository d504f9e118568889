"""Keys: every key has canonical bytes, and the order of the bytes is the order of the keys.

The idea: a dict merges 1, 1.0 and True, and `hash()` differs from process to process; whatever depended on either
would depend on where a split ends. So a job's keys are of ONE kind, each kind has one encoding whose byte order is
the order of the keys, and everything behind the user's code (hash, partition, sort, merge) sees bytes only.

    str    UTF-8, not normalised            float  8 bytes, big-endian, sign-folded; -0.0 is 0.0, NaN is refused
    bytes  as they are                      bool   0x00 or 0x01
    int    0x80 and 8 bytes of x + 2^63,    none   nothing
           longer forms beyond 64 bits      tuple  escaped, tagged parts (canonical.py)

The rule: equal keys have equal bytes, unequal keys unequal bytes, and a < b in Python exactly if bytes(a) < bytes(b).
Subclasses of these types (IntEnum, named tuples, numpy scalars) count as what they extend.

The hash that spreads keys over partitions, "crc32m", is crc32 of the canonical bytes, finished by a multiplication.
It is one function for all doors and kernels, and it is named in every shuffle file.

Source: Dean & Ghemawat, OSDI 2004, sections 4.1 (partitioning) and 4.2 (ordering).
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from onerack.mapreduce.canonical import (
    DECODE_ONE,
    ENCODE_ONE,
    INLINE,
    SIGN,
    decode_key,
    encode_float,
    encode_key,
    encode_str,
    kind_of,
)
from onerack.mapreduce.columns import Array, KeyKind
from onerack.mapreduce.kernels.buffers import binary_array, bytes_list, rows_of
from onerack.mapreduce.kernels.hashing import crc32_of

HASH_NAME: Final = "crc32m"
"""Name of the partition hash, written into every shuffle file."""
_MULTIPLIER: Final = 0x9E3779B1
_MASK: Final = 0xFFFFFFFF

__all__ = [
    "HASH_NAME", "decode_key", "decode_keys", "encode_key", "encode_keys", "encode_kind", "hash_of", "kind_of",
    "one_array", "partition_of", "partitions_of", "prefixes_of", "ranges_of",
]  # fmt: skip


def encode_keys(keys: Sequence[object]) -> tuple[KeyKind, Array]:
    """Kind and canonical bytes (pa.binary()) of a block of keys.

    Raises: BadKey: as `kind_of`, and for NaN and lone surrogates.
    """
    kind, exact = kind_of(keys)
    return kind, encode_kind(kind, exact)


def encode_kind(kind: KeyKind, keys: Sequence[Any]) -> Array:
    """Canonical bytes of `keys`, which are known to be of `kind`."""
    if kind == "str":
        try:
            return one_array(pa.array(keys, pa.string())).view(pa.binary())
        except UnicodeEncodeError:
            return pa.array(list(map(encode_str, keys)), pa.binary())
    if kind == "bytes":
        return one_array(pa.array(keys, pa.binary()))
    if kind == "int":
        try:
            return _encode_int64s(np.array(keys, np.int64))
        except OverflowError:
            pass
    if kind == "float":
        return _encode_float64s(np.array(keys, np.float64))
    return one_array(pa.array(list(map(ENCODE_ONE[kind], keys)), pa.binary()))


def one_array(array: Array) -> Array:
    """Refuses what pyarrow had to cut in pieces, because it exceeds the offsets of one array.

    Raises: OverflowError: the caller must take fewer rows at once.
    """
    if isinstance(array, pa.ChunkedArray):
        raise OverflowError("a block of keys or values exceeds 2 GiB")
    return array


def _encode_int64s(keys: npt.NDArray[np.int64]) -> Array:
    rows = np.empty((len(keys), 9), np.uint8)
    rows[:, 0] = INLINE
    rows[:, 1:] = (keys.view(np.uint64) ^ np.uint64(SIGN)).astype(">u8").view(np.uint8).reshape(-1, 8)
    return _fixed_width(rows)


def _encode_float64s(keys: npt.NDArray[np.float64]) -> Array:
    if np.isnan(keys).any():
        encode_float(float("nan"))
    bits = (keys + 0.0).view(np.uint64)
    folded = np.where(bits >> np.uint64(63), ~bits, bits | np.uint64(SIGN))
    return _fixed_width(folded.astype(">u8").view(np.uint8).reshape(-1, 8))


def _fixed_width(rows: npt.NDArray[np.uint8]) -> Array:
    """An array of equally long byte strings, one for each row."""
    count, width = rows.shape
    return binary_array(rows.reshape(-1), (np.arange(count + 1) * width).astype(np.int32))


def decode_keys(kind: KeyKind, array: Array) -> list[Any]:
    """The keys whose canonical bytes are `array`, in its order."""
    if kind == "str":
        return cast("list[Any]", array.cast(pa.string()).to_pylist())
    if kind == "none":
        return [None] * len(array)
    raws = bytes_list(array)
    if kind == "bytes":
        return raws
    return list(map(DECODE_ONE[kind], raws))


# ---------------------------------------------------------------------------------------------- partitions


def hash_of(raw: bytes) -> int:
    """crc32m: 32 bits, the same in every process."""
    return (zlib.crc32(raw) * _MULTIPLIER) & _MASK


def partition_of(raw: bytes, reducers: int) -> int:
    """The partition of a key with canonical bytes `raw`. The multiplication replaces a division: h * R / 2^32."""
    return hash_of(raw) * reducers >> 32


def partitions_of(
    keys: Array, reducers: int, splitters: Sequence[bytes] = (), *, accelerate: bool = True
) -> npt.NDArray[np.int32]:
    """The partition of each key: by hash, or by range when there are splitters (s[i-1] <= key < s[i])."""
    if splitters:
        return ranges_of(keys, splitters)
    hashes = (crc32_of(keys, accelerate).astype(np.uint64) * np.uint64(_MULTIPLIER)) & np.uint64(_MASK)
    return ((hashes * np.uint64(reducers)) >> np.uint64(32)).astype(np.int32)


def ranges_of(keys: Array, splitters: Sequence[bytes]) -> npt.NDArray[np.int32]:
    """How many of the sorted `splitters` are at or below each key: binary search on 8-byte prefixes, ties by bytes."""
    prefixes = prefixes_of(keys)
    borders = prefixes_of(pa.array(splitters, pa.binary()))
    found = np.searchsorted(borders, prefixes, side="right").astype(np.int32)
    tied = np.flatnonzero(np.searchsorted(borders, prefixes, side="left") != found)
    if len(tied):
        found[tied] = [bisect_right(splitters, raw) for raw in bytes_list(keys.take(pa.array(tied)))]
    return found


def prefixes_of(keys: Array) -> npt.NDArray[np.uint64]:
    """The first 8 bytes of each key as a number, zeros after short ones: a < b implies prefix(a) <= prefix(b)."""
    rows = rows_of(keys)
    starts = rows.offsets[:-1].astype(np.int64)
    lengths = np.minimum(np.diff(rows.offsets), 8)
    prefixes = np.zeros(len(rows), np.uint64)
    for place in range(int(lengths.max(initial=0))):
        inside = np.flatnonzero(lengths > place)
        prefixes[inside] |= rows.data[starts[inside] + place].astype(np.uint64) << np.uint64(56 - 8 * place)
    return prefixes
