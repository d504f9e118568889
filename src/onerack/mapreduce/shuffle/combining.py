"""The user's `combine`, applied to a sorted buffer before it is written.

The idea: after the sort all values of a key lie together, so one pass over the buffer calls `combine` once for each
key; what it yields is new pairs, which go the way of all pairs again. The rule: combine runs 0 to n times on any
share of a key's values, so nobody may count on how often; values come in order of emission, decoded piece by piece.

Source: Dean & Ghemawat, OSDI 2004, section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, pairwise
from typing import Any, Final

from onerack.mapreduce.canonical import decode_key
from onerack.mapreduce.columns import Columns
from onerack.mapreduce.keys import decode_keys
from onerack.mapreduce.shuffle.arrays import group_starts
from onerack.mapreduce.values import decode_values

Combine = Callable[[Any, Iterator[Any]], Iterable[tuple[Any, Any]]]
_ROWS: Final = 1 << 14
"""So many rows are Python objects at once."""
_BLOCK: Final = 1 << 14


def combined(columns: Columns, combine: Combine) -> Iterator[list[tuple[Any, Any]]]:
    """Blocks of what `combine` yields for the groups of sorted rows."""
    pairs = chain.from_iterable(combine(key, values) for key, values in _groups(columns))
    while block := list(islice(pairs, _BLOCK)):
        yield block


def _groups(columns: Columns) -> Iterator[tuple[Any, Iterator[Any]]]:
    """(key, values) for each run of equal keys."""
    starts = group_starts(columns.keys).tolist()
    borders = [*starts, columns.rows]
    place = 0
    while place < len(starts):
        first = place
        while place < len(starts) and borders[place + 1] - borders[first] <= _ROWS:
            place += 1
        if place == first:
            place += 1
            key = decode_key(columns.key_kind, columns.keys[borders[first]].as_py())
            yield key, _streamed(columns, borders[first], borders[place])
            continue
        piece = columns.values.slice(borders[first], borders[place] - borders[first])
        values = decode_values(columns.value_kind, piece)
        keys = decode_keys(columns.key_kind, columns.keys.take(starts[first:place]))
        base = borders[first]
        for key, (start, end) in zip(keys, pairwise(borders[first : place + 1]), strict=True):
            yield key, iter(values[start - base : end - base])


def _streamed(columns: Columns, start: int, end: int) -> Iterator[Any]:
    """The values of a key that has more rows than should be objects at once."""
    for at in range(start, end, _ROWS):
        yield from decode_values(columns.value_kind, columns.values.slice(at, min(_ROWS, end - at)))
