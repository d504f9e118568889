"""teravalidate: whether records are sorted, file after file, and what their checksum is.

The idea: each map task checks its stretch of a file and says where it begins and ends; the one reduce puts stretches
in the order of files and offsets and compares neighbours. The sum of the records' crc32 does not depend on their
order, so it is the same before and after a sort that lost nothing and made nothing up.

The rule: the job ends with `sorted yes`, or it fails and names the file and the row that is out of order.

Source: sortbenchmark.org (valsort).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from onerack.errors import InputError
from onerack.mapreduce.context import TaskContext, count
from onerack.mapreduce.jobs.door import BuiltinJob, Out, Reader
from onerack.mapreduce.jobs.terasort import KEY_BYTES, RECORD_BYTES
from onerack.mapreduce.messages import InputFormat

Stretch = tuple[str, int, int, bytes, bytes, int]
"""path, offset, rows, first key, last key, checksum."""


class TeraValidate(BuiltinJob):
    """rows, checksum and `sorted yes`, a line each."""

    usage: ClassVar[str] = "onerack run teravalidate SORTED_DIR --out DIR"
    reads: ClassVar[tuple[str, ...]] = ("fixed",)
    input_format = InputFormat("fixed", record_bytes=RECORD_BYTES)
    reducers = 1
    counters = ("rows", "checksum")

    def map_split(self, reader: Reader, out: Out, context: TaskContext) -> None:
        """Checks the order within each block, and hands on what the reduce has to compare."""
        from onerack.mapreduce.jobs.teragen import checksum
        from onerack.mapreduce.shuffle.rows import first_fall, rows_in

        for block in reader.byte_blocks():
            rows = rows_in(block.data, RECORD_BYTES)
            if not len(rows):
                continue
            context.path = block.path
            wrong = first_fall(rows, KEY_BYTES)
            if wrong >= 0:
                before, after = rows[wrong - 1, :KEY_BYTES].tobytes(), rows[wrong, :KEY_BYTES].tobytes()
                raise out_of_order(block.path, block.offset + wrong * RECORD_BYTES, after, "the row before", before)
            first, last = rows[0, :KEY_BYTES].tobytes(), rows[-1, :KEY_BYTES].tobytes()
            total = checksum(rows, context.accelerate)
            stretch: Stretch = (block.path, block.offset, len(rows), first, last, total)
            out.add_pairs([("stretches", stretch)])
            context.progress(records=len(rows), bytes=rows.nbytes)

    def reduce(self, key: str, values: Iterator[Stretch]) -> Iterator[tuple[str, Any]]:
        """Compares neighbours: there are as many stretches as blocks, not as rows."""
        rows = total = 0
        last_path, last_key = "", b""
        for path, offset, found, first, last, part in sorted(values):
            if first < last_key:
                where = "the row before" if path == last_path else f"the last row of {last_path}"
                raise out_of_order(path, offset, first, where, last_key)
            last_path, last_key = path, last
            rows += found
            total += part
        count("rows", rows)
        count("checksum", total)
        yield "rows", rows
        yield "checksum", total
        yield "sorted", "yes"


def out_of_order(path: str, offset: int, key: bytes, where: str, other: bytes) -> InputError:
    """The error that fails the job."""
    return InputError(
        path,
        f"not sorted: row {offset // RECORD_BYTES} (at byte {offset}) has the key {key!r}, "
        f"which is smaller than {other!r} of {where}",
    )
