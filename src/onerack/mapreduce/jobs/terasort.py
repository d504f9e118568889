"""terasort: records of 100 bytes in order of their first 10.

The idea: the sort benchmark's job, natively: raw rows from the input to the output (shuffle/rows.py), partitions by
range, so that the parts, one after the other, are sorted as a whole. Splitters come from the keys of some rows of
every sampled split.

Source: Dean & Ghemawat, OSDI 2004, section 5.3; the record is that of sortbenchmark.org.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from onerack.mapreduce.context import TaskContext
from onerack.mapreduce.jobs.door import BuiltinJob, Out, Reader
from onerack.mapreduce.messages import InputFormat, JobSpec, OutputFormat, Section

RECORD_BYTES = 100
KEY_BYTES = 10
_BLOCK_BYTES = 16 << 20
"""Rows sorted at once in a map: what fits into the processor's cache together with its sorted copy."""
_SORT_SHARE = 0.25
"""Of a small memory: a block is sorted beside a copy of itself."""
_MERGE_SHARE = 0.5


class TeraSort(BuiltinJob):
    """The records of the input in order; equal keys keep their order."""

    usage: ClassVar[str] = "onerack run terasort INPUT... --out DIR"
    writes: ClassVar[str] = "fixed"
    reads: ClassVar[tuple[str, ...]] = ("fixed",)
    uses_kernels = False
    input_format = InputFormat("fixed", record_bytes=RECORD_BYTES)
    output_format = OutputFormat("fixed")
    partition = "range"

    def make_collector(self, path: str, spec: JobSpec) -> Any:
        """Raw rows instead of columns."""
        from onerack.mapreduce.shuffle.rows import RowsCollector

        return RowsCollector(
            path,
            reducers=spec.reducers,
            splitters=spec.splitters,
            record_bytes=RECORD_BYTES,
            key_bytes=KEY_BYTES,
        )

    def sample(self, reader: Reader, limit: int) -> list[bytes]:
        """The keys of up to `limit` records, evenly spread over the split."""
        from onerack.mapreduce.shuffle.rows import rows_in

        keys: list[bytes] = []
        step = max(1, reader.split.size_bytes // RECORD_BYTES // max(1, limit))
        for block in reader.byte_blocks():
            rows = rows_in(block.data, RECORD_BYTES)
            keys += [row.tobytes() for row in rows[::step, :KEY_BYTES]]
        return keys

    def map_split(self, reader: Reader, out: Out, context: TaskContext) -> None:
        """Sorts the split, block by block."""
        block_bytes = max(RECORD_BYTES, min(_BLOCK_BYTES, int(_SORT_SHARE * context.memory_bytes)))
        for block in reader.byte_blocks(block_bytes):
            out.add_rows(block.data)
            context.progress(records=len(block.data) // RECORD_BYTES, bytes=len(block.data))

    def reduce_partition(self, sections: Sequence[Section], writer: Out, context: TaskContext) -> None:
        """Merges the partition's runs."""
        from onerack.mapreduce.shuffle.rows import merged, read_rows

        runs = read_rows(sections, RECORD_BYTES)
        for rows in merged(runs, KEY_BYTES, int(_MERGE_SHARE * context.memory_bytes)):
            writer.write_raw(rows.reshape(-1), len(rows))
            context.progress(records=len(rows), bytes=rows.nbytes)
