"""Sums by key: `fold_sum` over columns, and the hash table under it.

The idea: an associative reducer needs no sorted runs. Distinct keys are found by hashing, in order of first
appearance, and sorted once at the very end of the job. The rule: the compiled table and Arrow's dictionary encoding
give the same keys in the same order with the same sums, bit for bit: floats are added to 0.0 in row order, and
integers that leave the range of int64 raise `OverflowError` in both (the caller goes on with Python's own).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from onerack.mapreduce.kernels.buffers import Rows, binary_array, bytes_list, rows_of
from onerack.mapreduce.kernels.compiler import available

_LIMIT = 1 << 63
_CACHE_LINE = 64
_ROWS_START = 1 << 13
_ROWS_AT_ONCE = 1 << 16
_STRING_BYTES = 16
"""Of an average string, for a start."""
_NO_NUMBERS = np.empty(0, np.int32)


def fold_sum(keys: Any, values: npt.NDArray[Any], accelerate: bool = True) -> tuple[Any, npt.NDArray[Any]]:
    """The distinct keys in order of first appearance, and the sum of the int64 or float64 values of each.

    Raises: OverflowError: a sum of integers does not fit into 64 bits.
    """
    assert len(keys) == len(values), "one value for each key"
    if values.dtype == np.float64:
        return _fold_floats(keys, values, accelerate)
    values = np.ascontiguousarray(values, np.int64)
    if accelerate and available():
        rows = rows_of(keys)
        table = Table(len(rows))
        table.add(rows, values)
        return table.keys(), table.sums()
    largest = max(abs(int(values.max(initial=0))), abs(int(values.min(initial=0))))
    if largest * len(values) >= _LIMIT:
        _refuse_overflow(keys, values)
    distinct, numbers = number_keys(keys, accelerate=False)
    sums = np.zeros(len(distinct), np.int64)
    np.add.at(sums, numbers, values)
    return distinct, sums


def number_keys(keys: Any, accelerate: bool = True) -> tuple[Any, npt.NDArray[np.int32]]:
    """The distinct keys in order of first appearance, and for each row the number of its key among them."""
    if accelerate and available():
        rows = rows_of(keys)
        table = Table(len(rows))
        numbers = table.number(rows)
        return table.keys(), numbers
    if isinstance(keys, pa.ChunkedArray):
        keys = keys.combine_chunks()
    encoded = keys.cast(pa.binary()).dictionary_encode()
    return encoded.dictionary, encoded.indices.to_numpy()


def _fold_floats(keys: Any, values: npt.NDArray[np.float64], accelerate: bool) -> tuple[Any, npt.NDArray[np.float64]]:
    distinct, numbers = number_keys(keys, accelerate)
    # bincount adds weight after weight to 0.0 in row order, which is the order promised.
    return distinct, np.bincount(numbers, values, minlength=len(distinct)).astype(np.float64, copy=False)


def _refuse_overflow(keys: Any, values: npt.NDArray[np.int64]) -> None:
    """Raises `OverflowError` if some sum, in row order, leaves the range of int64; else returns."""
    sums: dict[bytes, int] = {}
    for key, value in zip(bytes_list(keys), values.tolist(), strict=True):
        sums[key] = total = sums.get(key, 0) + value
        if not -_LIMIT <= total < _LIMIT:
            raise OverflowError("a sum of integers does not fit into 64 bits")


class Table:
    """The compiled hash table of byte strings (compiled/table.py) with its arrays, which grow as needed.

    Requires: `available()`.
    """

    def __init__(self, rows: int = 0) -> None:
        """`rows`: how many distinct strings to make room for at first. Memory that is not needed is not touched."""
        from onerack.mapreduce.kernels.compiled import table as compiled

        self._compiled = compiled
        self._rows_at_first = max(rows + compiled.BATCH, _ROWS_START)
        self.clear()

    def clear(self) -> None:
        """Empties the table and gives its memory back."""
        rows = self._rows_at_first
        # Half full at half as many rows: the rest often are repetitions, and every slot costs memory.
        self._slots = _aligned(1 << (rows - 1).bit_length())
        self._rows = _aligned(rows * self._compiled.ROW_WORDS)
        self._strings = np.empty(rows * _STRING_BYTES, np.uint8)
        self._state = np.zeros(3, np.int64)

    @property
    def rows(self) -> int:
        """How many distinct strings there are."""
        return int(self._state[self._compiled.ROWS])

    @property
    def memory_bytes(self) -> int:
        return self._slots.nbytes + self._rows.nbytes + self._strings.nbytes

    @property
    def used_bytes(self) -> int:
        """What of it is touched: all slots, and the rows and strings that there are."""
        return self._slots.nbytes + 8 * self._compiled.ROW_WORDS * self.rows + self.string_bytes

    @property
    def string_bytes(self) -> int:
        """The summed lengths of the distinct strings."""
        return int(self._state[self._compiled.USED])

    def add(self, rows: Rows, weights: npt.NDArray[np.int64]) -> None:
        """Adds weights[i] to the sum of row i. Raises `OverflowError`."""
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            self._add_rows(rows, start, weights[start : start + _ROWS_AT_ONCE], _NO_NUMBERS)

    def number(self, rows: Rows) -> npt.NDArray[np.int32]:
        """The number of each row's string: distinct strings are numbered in order of first appearance."""
        numbers = np.empty(len(rows), np.int32)
        zeros = np.zeros(_ROWS_AT_ONCE, np.int64)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            self._add_rows(rows, start, zeros, numbers[start : start + _ROWS_AT_ONCE])
        return numbers

    def _add_rows(self, rows: Rows, start: int, weights: npt.NDArray[np.int64], numbers: npt.NDArray[np.int32]) -> None:
        offsets = rows.offsets[start : start + _ROWS_AT_ONCE + 1].astype(np.int64)
        lengths = np.diff(offsets)
        self.add_spans(rows.data, offsets[:-1], lengths, weights[: len(lengths)], numbers)

    def add_spans(
        self,
        data: npt.NDArray[np.uint8],
        starts: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        weights: npt.NDArray[np.int64],
        numbers: npt.NDArray[np.int32] = _NO_NUMBERS,
    ) -> None:
        """Adds weights[i] to the sum of the string data[starts[i] : starts[i] + lengths[i]]."""
        done = 0
        while True:
            done += self._compiled.intern(
                data,
                starts[done:],
                lengths[done:],
                weights[done:],
                self._slots,
                self._rows,
                self._strings,
                self._state,
                numbers[done:],
            )
            if done == len(starts):
                break
            self._grow(int(lengths[done : done + self._compiled.BATCH].sum()))
        if self._state[self._compiled.OVERFLOWED]:
            raise OverflowError("a sum of integers does not fit into 64 bits")

    def _grow(self, string_bytes: int) -> None:
        """Makes room for one more batch, whose strings have `string_bytes` bytes together."""
        batch = self._compiled.BATCH
        row_words = self._compiled.ROW_WORDS
        if self.rows + batch > len(self._slots) // 2:
            slots = _aligned(2 * len(self._slots))
            self._compiled.move_slots(self._slots, slots)
            self._slots = slots
        if self.rows + batch > len(self._rows) // row_words:
            rows = _aligned(2 * len(self._rows))
            rows[: self.rows * row_words] = self._rows[: self.rows * row_words]
            self._rows = rows
        if self.string_bytes + string_bytes > len(self._strings):
            strings = np.empty(2 * len(self._strings) + string_bytes, np.uint8)
            strings[: self.string_bytes] = self._strings[: self.string_bytes]
            self._strings = strings

    def _column(self, word: int) -> npt.NDArray[np.uint64]:
        row_words = self._compiled.ROW_WORDS
        return self._rows[: self.rows * row_words].reshape(self.rows, row_words)[:, word]

    def keys(self) -> Any:
        """The distinct strings as a binary array. Requires: `string_bytes` < 2 GiB."""
        offsets = np.empty(self.rows + 1, np.int32)
        offsets[:-1] = self._column(self._compiled.PLACE) >> np.uint64(32)
        offsets[-1] = self.string_bytes
        return binary_array(self._strings[: self.string_bytes], offsets)

    def sums(self) -> npt.NDArray[np.int64]:
        return self._column(self._compiled.SUM).astype(np.int64)


def _aligned(words: int) -> npt.NDArray[np.uint64]:
    """Zeros, from the start of a cache line on, so that no table row straddles two."""
    spare = _CACHE_LINE // 8
    # Zeroed memory comes from the kernel page by page as it is touched; filling it here would touch it twice.
    whole = np.zeros(words + spare, np.uint64)
    skip = -(whole.ctypes.data // 8) % spare
    return whole[skip : skip + words]
