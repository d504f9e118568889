"""Whole files: a record is a file; key its path, value its text (or its bytes, with encoding="bytes").

The idea: some formats only their own parser can cut (HTML, XML, source files), and often the file's name is the key
that matters. An empty file is a record, too.

The rule: text is decoded at once under the job's error policy, and newlines stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from onerack.mapreduce.inputs.chunks import MAPPED_BYTES_MIN, MappedFile
from onerack.mapreduce.inputs.compression import compression_of
from onerack.mapreduce.inputs.line_reader import undecodable
from onerack.mapreduce.inputs.lines import BYTES, line_codec
from onerack.mapreduce.inputs.records import ByteBlock, ByteOrigin, OnBad, PathOffsets, Piece
from onerack.mapreduce.inputs.sources import LocalSource, Source
from onerack.mapreduce.inputs.split_reader import BYTE_BLOCK_BYTES, SplitReader
from onerack.mapreduce.messages import Fragment, InputFormat, Split


class WholeReader(SplitReader):
    """Files as records."""

    reads_empty_files = True

    def __init__(self, split: Split, format: InputFormat) -> None:
        super().__init__(split, format)
        line_codec(format.encoding, format.errors)

    def pieces(self, on_bad: OnBad | None) -> Iterator[Piece]:
        for fragment in self.split.fragments:
            yield from self.over_fragment(fragment, lambda source, fragment: self._piece(source, fragment, on_bad))

    def _piece(self, source: Source, fragment: Fragment, on_bad: OnBad | None) -> Iterator[Piece]:
        data = self._content(source, fragment)
        ends = np.array([len(data)])
        origin = ByteOrigin(PathOffsets([fragment.path], [0], np.array([0])), data, ends * 0, ends)
        values: list[Any] = []
        try:
            is_bytes = self.format.encoding == BYTES
            values.append(data if is_bytes else data.decode(self.format.encoding, self.format.errors))
        except UnicodeDecodeError as error:
            self.bad(on_bad, origin, 0, undecodable(self.format.encoding, error))
        self.records += 1
        yield Piece([fragment.path][: len(values)], values, len(data), origin)

    def _content(self, source: Source, fragment: Fragment) -> bytes:
        if compression_of(fragment.path, self.format) == "none":
            # One read for nearly all files; more only when it has grown since the plan was made.
            data = source.read_at(0, fragment.length + 1)
            source.consumed += len(data)
            if len(data) <= fragment.length:
                return data
            return data + b"".join(self.plain(source, fragment))
        return b"".join(self.plain(source, fragment))

    def byte_blocks(self, block_bytes: int = BYTE_BLOCK_BYTES) -> Iterator[ByteBlock]:
        """A block for each file, however large; large local files as views."""
        return self.over_fragments(self._blocks)

    def _blocks(self, source: Source, fragment: Fragment) -> Iterator[ByteBlock]:
        plain = compression_of(fragment.path, self.format) == "none"
        if plain and isinstance(source, LocalSource) and fragment.length >= MAPPED_BYTES_MIN:
            file = MappedFile(source, fragment)
            for view in file.pass_over(0, file.size):
                yield ByteBlock(fragment.path, 0, view)
            return
        yield ByteBlock(fragment.path, 0, self._content(source, fragment))

    def batches(self) -> Iterator[Any]:
        """Columns `path` and `content`."""
        kind = pa.binary() if self.format.encoding == BYTES else pa.string()
        for block in self.record_blocks():
            columns = [pa.array(list(block.keys), pa.string()), pa.array(list(block.values), kind)]
            yield pa.RecordBatch.from_arrays(columns, ["path", "content"])
