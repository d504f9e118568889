"""Stable argsort of byte strings, eight bytes a level.

The idea: the first 8 bytes of a key, read as a big-endian number, order most keys; numpy sorts those numbers with
vector instructions and touches no key again. What it leaves is settled here: keys that tie are sorted by their next 8
bytes, and so on, small groups by insertion, large ones by a radix sort of the next chunk (least significant digit
first, digits in which all keys agree skipped). Groups of a level are worked off together, so that no recursion is
needed and keys that are all equal cost one pass a level.

The rule: shorter keys are padded with zero bytes, so equal padded chunks do not mean equal keys ("a" and "a\\0"): in
each group the keys that ended are put first, in the order of their lengths.

Source: McIlroy, Bostic & McIlroy, "Engineering Radix Sort", 1993, for the mixture of radix and insertion sort.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from onerack.mapreduce.kernels.compiled import BYTES, INT64_OUT, OFFSETS, UINT32_OUT, UINT64_OUT, compiled
from onerack.mapreduce.kernels.compiled.machine import load_u64, swap_bytes

_SMALL = 48
"""Groups up to this size are sorted by insertion."""


@compiled(types.uint64(BYTES, types.int64, types.int64), inner=True)
def chunk_at(data: Any, start: Any, end: Any) -> Any:
    """The first 8 bytes of data[start:end] as a number that sorts as they do, padded with zeros."""
    length = end - start
    if length >= 8:
        return swap_bytes(load_u64(data, start))
    if length <= 0:
        return np.uint64(0)
    if start + 8 <= len(data):
        spare = np.uint64((8 - length) * 8)
        return (swap_bytes(load_u64(data, start)) >> spare) << spare
    chunk = np.uint64(0)
    for position in range(start, start + 8):
        chunk = chunk << np.uint64(8)
        if position < end:
            chunk |= np.uint64(data[position])
    return chunk


@compiled(types.boolean(BYTES, types.int64, types.int64, types.int64, types.int64), inner=True)
def is_less(data: Any, left: Any, left_end: Any, right: Any, right_end: Any) -> Any:
    """Whether data[left:left_end] < data[right:right_end]."""
    while left + 8 <= left_end and right + 8 <= right_end:
        a = load_u64(data, left)
        b = load_u64(data, right)
        if a != b:
            return swap_bytes(a) < swap_bytes(b)
        left += 8
        right += 8
    while left < left_end and right < right_end:
        if data[left] != data[right]:
            return data[left] < data[right]
        left += 1
        right += 1
    return left_end - left < right_end - right


@compiled(
    types.void(UINT64_OUT, UINT32_OUT, UINT64_OUT, UINT32_OUT, INT64_OUT, types.uint64, types.int64, types.int64),
    inner=True,
)
def scatter(
    chunks: Any, rows: Any, target: Any, target_rows: Any, places: Any, shift: Any, start: Any, end: Any
) -> None:
    """Moves each pair of [start, end) to the next place of its byte; places has 256 entries."""
    for i in range(start, end):
        chunk = chunks[i]
        byte = (chunk >> shift) & np.uint64(255)
        place = places[byte]
        places[byte] = place + 1
        target[place] = chunk
        target_rows[place] = rows[i]


@compiled(types.void(UINT64_OUT, UINT32_OUT, UINT64_OUT, UINT32_OUT, types.int64, types.int64), inner=True)
def radix_sort(chunks: Any, rows: Any, chunks_aside: Any, rows_aside: Any, start: Any, end: Any) -> None:
    """Sorts (chunk, row) pairs in [start, end) by chunk, stably. Requires: start < end."""
    counts = np.zeros(8 * 256, np.int64)
    for i in range(start, end):
        chunk = chunks[i]
        for digit in range(8):
            counts[256 * digit + np.int64(chunk & np.uint64(255))] += 1
            chunk >>= np.uint64(8)
    places = np.empty(256, np.int64)
    aside = False
    for digit in range(8):
        shift = np.uint64(8 * digit)
        if counts[256 * digit + np.int64((chunks[start] >> shift) & np.uint64(255))] == end - start:
            continue
        total = start
        for byte in range(256):
            places[byte] = total
            total += counts[256 * digit + byte]
        if aside:
            scatter(chunks_aside, rows_aside, chunks, rows, places, shift, start, end)
        else:
            scatter(chunks, rows, chunks_aside, rows_aside, places, shift, start, end)
        aside = not aside
    if aside:
        for i in range(start, end):
            chunks[i] = chunks_aside[i]
            rows[i] = rows_aside[i]


@compiled(types.int64(OFFSETS, OFFSETS, UINT32_OUT, UINT32_OUT, types.int64, types.int64, types.int64), inner=True)
def ended_first(starts: Any, ends: Any, rows: Any, rows_aside: Any, start: Any, end: Any, depth: Any) -> Any:
    """Puts the keys that end by `depth` first, the shortest foremost; returns where those that go on begin."""
    counts = np.zeros(11, np.int64)
    for i in range(start, end):
        row = rows[i]
        rest = np.int64(ends[row]) - np.int64(starts[row]) - (depth - 8)
        counts[min(max(rest, 0), 9) + 1] += 1
    going_on = end - counts[10]
    if counts[10] == end - start:
        return going_on
    for length in range(10):
        counts[length + 1] += counts[length]
    for i in range(start, end):
        row = rows[i]
        rest = np.int64(ends[row]) - np.int64(starts[row]) - (depth - 8)
        length = min(max(rest, 0), 9)
        rows_aside[start + counts[length]] = row
        counts[length] += 1
    for i in range(start, end):
        rows[i] = rows_aside[i]
    return going_on


@compiled(types.void(BYTES, OFFSETS, OFFSETS, UINT32_OUT, types.int64, types.int64, types.int64), inner=True)
def insertion_sort(data: Any, starts: Any, ends: Any, rows: Any, start: Any, end: Any, depth: Any) -> None:
    """Sorts a small group of rows by their keys from byte `depth` on, stably."""
    for i in range(start + 1, end):
        row = rows[i]
        place = i
        while place > start:
            other = rows[place - 1]
            if not is_less(data, starts[row] + depth, ends[row], starts[other] + depth, ends[other]):
                break
            rows[place] = other
            place -= 1
        rows[place] = row


@compiled(
    types.void(BYTES, OFFSETS, OFFSETS, UINT64_OUT, UINT32_OUT, types.int64, types.int64, types.int64), inner=True
)
def sort_small(data: Any, starts: Any, ends: Any, chunks: Any, rows: Any, start: Any, end: Any, depth: Any) -> None:
    """Sorts a small group whose keys agree (but for padding) before byte `depth`, stably.

    Reads each key once, as most groups are told apart by the next 8 bytes. A key that has ended has a zero chunk and
    the shorter rest, so (chunk, rest) orders the padded ones, too.
    """
    for i in range(start, end):
        row = rows[i]
        chunk = chunk_at(data, starts[row] + depth, ends[row])
        rest = min(np.int64(ends[row]) - np.int64(starts[row]) - depth, 9)
        place = i
        while place > start and chunks[place - 1] >= chunk:
            other = rows[place - 1]
            if chunks[place - 1] == chunk and (min(np.int64(ends[other]) - np.int64(starts[other]) - depth, 9) <= rest):
                break
            chunks[place] = chunks[place - 1]
            rows[place] = other
            place -= 1
        chunks[place] = chunk
        rows[place] = row
    while start < end:
        tie = start + 1
        while tie < end and chunks[tie] == chunks[start]:
            tie += 1
        if tie - start > 1:
            insertion_sort(data, starts, ends, rows, start, tie, depth)
        start = tie


@compiled(types.void(BYTES, OFFSETS, OFFSETS, UINT64_OUT))
def first_chunks(data: Any, starts: Any, ends: Any, chunks: Any) -> None:
    """chunks[r] = the first 8 bytes of key r, data[starts[r]:ends[r]]."""
    for row in range(len(chunks)):
        chunks[row] = chunk_at(data, starts[row], ends[row])


@compiled(types.void(UINT64_OUT, UINT32_OUT, UINT64_OUT, UINT32_OUT, types.int64, types.int64), inner=True)
def restore_order(chunks: Any, rows: Any, chunks_aside: Any, rows_aside: Any, start: Any, end: Any) -> None:
    """Puts the rows of a group in the order they came in."""
    if end - start > _SMALL:
        for i in range(start, end):
            chunks[i] = rows[i]
        radix_sort(chunks, rows, chunks_aside, rows_aside, start, end)
        return
    for i in range(start + 1, end):
        row = rows[i]
        place = i
        while place > start and rows[place - 1] > row:
            rows[place] = rows[place - 1]
            place -= 1
        rows[place] = row


@compiled(types.void(BYTES, OFFSETS, OFFSETS, UINT64_OUT, UINT32_OUT))
def settle_ties(data: Any, starts: Any, ends: Any, chunks: Any, rows: Any) -> None:
    """Brings `rows`, which are in the order of their first chunks but otherwise in none, into the stable order.

    Requires: chunks[i] is the first chunk of rows[i]. `chunks` is used up.
    """
    total = len(rows)
    chunks_aside = np.empty(total, np.uint64)
    rows_aside = np.empty(total, np.uint32)
    groups = np.empty((total // _SMALL + 1, 2), np.int64)
    groups_next = np.empty((total // _SMALL + 1, 2), np.int64)
    groups[0, 0] = 0
    groups[0, 1] = total
    pending = 1 if total > 1 else 0
    depth = 0
    while pending > 0:
        found = 0
        for group in range(pending):
            start = groups[group, 0]
            end = groups[group, 1]
            if start == end:
                continue
            if depth > 0:
                for i in range(start, end):
                    row = rows[i]
                    chunks[i] = chunk_at(data, starts[row] + depth, ends[row])
                radix_sort(chunks, rows, chunks_aside, rows_aside, start, end)
            while start < end:
                tie = start + 1
                while tie < end and chunks[tie] == chunks[start]:
                    tie += 1
                if tie - start > 1:
                    if depth == 0:
                        restore_order(chunks, rows, chunks_aside, rows_aside, start, tie)
                    if tie - start <= _SMALL:
                        sort_small(data, starts, ends, chunks, rows, start, tie, depth + 8)
                    else:
                        groups_next[found, 0] = ended_first(starts, ends, rows, rows_aside, start, tie, depth + 8)
                        groups_next[found, 1] = tie
                        found += 1
                start = tie
        groups, groups_next = groups_next, groups
        pending = found
        depth += 8
