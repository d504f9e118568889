"""teragen: records for terasort, as many as wanted, always the same.

The idea: row i is a function of i alone (a few rounds of splitmix64), so any task can make any rows: generation is a
map-only job whose splits are ranges of row numbers, and the same number of rows gives the same bytes, whatever the
number of tasks or workers. A record is the sort benchmark's printable one:

    10 bytes key | 2 blanks | 32 hex digits: row number | 2 blanks | 52 bytes filler | CR LF

The counters `rows` and `checksum` (the sum of the records' crc32) are what teravalidate must find again.

Source: sortbenchmark.org (gensort -a); Steele, Lea & Flood, "Fast splittable pseudorandom number generators", 2014.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

from onerack.mapreduce.context import TaskContext
from onerack.mapreduce.jobs.door import BuiltinJob, Out, Reader
from onerack.mapreduce.jobs.terasort import KEY_BYTES, RECORD_BYTES
from onerack.mapreduce.messages import Fragment, InputFormat, OutputFormat, Split

_ROWS_AT_ONCE = 1 << 16
_ROWS_MAX = 10**13
_FACTORS = {"k": 10**3, "m": 10**6, "g": 10**9}


class TeraGen(BuiltinJob):
    """ROWS records of 100 bytes."""

    usage: ClassVar[str] = "onerack run teragen ROWS --out DIR, with ROWS a number such as 1000000, 500k, 10m or 1g"
    arguments_count: ClassVar[int] = 1
    writes: ClassVar[str] = "fixed"
    input_format = InputFormat("fixed", record_bytes=RECORD_BYTES)
    output_format = OutputFormat("fixed")
    reducers = 0
    counters = ("rows", "checksum")

    def __init__(self, *arguments: str) -> None:
        super().__init__(*arguments)
        self.rows = self._parse(arguments[0])

    def _parse(self, text: str) -> int:
        digits, factor = text.lower(), 1
        if digits[-1:] in _FACTORS:
            digits, factor = digits[:-1], _FACTORS[digits[-1]]
        if not (digits.isascii() and digits.isdigit()) or int(digits) * factor > _ROWS_MAX:
            raise self.misused(f"cannot make {text!r} rows")
        return int(digits) * factor

    def plan_splits(self, arguments: tuple[str, ...], split_bytes: int, slots: int) -> tuple[Split, ...]:
        """Ranges of rows, as fragments of a file that does not exist."""
        rows_at_most = max(1, split_bytes // RECORD_BYTES)
        count = min(self.rows, max(slots, -(-self.rows // rows_at_most)))
        borders = [self.rows * part // count * RECORD_BYTES for part in range(count + 1)] if count else [0]
        return tuple(
            Split(index, (Fragment("teragen", start, end - start),))
            for index, (start, end) in enumerate(pairwise(borders))
        )

    def map_split(self, reader: Reader, out: Out, context: TaskContext) -> None:
        """Writes the split's rows."""
        for fragment in reader.split.fragments:
            first = fragment.start // RECORD_BYTES
            end = (fragment.start + fragment.length) // RECORD_BYTES
            for start in range(first, end, _ROWS_AT_ONCE):
                rows = records(start, min(_ROWS_AT_ONCE, end - start))
                out.write_raw(rows.reshape(-1), len(rows))
                context.count("rows", len(rows))
                context.count("checksum", checksum(rows, context.accelerate))
                context.progress(records=len(rows), bytes=rows.nbytes)


def records(first: int, count: int) -> Any:
    """Rows `first` to `first + count` as an array of shape (count, 100)."""
    import numpy as np

    numbers = np.arange(first, first + count, dtype=np.uint64)
    rows = np.full((count, RECORD_BYTES), 0x20, np.uint8)
    # 16 bits of a hash, scaled to the 95 printable characters.
    pieces = np.concatenate([_hash(numbers, word).view("<u2").reshape(count, 4) for word in range(3)], axis=1)
    rows[:, :KEY_BYTES] = 0x20 + (pieces[:, :KEY_BYTES].astype(np.uint32) * 95 >> 16)
    rows[:, 12:28] = 0x30
    rows[:, 28:44] = _hex_digits(numbers, 16)
    rows[:, 46:98] = np.repeat(_hex_digits(_hash(numbers, 3), 13), 4, axis=1)
    rows[:, 98:] = (0x0D, 0x0A)
    return rows


def _hash(numbers: Any, word: int) -> Any:
    """splitmix64: word `word` of the random words of each row, lowest byte first."""
    import numpy as np

    mixed = (numbers * np.uint64(4) + np.uint64(word + 1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed ^ (mixed >> np.uint64(31))).astype("<u8")


def _hex_digits(numbers: Any, count: int) -> Any:
    """The lowest `count` hex digits of each number, as characters."""
    import numpy as np

    shifts = np.arange(4 * (count - 1), -1, -4, dtype=np.uint64)
    return np.frombuffer(b"0123456789ABCDEF", np.uint8)[((numbers[:, None] >> shifts) & np.uint64(15)).astype(np.intp)]


def checksum(rows: Any, accelerate: bool = True) -> int:
    """The sum of the crc32 of each record: the same in whatever order they are."""
    import numpy as np

    from onerack.mapreduce.kernels.buffers import binary_array
    from onerack.mapreduce.kernels.hashing import crc32_of

    total = 0
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        offsets = np.arange(len(part) + 1, dtype=np.int32) * np.int32(RECORD_BYTES)
        total += int(crc32_of(binary_array(part.reshape(-1), offsets), accelerate).sum(dtype=np.uint64))
    return total
