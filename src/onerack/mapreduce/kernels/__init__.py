"""Kernels: the few inner loops in which a MapReduce job spends its time, each twice.

    sort_order       stable argsort of binary keys
    crc32_of         crc32 of every key (hashing.py)
    fold_sum         the sum of the values of each distinct key
    WordTable        bytes -> words -> counts
    PostingTable     documents -> words -> the documents that hold each

The idea: with numba (the `fast` extra) a loop is compiled to machine code; without it the same result comes from
pyarrow, numpy or plain Python, some two to four times slower. The rule: a kernel is a pure function from bytes to
bytes, and its two forms agree on every input, the adversarial ones included.
"""

from __future__ import annotations

from onerack.mapreduce.kernels.compiler import available, preload
from onerack.mapreduce.kernels.folding import fold_sum
from onerack.mapreduce.kernels.hashing import crc32_of
from onerack.mapreduce.kernels.sorting import sort_order

__all__ = ["available", "crc32_of", "fold_sum", "preload", "sort_order"]
