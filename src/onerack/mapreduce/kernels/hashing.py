"""crc32 of every row of a binary array: the hash that places keys in partitions and sums up records.

The idea: the crc of the standard library (`zlib.crc32`) is the specification, since every Python has it; the compiled
form is the textbook's table method, 8 bytes a step for long rows. The rule: both give the same 32 bits.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from onerack.mapreduce.kernels.buffers import bytes_list, rows_of
from onerack.mapreduce.kernels.compiler import available


def crc32_of(keys: Any, accelerate: bool = True) -> npt.NDArray[np.uint32]:
    """crc32 of each row of a binary or string array."""
    if accelerate and available():
        from onerack.mapreduce.kernels.compiled.crc32 import crc32_rows

        rows = rows_of(keys)
        checksums = np.empty(len(rows), np.uint32)
        crc32_rows(rows.data, rows.offsets, checksums)
        return checksums
    return np.fromiter(map(zlib.crc32, bytes_list(keys)), np.uint32, len(keys))
