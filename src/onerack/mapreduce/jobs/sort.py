"""sort: all lines in order of their bytes; the parts, one after the other, are sorted as a whole.

The idea: a line is a key without a value. The map side cuts lines natively and leaves sorted runs, partitioned by
range; the reduce side merges them window by window (shuffle/windows.py) and writes keys as lines, without ever making
a Python object of one.

The rule: the order is that of the bytes (`LC_ALL=C sort`), equal lines are kept, and every line ends with a newline.

Source: Dean & Ghemawat, OSDI 2004, section 2.3 (distributed sort) and 4.1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from onerack.mapreduce.context import TaskContext
from onerack.mapreduce.jobs.door import BuiltinJob, Out, Reader, text_blocks
from onerack.mapreduce.messages import Section

_SAMPLE_BLOCKS = 64
_SAMPLE_BLOCK_BYTES = 1 << 16


class Sort(BuiltinJob):
    """The lines of the input in order."""

    usage: ClassVar[str] = "onerack run sort INPUT... --out DIR"
    encoding = "bytes"
    output_format = "text"
    partition = "range"

    def map(self, key: Any, line: bytes) -> Iterator[tuple[bytes, None]]:
        yield line, None

    def map_split(self, reader: Reader, out: Out, context: TaskContext) -> None:
        """The same as `map`, for a whole split."""
        import pyarrow as pa

        from onerack.mapreduce.columns import Columns

        for block in text_blocks(reader, context):
            lines = lines_of(block.data)
            out.add_columns(Columns("bytes", lines, "none", pa.nulls(len(lines))))

    def sample(self, reader: Reader, limit: int) -> list[bytes]:
        """The first lines of blocks that lie evenly over the split."""
        block_bytes = max(_SAMPLE_BLOCK_BYTES, reader.split.size_bytes // _SAMPLE_BLOCKS)
        sampled: list[bytes] = []
        for block in reader.byte_blocks(block_bytes):
            lines = bytes(block.data[:_SAMPLE_BLOCK_BYTES]).split(b"\n")
            sampled += lines[: max(1, limit // _SAMPLE_BLOCKS)]
        return sampled

    def reduce_partition(self, sections: Sequence[Section], writer: Out, context: TaskContext) -> None:
        """Writes the partition's lines in order."""
        if not sections:
            return
        scratch = os.path.dirname(sections[0].path)
        for columns in _merged(sections, scratch, context):
            if writer.format_name == "text":
                writer.write_raw(_as_lines(columns.keys), columns.rows)
            else:
                writer.write_columns(columns)
            context.progress(records=columns.rows, bytes=columns.keys.nbytes)


def _merged(sections: Sequence[Section], scratch: str, context: TaskContext) -> Iterator[Any]:
    """The partition's rows in order, in pieces."""
    from onerack.mapreduce.shuffle.runs import ScratchFiles, read_runs, sorted_runs, window_bytes_of
    from onerack.mapreduce.shuffle.windows import Window, windows

    with ScratchFiles(scratch) as files:
        runs = sorted_runs(
            read_runs(sections),
            by_order=False,
            memory_bytes=context.memory_bytes,
            scratch=files,
            accelerate=context.accelerate,
        )
        window_bytes = window_bytes_of(context.memory_bytes)
        for found in windows(runs, by_order=False, window_bytes=window_bytes, accelerate=context.accelerate):
            yield from [found.columns] if isinstance(found, Window) else found.pieces


def lines_of(data: Any) -> Any:
    """The lines of a buffer, without their newlines, as a binary array."""
    import pyarrow as pa
    import pyarrow.compute as pc

    content = bytes(data)
    if not content:
        return pa.array([], pa.binary())
    return pc.split_pattern(pa.array([content.removesuffix(b"\n")], pa.binary()), "\n").values


def _as_lines(keys: Any) -> memoryview:
    """The keys, each with a newline, as one buffer."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from onerack.mapreduce.outputs.tsv import content_of

    return content_of(pc.binary_join_element_wise(keys, b"", pa.scalar(b"\n", pa.binary())))
