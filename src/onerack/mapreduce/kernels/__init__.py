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

import functools
import importlib
import importlib.util
import sys

COMPILED = ("crc32", "order", "table", "words")
"""Files of `compiled/`, to be imported before workers are forked."""


@functools.cache
def available() -> bool:
    """Whether compiled kernels can be used: numba is installed, and bytes of a number lie lowest first."""
    return sys.byteorder == "little" and importlib.util.find_spec("numba") is not None


def preload() -> None:
    """Imports and (the first time on this machine) compiles all kernels, so that forked workers share them."""
    if available():
        for name in COMPILED:
            importlib.import_module(f"{__name__}.compiled.{name}")


from onerack.mapreduce.kernels.folding import fold_sum  # noqa: E402  (it asks `available` above)
from onerack.mapreduce.kernels.hashing import crc32_of  # noqa: E402
from onerack.mapreduce.kernels.sorting import sort_order  # noqa: E402

__all__ = ["available", "crc32_of", "fold_sum", "preload", "sort_order"]
