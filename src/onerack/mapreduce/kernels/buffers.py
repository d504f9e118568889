"""Binary Arrow arrays as flat numpy arrays, and back, without copying.

The idea: compiled loops want `data` and `offsets`, where row i is data[offsets[i] : offsets[i + 1]]. That is what an
Arrow array of `binary` or `string` holds already; a slice of one only starts elsewhere in the same offsets.

The rule: arrays have no nulls and 32-bit offsets (columns.py: no array exceeds 1 GiB).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_SMALL_OFFSETS = (pa.binary(), pa.string())


class Rows(NamedTuple):
    """Row i is data[offsets[i] : offsets[i + 1]]; the first offset need not be 0."""

    data: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1


def rows_of(array: Any) -> Rows:
    """The buffers of a binary or string array (or chunked array), of which nothing is copied if it is in one piece."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if array.type not in _SMALL_OFFSETS:
        array = array.cast(pa.binary())
    assert array.null_count == 0, "keys have no nulls"
    if len(array) == 0:
        return Rows(np.zeros(0, np.uint8), np.zeros(1, np.int32))
    _, offsets, data = array.buffers()
    window = np.frombuffer(offsets, np.int32, len(array) + 1, array.offset * 4)
    return Rows(np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8), window)


def binary_array(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int32]) -> Any:
    """A `binary` array over the two buffers, which it keeps alive."""
    buffers = [None, pa.py_buffer(offsets.data), pa.py_buffer(data.data)]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)


def list_array(starts: npt.NDArray[np.int64], items: Any) -> Any:
    """A list array: list i holds items[starts[i] : starts[i + 1]]."""
    offsets: Any = pa.array(starts.astype(np.int32))
    return pa.ListArray.from_arrays(offsets, items)


def bytes_list(array: Any) -> list[bytes]:
    """The rows as Python bytes; several times faster than `to_pylist`."""
    rows = rows_of(array)
    bounds = rows.offsets.tolist()
    data = rows.data[bounds[0] : bounds[-1]].tobytes()
    first = bounds[0]
    return [data[start - first : end - first] for start, end in pairwise(bounds)]
