"""Which partition a key belongs to, and what a value is sorted by: the two questions asked of every row.

The idea: both have a native answer (hash or splitters; none) and a user's answer (`partition`, `sort_key`), and the
user's is asked as seldom as possible. The rule: the answer depends on the key (and value) alone; what a user's
function returns is checked before it is used.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onerack.errors import BadKey, BadPartition
from onerack.mapreduce.canonical import kind_of, preview
from onerack.mapreduce.columns import Array, Columns
from onerack.mapreduce.keys import decode_keys, encode_kind, partitions_of
from onerack.mapreduce.values import decode_values

Partition = Callable[[Any, int], int]
SortKey = Callable[[Any, Any], Any]


class Placing:
    """How rows are spread over R partitions."""

    def __init__(
        self, reducers: int, partition: Partition | None, splitters: Sequence[bytes], *, accelerate: bool
    ) -> None:
        self.reducers = reducers
        self.is_native = partition is None
        self._partition = partition
        self._splitters = list(splitters)
        self._accelerate = accelerate

    def of_columns(self, columns: Columns) -> npt.NDArray[np.int32]:
        """The partition of each row."""
        if self._partition is None:
            return partitions_of(columns.keys, self.reducers, self._splitters, accelerate=self._accelerate)
        return self.of_keys(decode_keys(columns.key_kind, columns.keys))

    def of_keys(self, keys: Sequence[Any]) -> npt.NDArray[np.int32]:
        """The partition of each key by the user's function, which is asked once for keys that repeat themselves."""
        asked: dict[tuple[type, Any], int] = {}
        found = np.empty(len(keys), np.int32)
        for row, key in enumerate(keys):
            # A tuple's parts may be equal and yet differ in kind, so tuples are asked for one by one.
            name = (type(key), key if type(key) is not tuple else row)
            place = asked.get(name)
            if place is None:
                place = asked[name] = self._ask(key)
            found[row] = place
        return found

    def _ask(self, key: Any) -> int:
        assert self._partition is not None
        returned = self._partition(key, self.reducers)
        try:
            place = operator.index(returned)
        except TypeError:
            place = -1
        if not 0 <= place < self.reducers:
            raise BadPartition(
                f"partition({preview(key)}, {self.reducers}) returned {preview(returned)}; "
                f"it must return an int from 0 to {self.reducers - 1}"
            )
        return place


def order_of_pairs(sort_key: SortKey, keys: Sequence[Any], values: Sequence[Any]) -> tuple[str, Array]:
    """Kind and canonical bytes of the sort keys.

    Raises: BadKey: the sort keys are of two kinds, or of none.
    """
    try:
        kind, exact = kind_of(list(map(sort_key, keys, values)))
        return kind, encode_kind(kind, exact)
    except BadKey as error:
        raise BadKey(f"sort_key: {error}") from error


def order_of_columns(sort_key: SortKey, columns: Columns) -> tuple[str, Array]:
    keys = decode_keys(columns.key_kind, columns.keys)
    return order_of_pairs(sort_key, keys, decode_values(columns.value_kind, columns.values))
