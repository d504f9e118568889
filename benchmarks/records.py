"""Sort input without any engine's help: records of 100 bytes, made with numpy.

The idea is TeraGen's text form: ten random printable bytes as key, the row's number, a filler, a line end. Every
record is a line, so that engines which only know lines may sort it too. The rule: a row depends on the seed and its
number alone, so all engines and all machines sort the same bytes.

Source: Gray's sort benchmark, gensort; Dean & Ghemawat 2004, section 5.3.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

RECORD_BYTES = 100
KEY_BYTES = 10
ROWS_PER_BLOCK = 1_000_000
SEED = 20041206


def write_records(target: Path, rows: int) -> None:
    """Writes `rows` records; block by block, so that memory stays at 100 MB whatever the size."""
    with target.open("wb") as file:
        for block, first in enumerate(range(0, rows, ROWS_PER_BLOCK)):
            file.write(record_block(block, first, min(ROWS_PER_BLOCK, rows - first)).tobytes())


def record_block(block: int, first: int, rows: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    random = np.random.default_rng((SEED, block))
    records = np.full((rows, RECORD_BYTES), ord(" "), dtype=np.uint8)
    # Keys avoid the space, the quote and the backslash (0x21-0x7e without two), whose meaning line engines disagree on.
    alphabet = np.array([code for code in range(0x21, 0x7F) if chr(code) not in '"\\'], dtype=np.uint8)
    records[:, :KEY_BYTES] = alphabet[random.integers(0, len(alphabet), (rows, KEY_BYTES))]
    numbers = np.arange(first, first + rows, dtype=np.int64)
    for digit in range(12):
        records[:, 23 - digit] = ord("0") + numbers // 10**digit % 10
    records[:, 26:98] = ord("A") + (numbers % 26)[:, None]
    records[:, 99] = ord("\n")
    return records
