"""SplitReader: what every format's reader has in common.

The idea: a format only says how ONE fragment becomes pieces of records, blocks of bytes, or batches. Going from
fragment to fragment, gathering small files into blocks worth a call, counting bytes and closing files is done here,
once.

The rule: one file is open at a time, and it is closed before the next is opened, also when the consumer gives up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from onerack.errors import UsageError
from onerack.mapreduce.inputs.chunks import (
    MAPPED_BYTES_MIN,
    Chunk,
    mapped_blocks,
    range_blocks,
    range_chunks,
    stream_chunks,
)
from onerack.mapreduce.inputs.compression import compression_of, decompressed
from onerack.mapreduce.inputs.lines import LineCodec
from onerack.mapreduce.inputs.records import (
    ByteBlock,
    ByteOrigin,
    OnBad,
    Piece,
    RecordBlock,
    RecordUnreadable,
    preview_of,
)
from onerack.mapreduce.inputs.sources import LocalSource, Source, open_source
from onerack.mapreduce.messages import Fragment, InputFormat, RecordAt, Split

BYTE_BLOCK_BYTES: Final = 8 * 1024 * 1024
BATCH_BYTES: Final = 1024 * 1024

Made = TypeVar("Made")


class SplitReader(ABC):
    """Reads one split, once, through one of three doors."""

    block_bytes = 128 * 1024
    """Input of one block of records; pieces of less than half of it are gathered."""
    reads_empty_files = False
    """Whether a file without bytes has a record."""

    def __init__(self, split: Split, format: InputFormat) -> None:
        self.split = split
        self.format = format
        self.records = 0
        """Records met so far, good and bad."""
        self._bytes_done = 0
        self._source: Source | None = None

    # ------------------------------------------------------------------------------------ the three doors

    def record_blocks(self, on_bad: OnBad | None = None) -> Iterator[RecordBlock]:
        """The records, in order. `on_bad` None: RecordUnreadable is raised at the first that is none."""
        waiting: list[Piece] = []
        size = 0
        for piece in self.pieces(on_bad):
            if not piece.values:
                continue
            waiting.append(piece)
            size += piece.size_bytes
            if 2 * size >= self.block_bytes:
                yield RecordBlock(waiting)
                waiting, size = [], 0
        if waiting:
            yield RecordBlock(waiting)

    def byte_blocks(self, block_bytes: int = BYTE_BLOCK_BYTES) -> Iterator[ByteBlock]:
        """The records' bytes, decompressed and not decoded, in blocks of about that size that end with a record.

        Raises: UsageError: the format's records are not stretches of bytes.
        """
        raise UsageError(
            f"map_block works on bytes, and a {self.format.name} file has none that could be cut at records; "
            "use map or map_batch"
        )

    @abstractmethod
    def batches(self) -> Iterator[Any]:
        """The records as `pyarrow.RecordBatch`es. Raises: RecordUnreadable."""

    @abstractmethod
    def pieces(self, on_bad: OnBad | None) -> Iterator[Piece]:
        """The records of the split, as they come."""

    # ------------------------------------------------------------------------------------ the common part

    @property
    def bytes_read(self) -> int:
        """Bytes consumed so far, as they lie on the disk."""
        return self._bytes_done + (self._source.consumed if self._source else 0)

    def close(self) -> None:
        """Gives the open file back. Done by itself at the end of the split."""
        if self._source is not None:
            self._bytes_done += self._source.consumed
            self._source.close()
            self._source = None

    def over_fragments(self, made: Callable[[Source, Fragment], Iterator[Made]]) -> Iterator[Made]:
        """What `made` makes of each fragment and its open file."""
        for fragment in self.split.fragments:
            yield from self.over_fragment(fragment, made)

    def over_fragment(self, fragment: Fragment, made: Callable[[Source, Fragment], Iterator[Made]]) -> Iterator[Made]:
        """What `made` makes of one fragment."""
        if fragment.length or self.reads_empty_files:
            self._source = open_source(fragment.path)
            try:
                yield from made(self._source, fragment)
            finally:
                self.close()

    def passed(self, size: int) -> None:
        """Counts bytes that were read without a source."""
        self._bytes_done += size

    def is_whole(self, fragment: Fragment, codec: LineCodec) -> bool:
        """Whether this file can only be read from its start."""
        return not codec.splittable or compression_of(fragment.path, self.format) != "none"

    def plain(self, source: Source, fragment: Fragment) -> Iterator[bytes]:
        """The whole file from its start, decompressed."""
        return decompressed(source, compression_of(fragment.path, self.format))

    def chunks(self, source: Source, fragment: Fragment, codec: LineCodec, chunk_bytes: int) -> Iterator[Chunk]:
        """The fragment's lines, whole, in stretches of about that size."""
        if not isinstance(source, LocalSource):
            chunk_bytes = max(chunk_bytes, source.read_bytes)
        if self.is_whole(fragment, codec):
            return stream_chunks(fragment.path, self.plain(source, fragment), codec, chunk_bytes)
        return range_chunks(source, fragment, chunk_bytes)

    def line_blocks(
        self, source: Source, fragment: Fragment, codec: LineCodec, block_bytes: int
    ) -> Iterator[ByteBlock]:
        """The fragment's lines as bytes: views of what was read, or of the mapped file."""
        if isinstance(source, LocalSource) and not self.is_whole(fragment, codec):
            if min(fragment.length, block_bytes) >= MAPPED_BYTES_MIN:
                for offset, view in mapped_blocks(source, fragment, block_bytes):
                    yield ByteBlock(fragment.path, offset, view)
            else:
                for offset, content, end in range_blocks(source, fragment, block_bytes):
                    yield ByteBlock(fragment.path, offset, memoryview(content)[:end])
            return
        for offset, data in self.chunks(source, fragment, codec, block_bytes):
            yield ByteBlock(fragment.path, offset, data)

    def bad(self, on_bad: OnBad | None, origin: ByteOrigin, index: int, reason: str) -> None:
        """Reports a record of `origin` that is none of the format, before its records are counted."""
        raw = origin.raw(index)
        record = RecordAt(self.records + index, *origin.place(index), preview_of(raw))
        if on_bad is None:
            raise RecordUnreadable(record, raw, reason)
        on_bad(record, raw, reason)
