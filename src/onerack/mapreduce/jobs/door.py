"""The private door of the builtin jobs: what the engine hands them, and what all of them share.

The idea: a builtin job takes a whole split at once (`map_split`) and, if it likes, a whole partition
(`reduce_partition`); in between it works on buffers, not on records. The types below name what it uses of the
engine's reader, collector, writer and context, and no more.

The rule: a builtin gives exactly what the plain job of the same name would give, only sooner.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from onerack.errors import UsageError
from onerack.mapreduce.context import TaskContext
from onerack.mapreduce.job import Job
from onerack.mapreduce.messages import InputFormat, OutputFormat

Reader = Any
"""inputs.reader.SplitReader."""
Out = Any
"""shuffle.collector.Collector, what `make_collector` gave, or (no reducers) outputs.writer.PartWriter."""

BLOCK_BYTES = 8 << 20
TABLE_BYTES_MAX = 512 << 20
"""No table outgrows the 32-bit offsets of one array, however much memory there is."""
_PIECE = 1 << 19
_AS_BYTES = ("bytes", "utf-8", "utf8", "ascii")
"""Encodings whose text is worked on as it lies in the file; anything else becomes UTF-8 first."""


class BuiltinJob(Job):
    """Base of the builtin jobs: made from the words that stand behind the job's name on the command line."""

    usage: ClassVar[str]
    """How the job is called, for error messages and help."""
    arguments_count: ClassVar[int] = 0
    """How many words on the command line are the job's own; inputs follow."""
    reads: ClassVar[tuple[str, ...]] = ("text", "file", "jsonl", "csv", "fixed")
    """Input formats that it can read: those of bytes."""
    writes: ClassVar[str] = ""
    """The output format, for a job that makes the bytes of its output itself; empty: any."""

    def __init__(self, *arguments: str) -> None:
        if len(arguments) != self.arguments_count:
            raise self.misused(f"takes {self.arguments_count} arguments and got {len(arguments)}")
        self.arguments = arguments

    def misused(self, reason: str) -> UsageError:
        """The error for wrong arguments: what is wrong, then how it is done."""
        return UsageError(f"{type(self).__name__.lower()} {reason}; usage: {self.usage}")

    def check(self, reducers: int | None, input_format: InputFormat, output_format: OutputFormat) -> None:
        """Refuses settings against the job's nature. Raises: UsageError."""
        if reducers and self.reducers == 0:
            raise self.misused("has no reduce (each map task writes its own part); leave out --reduces")
        if reducers == 0 and self.reducers != 0:
            raise self.misused("needs at least one reduce partition; leave out --reduces 0")
        if input_format.name not in self.reads:
            raise self.misused(f"reads {' or '.join(self.reads)}, not {input_format.name}; leave out the input format")
        if self.writes and output_format.name != self.writes:
            raise self.misused(f"writes {self.writes} only, not {output_format.name}; leave out the output format")


class TextBlock(NamedTuple):
    """Whole lines of one file."""

    path: str
    offset: int
    """Of the first byte, in the file's plain bytes; -1 when the bytes were made by decoding."""
    data: Any
    """bytes or a memoryview."""
    lines: int
    """-1 when nobody wanted to know."""


def text_blocks(
    reader: Reader, context: TaskContext, block_bytes: int = BLOCK_BYTES, *, count: bool = True
) -> Iterator[TextBlock]:
    """The split's lines as bytes, block by block; progress is reported as they are asked for.

    `count`: counting lines takes a third of the time of a scan for a string, so a job may do without it.
    """
    if reader.format.encoding.lower() not in _AS_BYTES:
        yield from _decoded_blocks(reader, context)
        return
    done = 0
    for block in reader.byte_blocks(block_bytes):
        context.path = block.path
        lines = count_lines(block.data) if count else -1
        yield TextBlock(block.path, block.offset, block.data, lines)
        context.progress(records=max(lines, 0), bytes=max(0, reader.bytes_read - done))
        done = reader.bytes_read


def _decoded_blocks(reader: Reader, context: TaskContext) -> Iterator[TextBlock]:
    """Lines of another encoding, as UTF-8. A block holds lines of one file."""
    done = 0
    for block in reader.record_blocks():
        path = ""
        lines: list[str] = []
        for (found, _), line in zip(block.keys, block.values, strict=True):
            if found != path and lines:
                yield _encoded(path, lines)
                lines = []
            path = found
            lines.append(line)
        yield _encoded(path, lines)
        context.progress(records=len(block.values), bytes=max(0, reader.bytes_read - done))
        done = reader.bytes_read


def _encoded(path: str, lines: list[str]) -> TextBlock:
    return TextBlock(path, -1, "".join([line + "\n" for line in lines]).encode(), len(lines))


def count_lines(data: Any) -> int:
    """How many lines a buffer holds; the last may lack its newline."""
    import numpy as np

    if not len(data):
        return 0
    content = np.frombuffer(data, np.uint8)
    # In pieces that stay in the cache, since the comparison makes as many bytes as it reads.
    ends = sum(np.count_nonzero(content[at : at + _PIECE] == 10) for at in range(0, len(content), _PIECE))
    return int(ends) + int(content[-1] != 10)
