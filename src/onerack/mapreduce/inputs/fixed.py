"""Fixed: records of one size and no separator; key (path, offset), value the record's bytes.

The idea: record i lies at i x size, so every border is a multiplication, and a numpy view cuts a whole chunk into
bytes objects in one call.

The rule: a fragment holds the records whose first byte lies in it. What remains behind the last whole record of a
file is a bad record, not a silently shorter one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from onerack.mapreduce.inputs.chunks import MAPPED_BYTES_MIN, Chunk, MappedFile, shrunk
from onerack.mapreduce.inputs.compression import compression_of
from onerack.mapreduce.inputs.records import ByteBlock, ByteOrigin, OnBad, PathOffsets, Piece
from onerack.mapreduce.inputs.sources import LocalSource, Source
from onerack.mapreduce.inputs.split_reader import BATCH_BYTES, BYTE_BLOCK_BYTES, SplitReader
from onerack.mapreduce.messages import Fragment, InputFormat, Split


class FixedReader(SplitReader):
    """Records of `record_bytes` bytes."""

    def __init__(self, split: Split, format: InputFormat) -> None:
        super().__init__(split, format)
        self.size = format.record_bytes

    # ------------------------------------------------------------------------------------ doors

    def pieces(self, on_bad: OnBad | None) -> Iterator[Piece]:
        for path, chunk in self._records(self.block_bytes):
            yield self._piece(path, chunk, on_bad)

    def _piece(self, path: str, chunk: Chunk, on_bad: OnBad | None) -> Piece:
        whole = len(chunk.data) // self.size
        starts = np.arange(0, len(chunk.data), self.size, dtype=np.int64)
        stops = np.minimum(starts + self.size, len(chunk.data))
        origin = ByteOrigin(PathOffsets([path], [0], starts + chunk.offset), chunk.data, starts, stops)
        if len(starts) > whole:
            rest = len(chunk.data) - whole * self.size
            self.bad(on_bad, origin, whole, f"the file ends {rest} bytes into a record of {self.size} bytes")
            origin = origin.only(range(whole))
        self.records += len(starts)
        values = np.frombuffer(chunk.data, f"V{self.size}", count=whole).tolist()
        return Piece(origin.keys, values, len(chunk.data), origin)

    def byte_blocks(self, block_bytes: int = BYTE_BLOCK_BYTES) -> Iterator[ByteBlock]:
        return self.over_fragments(partial(self._blocks, block_bytes=block_bytes))

    def batches(self) -> Iterator[Any]:
        """Columns `path`, `offset` and `record`."""
        for path, chunk in self._records(BATCH_BYTES):
            piece = self._piece(path, chunk, None)
            rows = len(piece.values)
            records = pa.Array.from_buffers(pa.binary(self.size), rows, [None, pa.py_buffer(chunk.data)])
            paths: Any = np.zeros(rows, np.int32)
            columns = [
                pa.DictionaryArray.from_arrays(paths, pa.array([path])),
                pa.array(np.arange(rows, dtype=np.int64) * self.size + chunk.offset),
                records,
            ]
            yield pa.RecordBatch.from_arrays(columns, ["path", "offset", "record"])

    # ------------------------------------------------------------------------------------ borders

    def _border(self, position: int) -> int:
        """Where the first record at or behind `position` starts."""
        return -(-position // self.size) * self.size

    def _step(self, wanted: int) -> int:
        """About `wanted` bytes, in whole records."""
        return max(1, wanted // self.size) * self.size

    def _records(self, chunk_bytes: int) -> Iterator[tuple[str, Chunk]]:
        """Whole records, and at the end of a file perhaps a part of one."""
        chunks = partial(self._chunks, chunk_bytes=chunk_bytes)
        return self.over_fragments(
            lambda source, fragment: ((fragment.path, chunk) for chunk in chunks(source, fragment))
        )

    def _chunks(self, source: Source, fragment: Fragment, chunk_bytes: int) -> Iterator[Chunk]:
        step = self._step(max(chunk_bytes, 0 if isinstance(source, LocalSource) else source.read_bytes))
        if compression_of(fragment.path, self.format) != "none":
            yield from self._stream(self.plain(source, fragment), step)
            return
        position, stop = self._border(fragment.start), self._border(fragment.start + fragment.length)
        while position < stop:
            data = source.read_at(position, min(step, stop - position))
            if position + len(data) < min(stop, fragment.start + fragment.length) and len(data) < step:
                raise shrunk(fragment)
            source.consumed += len(data)
            yield Chunk(position, data)
            position += step

    def _stream(self, plain: Iterator[bytes], step: int) -> Iterator[Chunk]:
        buffer = bytearray()
        offset = 0
        for content in plain:
            buffer += content
            if len(buffer) >= step:
                end = len(buffer) - len(buffer) % self.size
                yield Chunk(offset, bytes(memoryview(buffer)[:end]))
                offset += end
                del buffer[:end]
        if buffer:
            yield Chunk(offset, bytes(buffer))

    def _blocks(self, source: Source, fragment: Fragment, block_bytes: int) -> Iterator[ByteBlock]:
        plain = compression_of(fragment.path, self.format) == "none"
        if not (plain and isinstance(source, LocalSource) and fragment.length >= MAPPED_BYTES_MIN):
            for offset, data in self._chunks(source, fragment, block_bytes):
                yield ByteBlock(fragment.path, offset, data)
            return
        file = MappedFile(source, fragment)
        position = self._border(fragment.start)
        stop = min(self._border(fragment.start + fragment.length), file.size)
        step = self._step(block_bytes)
        while position < stop:
            end = min(position + step, stop)
            for view in file.pass_over(position, end):
                yield ByteBlock(fragment.path, position, view)
            position = end
