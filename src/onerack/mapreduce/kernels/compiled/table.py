"""A hash table of byte strings: each distinct string gets the next number, its bytes, and a running sum.

The idea: counting words is looking 6 million strings up in a table that no cache holds, so the table is laid out for
the memory, not for the processor. A slot is 8 bytes: 32 bits of hash, 32 of row number. A row is 32 bytes, half a
cache line: the string's first 8 bytes, its last 8, where the whole string lies, its sum; a word of up to 16 bytes is
found and counted without touching anything else, and without a branch on its length. Strings are looked up in
batches: first all hashes are computed and all slots asked for, then all rows, and only then is anything compared, so
that the misses of a batch overlap.

The rule: rows are numbered in order of first appearance, whatever the hash; nothing that leaves the table depends on
the hash function, so it may differ from version to version.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from onerack.mapreduce.kernels.compiled import BYTES, INT32_OUT, INT64, INT64_OUT, UINT8_OUT, UINT64_OUT, compiled
from onerack.mapreduce.kernels.compiled.machine import load_u64, prefetch

BATCH = 32
"""Strings looked up together."""
ROW_WORDS = 4
FIRST, LAST, PLACE, SUM = range(ROW_WORDS)
"""The 8-byte words of a row. PLACE: the string's offset in its upper half, its length in the lower."""
ROWS, USED, OVERFLOWED = range(3)
"""What `state` holds: number of rows, bytes of strings, whether a sum left the range of int64."""

_SHIFT = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_MULTIPLIER = np.uint64(0x9FB21C651E98DF25)


@compiled(types.uint64(BYTES, types.int64, types.int64), inner=True)
def few_bytes(data: Any, start: Any, length: Any) -> Any:
    """Up to 8 bytes at `start` as a number, padded with zeros; for strings at the very end of the data."""
    few = np.uint64(0)
    for i in range(length):
        few |= np.uint64(data[start + i]) << np.uint64(8 * i)
    return few


@compiled(types.uint64(BYTES, types.int64, types.int64, types.uint64, types.uint64), inner=True)
def hash_of(data: Any, start: Any, length: Any, first: Any, last: Any) -> Any:
    """32 well mixed bits of a string with these first and last bytes."""
    mixed = (first ^ np.uint64(length)) * _MULTIPLIER
    mixed = ((mixed ^ (mixed >> _SHIFT)) + last) * _MULTIPLIER
    if length > 16:
        for position in range(start + 8, start + length - 8, 8):
            mixed = ((mixed ^ (mixed >> _SHIFT)) + load_u64(data, position)) * _MULTIPLIER
    return (mixed ^ (mixed >> _SHIFT)) * _MULTIPLIER >> _SHIFT


@compiled(types.boolean(BYTES, types.int64, UINT8_OUT, types.int64, types.int64), inner=True)
def same_middle(data: Any, start: Any, strings: Any, offset: Any, length: Any) -> Any:
    """Whether two strings of more than 16 bytes agree between the first 8 and the last 8."""
    for position in range(8, length - 8, 8):
        if load_u64(data, start + position) != load_u64(strings, offset + position):
            return False
    return True


@compiled(types.int64(BYTES, types.int64, types.int64, UINT8_OUT, types.int64), inner=True)
def keep_string(data: Any, start: Any, length: Any, strings: Any, used: Any) -> Any:
    """Copies a new string behind the others; returns the bytes used then."""
    for position in range(length):
        strings[used + position] = data[start + position]
    return used + length


@compiled(
    types.int64(BYTES, INT64, INT64, types.int64, types.int64, UINT64_OUT, UINT64_OUT, UINT64_OUT, UINT64_OUT),
    inner=True,
)
def read_batch(
    data: Any, starts: Any, lengths: Any, done: Any, size: Any, slots: Any, first: Any, last: Any, hashes: Any
) -> Any:
    """Reads the strings `done` to `done + size`, asks for their slots, and returns their length together."""
    slot_mask = np.uint64(len(slots) - 1)
    together = 0
    for i in range(size):
        start = starts[done + i]
        length = lengths[done + i]
        together += length
        if start + 8 <= len(data):
            # Shifted in two halves, since a shift by all 64 bits is undefined.
            half = np.uint64(4 * min(length, 8))
            head = load_u64(data, start) & ~((_ALL << half) << half)
            # Loaded in any case: a branch on the length of a word is mispredicted too often.
            tail = load_u64(data, start + max(length - 8, 0))
            if length <= 8:
                tail = np.uint64(0)
        else:
            head = few_bytes(data, start, length)
            tail = np.uint64(0)
        first[i] = head
        last[i] = tail
        hashes[i] = hash_of(data, start, length, head, tail)
        prefetch(slots, np.int64(hashes[i] & slot_mask))
    return together


