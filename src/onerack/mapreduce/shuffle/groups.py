"""The reduce side for user's functions: keys in increasing order, each with an iterator over its values.

The idea: within a window everything is decoded at once, and the groups are slices of one list; a huge key's values
are decoded piece by piece while the user's function asks for them. So a key with fifty million values needs no more
memory than any other.

The rule: values come in (map index, emission) order, or in that of the sort key; equal sort keys in the former. A
function that does not read its values to the end harms nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa

from onerack.mapreduce.canonical import decode_key
from onerack.mapreduce.columns import Columns, KeyKind
from onerack.mapreduce.keys import decode_keys
from onerack.mapreduce.messages import Section
from onerack.mapreduce.shuffle.arrays import group_starts, use_one_thread
from onerack.mapreduce.shuffle.runs import Progress, ScratchFiles, no_progress, read_runs, sorted_runs, window_bytes_of
from onerack.mapreduce.shuffle.windows import Window, windows
from onerack.mapreduce.values import decode_values

Group = tuple[Any, Iterator[Any]]


def group_partition(sections: Sequence[Section], **settings: Any) -> Iterator[Group]:
    """Each key of the partition with its values. `settings`: as for `group_windows`."""
    for groups in group_windows(sections, **settings):
        yield from groups


def group_windows(
    sections: Sequence[Section],
    *,
    memory_bytes: int,
    scratch: str,
    sorted_by_order: bool,
    accelerate: bool = True,
    progress: Progress = no_progress,
) -> Iterator[Iterator[Group]]:
    """The keys of the partition with their values, as many together as lie in memory together.

    Requires: sections in map index order, sorted runs in them; a window is read to its end before the next.
    Raises: SectionUnreadable: a section is gone or damaged.
    """
    use_one_thread()
    with ScratchFiles(scratch, progress) as files:
        runs = sorted_runs(
            read_runs(sections, progress), by_order=sorted_by_order, memory_bytes=memory_bytes, scratch=files,
            accelerate=accelerate,
        )  # fmt: skip
        window_bytes = window_bytes_of(memory_bytes)
        for found in windows(runs, by_order=sorted_by_order, window_bytes=window_bytes, accelerate=accelerate):
            if isinstance(found, Window):
                yield _groups_of_window(found.columns)
            else:
                yield iter([(decode_key(runs[0][0].key_kind, found.raw), _values_of_pieces(found.pieces))])


def _groups_of_window(columns: Columns) -> Iterator[Group]:
    starts = group_starts(columns.keys)
    keys = _distinct_keys(columns.key_kind, columns, starts)
    values = decode_values(columns.value_kind, columns.values)
    borders = [*starts.tolist(), columns.rows]
    for key, (start, end) in zip(keys, pairwise(borders), strict=True):
        yield key, iter(values[start:end])


def _distinct_keys(kind: KeyKind, columns: Columns, starts: Any) -> list[Any]:
    return decode_keys(kind, columns.keys.take(pa.array(starts)))


def _values_of_pieces(pieces: Any) -> Iterator[Any]:
    for columns in pieces:
        yield from decode_values(columns.value_kind, columns.values)
