"""Bytes into words, 64 bytes a step.

The idea: a vector compare gives a 64-bit mask of blanks; where the mask changes, a word begins or ends, and the
positions of the changes are found by counting zeros, so that the bytes between are never looked at one by one (the
way simdjson finds quotes: Langdale & Lemire, 2019).

The rule: blank is what `bytes.split()` takes for blank: 9 to 13 and 32, nothing else (not 0, not 28 to 31).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from onerack.mapreduce.kernels.compiled import BYTES, INT64_OUT, compiled
from onerack.mapreduce.kernels.compiled.machine import blank_mask, lowest_bit

STEP = 64


@compiled(types.UniTuple(types.int64, 2)(BYTES, types.int64, INT64_OUT, INT64_OUT))
def split_words(data: Any, position: Any, starts: Any, lengths: Any) -> Any:
    """The words from `position` on, which must not lie within a word.

    Returns how many words were found and where to go on: the end of the data, or earlier when `starts` is full.
    """
    room = len(starts) - STEP
    found = 0
    opened = np.int64(-1)
    inside = np.uint64(0)
    while position < len(data) and found < room:
        if position + STEP <= len(data):
            words = ~blank_mask(data, position)
        else:
            words = np.uint64(0)
            for i in range(len(data) - position):
                byte = data[position + i]
                if not (byte == 32 or (byte >= 9 and byte <= 13)):
                    words |= np.uint64(1) << np.uint64(i)
        changes = words ^ ((words << np.uint64(1)) | inside)
        inside = words >> np.uint64(STEP - 1)
        while changes != np.uint64(0):
            edge = position + lowest_bit(changes)
            changes &= changes - np.uint64(1)
            if opened < 0:
                opened = edge
            else:
                starts[found] = opened
                lengths[found] = edge - opened
                found += 1
                opened = np.int64(-1)
        position += STEP
    position = min(position, len(data))
    if opened >= 0:
        if position < len(data):
            return found, opened
        starts[found] = opened
        lengths[found] = len(data) - opened
        found += 1
    return found, position