@compiled(types.void(UINT64_OUT, types.int64, UINT64_OUT, UINT64_OUT), inner=True)
def ask_rows(hashes: Any, size: Any, slots: Any, rows: Any) -> None:
    """Asks for the rows of a batch, whose slots have arrived by now."""
    slot_mask = np.uint64(len(slots) - 1)
    for i in range(size):
        slot = slots[hashes[i] & slot_mask]
        if slot != np.uint64(0):
            prefetch(rows, np.int64((slot & _LOW) - np.uint64(1)) * ROW_WORDS)


@compiled(types.int64(BYTES, INT64, INT64, INT64, UINT64_OUT, UINT64_OUT, UINT8_OUT, INT64_OUT, INT32_OUT))
def intern(
    data: Any, starts: Any, lengths: Any, weights: Any, slots: Any, rows: Any, strings: Any, state: Any, numbers: Any
) -> Any:
    """Looks strings up, adds the missing, and adds weights[i] to the sum of string i.

    `numbers`, unless empty, gets the row number of each string. Returns how many strings were done: fewer than all
    when slots (half full), rows or string bytes do not suffice for the next batch; the caller makes room and goes on.
    """
    slot_mask = np.uint64(len(slots) - 1)
    row_limit = min(len(rows) // ROW_WORDS, len(slots) // 2)
    first = np.empty(BATCH, np.uint64)
    last = np.empty(BATCH, np.uint64)
    hashes = np.empty(BATCH, np.uint64)
    total = len(starts)
    known = state[ROWS]
    used = state[USED]
    done = 0
    while done < total:
        size = min(BATCH, total - done)
        needed = read_batch(data, starts, lengths, done, size, slots, first, last, hashes)
        if known + size > row_limit or used + needed > len(strings):
            break
        ask_rows(hashes, size, slots, rows)
        for i in range(size):
            length = lengths[done + i]
            weight = weights[done + i]
            place = hashes[i] & slot_mask
            while True:
                slot = slots[place]
                row = np.int64((slot & _LOW) - np.uint64(1)) * ROW_WORDS
                if slot == np.uint64(0):
                    row = known * ROW_WORDS
                    known += 1
                    slots[place] = (hashes[i] << _SHIFT) | np.uint64(known)
                    rows[row + FIRST] = first[i]
                    rows[row + LAST] = last[i]
                    rows[row + PLACE] = (np.uint64(used) << _SHIFT) | np.uint64(length)
                    rows[row + SUM] = np.uint64(weight)
                    used = keep_string(data, starts[done + i], length, strings, used)
                    break
                if (
                    slot >> _SHIFT == hashes[i]
                    and rows[row + FIRST] == first[i]
                    and rows[row + LAST] == last[i]
                    and rows[row + PLACE] & _LOW == np.uint64(length)
                    and (
                        length <= 16
                        or same_middle(data, starts[done + i], strings, np.int64(rows[row + PLACE] >> _SHIFT), length)
                    )
                ):
                    before = np.int64(rows[row + SUM])
                    after = before + weight
                    if ((before ^ after) & (weight ^ after)) < 0:
                        state[OVERFLOWED] = 1
                    rows[row + SUM] = np.uint64(after)
                    break
                place = (place + np.uint64(1)) & slot_mask
            if len(numbers) > 0:
                numbers[done + i] = np.int32(row // ROW_WORDS)
        done += size
    state[ROWS] = known
    state[USED] = used
    return done


@compiled(types.void(UINT64_OUT, UINT64_OUT))
def move_slots(slots: Any, slots_new: Any) -> None:
    """Fills a larger slot array from a smaller one."""
    slot_mask = np.uint64(len(slots_new) - 1)
    for i in range(len(slots)):
        slot = slots[i]
        if slot != np.uint64(0):
            place = (slot >> _SHIFT) & slot_mask
            while slots_new[place] != np.uint64(0):
                place = (place + np.uint64(1)) & slot_mask
            slots_new[place] = slot
