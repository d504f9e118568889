"""The order of binary keys: a stable argsort by bytes.

The idea: everything that has keys in order (map runs, reduce output, range partitions) asks here, so that one order
is used throughout: that of the bytes, equal keys in the order they came in. The rule: the compiled sort and
Arrow's merge sort return the same permutation, since a stable order is unique.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from onerack.mapreduce.kernels.buffers import rows_of
from onerack.mapreduce.kernels.compiler import available


def sort_order(keys: Any, accelerate: bool = True) -> npt.NDArray[np.int64]:
    """The rows of a binary or string array in increasing order of their bytes; equal ones keep their order."""
    if accelerate and available():
        rows = rows_of(keys)
        return _compiled_order(rows.data, rows.offsets[:-1], rows.offsets[1:])
    if isinstance(keys, pa.ChunkedArray):
        keys = keys.combine_chunks()
    return np.asarray(pc.array_sort_indices(keys)).astype(np.int64)


def _compiled_order(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int32], ends: npt.NDArray[np.int32]
) -> npt.NDArray[np.int64]:
    from onerack.mapreduce.kernels.compiled.order import first_chunks, settle_ties

    chunks = np.empty(len(starts), np.uint64)
    first_chunks(data, starts, ends, chunks)
    order = np.argsort(chunks)
    rows = order.astype(np.uint32)
    settle_ties(data, starts, ends, chunks[order], rows)
    return rows.astype(np.int64)
