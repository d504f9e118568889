"""The map side's fold of Python pairs: one dict of states for a whole split.

The idea: word count is `sum` over ones, and counting is what `Counter` does in C. So a block of pairs is first asked,
in C, whether all its values are the int 1 (msgpack writes each as one byte, which no True and no 1.0 gives); then
its keys are counted without a line of Python. All other blocks go through the reducer's loop.

As long as there is nothing but counting to do, this happens in a table that is made for it (counting.py).

The rule: a dict merges what it holds equal, so nothing gets in that it would merge wrongly. Keys of kind str, bytes
and None equal only their like, and checking each *new* key is enough; ints, floats and bools are checked all; tuples,
whose parts a dict would merge, go in as canonical bytes. The size is computed from the data alone, never asked from
the process, so that a repeated task spills at the same rows and adds its floats in the same order.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, Final, cast

import msgspec
import numpy as np
import pyarrow as pa

from onerack.errors import BadKey, BadPair
from onerack.mapreduce.canonical import encode_str, encode_tuple, kind_of, mixed_kinds, preview
from onerack.mapreduce.columns import Array, Columns, KeyKind
from onerack.mapreduce.footprint import footprint
from onerack.mapreduce.keys import decode_keys, encode_kind, one_array
from onerack.mapreduce.reducers import Count, Reducer, Sum, TopK
from onerack.mapreduce.shuffle.counting import CountTable, count_table
from onerack.mapreduce.values import encode_values

Pairs = Sequence[tuple[object, object]]
_KEY_OVERHEAD: Final = 56
"""Header of a str or bytes object, rounded up; other keys are smaller than this altogether."""
_STATE_OVERHEAD: Final = 16
_SAMPLE: Final = 64
_PIECE_BYTES: Final = 8 << 20
"""Of states that are encoded at once: on the way to columns there are several copies of them."""
_second: Final = itemgetter(1)
_encode: Final = msgspec.msgpack.Encoder().encode


def unzip(pairs: Pairs) -> tuple[list[Any], list[Any]]:
    """Keys and values.

    Raises: BadPair: something else than a pair was emitted.
    """
    try:
        keys = [key for key, _ in pairs]
        return keys, list(map(_second, pairs))
    except (TypeError, ValueError, KeyError, IndexError):
        raise _no_pair(next(pair for pair in pairs if not _is_pair(pair))) from None


def check_pairs(pairs: Pairs) -> None:
    """Refuses what only looks like pairs, such as strings of two letters."""
    if not set(map(type, pairs)) <= {tuple, list}:
        for pair in pairs:
            if not _is_pair(pair):
                raise _no_pair(pair)


def _is_pair(pair: object) -> bool:
    return isinstance(pair, (tuple, list)) and len(pair) == 2


def _no_pair(emitted: object) -> BadPair:
    return BadPair(
        f"{type(emitted).__name__} {preview(emitted)} was emitted where a (key, value) pair must be; "
        "write `yield key, value`"
    )


class PairTable:
    """States by key: in a table of counts for as long as counting is all there is to do, else in one dict."""

    def __init__(self, reduce: Reducer, *, bytes_max: int, accelerate: bool) -> None:
        """`bytes_max`: the table will be drained when it is larger."""
        self.reduce = reduce
        self._bytes_max = bytes_max
        self.table: Counter[Any] = Counter()
        self.kind: KeyKind | None = None
        self._adds_ones = type(reduce) is Sum
        self._counts = type(reduce) is Count
        self._accelerate = accelerate
        self._may_count = self._adds_ones or self._counts
        self._counted: CountTable | None = None
        self._content_bytes = 0
        self._state_bytes = _STATE_OVERHEAD
        self._values_added = 0

    @property
    def is_empty(self) -> bool:
        return not self.table and (self._counted is None or not self._counted.size_bytes)

    @property
    def size_bytes(self) -> int:
        """What the table takes, near enough."""
        if self._counted is not None:
            return self._counted.size_bytes
        held = len(self.table)
        if isinstance(self.reduce, TopK):
            held = min(self._values_added, held * self.reduce.held_max)
        overhead = len(self.table) * _KEY_OVERHEAD + held * self._state_bytes
        return sys.getsizeof(self.table) + overhead + self._content_bytes

    def add(self, pairs: Pairs) -> None:
        """Folds a block of pairs, in order of emission."""
        if not pairs:
            return
        keys, values = unzip(pairs)
        try:
            kind, exact = self._check_keys(keys)
            if self._counts:
                check_pairs(pairs)
            only_counts = self._counts or (self._adds_ones and _are_ones(values))
            if only_counts and self._may_count and kind in ("str", "bytes"):
                self._count(kind, exact)
                return
            self._leave_counting()
            before = len(self.table)
            if only_counts:
                self.table.update(exact)
            else:
                check_pairs(pairs)
                self._add_values(exact, values)
        except TypeError as error:
            if not isinstance(error, BadPair):
                # An unhashable key, or one of another kind, is named better than Python does it.
                found, _ = kind_of(keys)
                if self.kind not in (None, found):
                    raise mixed_kinds(self.kind, found, keys[0]) from None
            raise
        self._measure(kind, len(self.table) - before)

    def _count(self, kind: KeyKind, keys: Sequence[Any]) -> None:
        if self._counted is None:
            self._counted = count_table(kind, self.reduce, bytes_max=self._bytes_max, accelerate=self._accelerate)
        self._counted.add(keys)

    def _leave_counting(self) -> None:
        """Goes on with one dict, for good: from now on states depend on the order of values."""
        self._may_count = False
        if self._counted is None:
            return
        counted, self._counted = self._counted, None
        if counted.size_bytes:
            columns = counted.drain()
            keys = decode_keys(columns.key_kind, columns.keys)
            self.table.update(dict(zip(keys, columns.values.to_pylist(), strict=True)))
            self._measure(columns.key_kind, len(keys))

    def _check_keys(self, keys: list[Any]) -> tuple[KeyKind, Sequence[Any]]:
        """The kind of the block, and its keys in the form in which the table holds them."""
        if self.kind in ("str", "bytes"):
            return self.kind, keys
        kind, exact = kind_of(keys)
        if self.kind is None:
            self.kind = kind
        elif kind != self.kind:
            raise mixed_kinds(self.kind, kind, keys[0])
        if kind == "tuple":
            return kind, [encode_tuple(cast("tuple[Any, ...]", key)) for key in exact]
        if kind == "float" and any(key != key for key in exact):
            encode_kind(kind, exact)
        return kind, exact

    def _add_values(self, keys: Sequence[Any], values: list[Any]) -> None:
        if any(issubclass(kind, np.generic) for kind in set(map(type, values))):
            values = [value.item() if isinstance(value, np.generic) else value for value in values]
        self.reduce.add_values(self.table, keys, values)
        self._state_bytes = max(self._state_bytes, footprint(values, _SAMPLE) // len(values))
        self._values_added += len(values)

    def _measure(self, kind: KeyKind, fresh_count: int) -> None:
        """Takes note of the keys that are new, and refuses those that must not be there."""
        if kind not in ("str", "bytes", "tuple"):
            return
        fresh = list(islice(reversed(self.table), fresh_count))
        base: Any = str if kind == "str" else bytes
        if not set(map(type, fresh)) <= {base}:
            for key in fresh:
                if not isinstance(key, base):
                    found, _ = kind_of([key])
                    raise mixed_kinds(kind, found, key)
        if kind != "str":
            self._content_bytes += sum(map(len, fresh))
            return
        joined = "".join(fresh)
        try:
            self._content_bytes += len(joined.encode())
        except UnicodeEncodeError:
            for key in fresh:
                encode_str(key)
            raise BadKey("a key holds a lone surrogate") from None

    def drain(self, allow_pickle: bool) -> Iterator[Columns]:
        """All states as columns, piece by piece, in order of first appearance; the table is empty afterwards."""
        assert self.kind is not None, "an empty table is not drained"
        if self._counted is not None:
            yield self._counted.drain()
            return
        keys, states = self.reduce.rows(self.table)
        self.table = Counter()
        self._content_bytes = 0
        self._values_added = 0
        step = max(1, _PIECE_BYTES // self._state_bytes)
        for start in range(0, len(keys), step):
            value_kind, values = encode_values(states[start : start + step], allow_pickle)
            yield Columns(self.kind, self._encode_keys(keys[start : start + step]), value_kind, values)

    def _encode_keys(self, keys: list[Any]) -> Array:
        if self.kind == "tuple":
            return one_array(pa.array(keys, pa.binary()))
        assert self.kind is not None
        return encode_kind(self.kind, keys)


def _are_ones(values: list[Any]) -> bool:
    """Whether every value is the int 1. The first one is looked at first, since most blocks that are not end there."""
    return type(values[0]) is int and values[0] == 1 and values.count(1) == len(values) and _only_ints(values)


def _only_ints(values: list[Any]) -> bool:
    """Whether values that all equal 1 are ints: msgpack writes the int 1 as 0x01, and True and 1.0 otherwise."""
    try:
        return _encode(values).endswith(b"\x01" * len(values))
    except TypeError:
        return False
