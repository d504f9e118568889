"""Two loops of an inverted index: from words to postings, and from postings to lines of text.

The idea: documents are read one after the other, so a word was met in this document before exactly if the last
document it was met in is this one: one array, one look-up a word. And a line of the index is a concatenation of
names that were quoted once, copied 8 bytes a step.
"""

from __future__ import annotations

from typing import Any

from numba import types

from onerack.mapreduce.kernels.compiled import BYTES, INT32, INT32_OUT, INT64, OFFSETS, UINT8_OUT, compiled
from onerack.mapreduce.kernels.compiled.machine import load_u64, store_u64


@compiled(types.int64(INT32, INT64, INT64, types.int64, INT32_OUT, INT32_OUT, INT32_OUT, types.int64))
def post(numbers: Any, starts: Any, ends: Any, document: Any, last: Any, words: Any, documents: Any, used: Any) -> Any:
    """Appends (word, document) to the postings for each word not yet met in its document.

    `document` is the number of the first document, ends[0] where it ends; a word at starts[i] belongs to the first
    that ends behind it. Requires: room for len(numbers) postings behind `used`. Returns the new number of postings.
    """
    place = 0
    for i in range(len(numbers)):
        while ends[place] <= starts[i]:
            place += 1
        number = document + place
        word = numbers[i]
        if last[word] != number:
            last[word] = number
            words[used] = word
            documents[used] = number
            used += 1
    return used


@compiled(types.int64(BYTES, types.int64, types.int64, UINT8_OUT, types.int64), inner=True)
def copy_bytes(data: Any, start: Any, end: Any, out: Any, place: Any) -> Any:
    """Appends data[start:end] at `place`, where 8 spare bytes follow; returns the place behind it."""
    length = end - start
    if end + 8 <= len(data):
        for step in range(0, length, 8):
            store_u64(out, place + step, load_u64(data, start + step))
    else:
        for step in range(length):
            out[place + step] = data[start + step]
    return place + length


@compiled(types.int64(BYTES, OFFSETS, INT64, INT32, BYTES, OFFSETS, UINT8_OUT))
def index_lines(
    words: Any, word_offsets: Any, starts: Any, documents: Any, names: Any, name_offsets: Any, out: Any
) -> Any:
    """word TAB [name,name] NEWLINE for every word; returns the length of the text.

    Word i is in the documents from starts[i] to starts[i + 1]. Requires: room for the text and 8 spare bytes.
    """
    place = 0
    for row in range(len(starts) - 1):
        place = copy_bytes(words, word_offsets[row], word_offsets[row + 1], out, place)
        out[place] = 0x09
        out[place + 1] = 0x5B
        place += 2
        for i in range(starts[row], starts[row + 1]):
            name = documents[i]
            place = copy_bytes(names, name_offsets[name], name_offsets[name + 1], out, place)
            out[place] = 0x2C
            place += 1
        # The bracket replaces the last comma.
        out[place - 1] = 0x5D
        out[place] = 0x0A
        place += 1
    return place
