"""Text: a record is a line; key (path, byte offset), value the line without its line end.

The idea: a block of lines is decoded and split in two calls whatever number of lines it has, and their offsets come
from one vectorised search for newlines. Only a block that does not decode is gone through line by line, so a bad
line costs its block, not the job.

The rule: the value is `bytes.decode` of the line's own bytes under the job's error policy (or those bytes, with
encoding="bytes"); where the file was cut never shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from onerack.mapreduce.inputs.chunks import Chunk
from onerack.mapreduce.inputs.lines import BYTES, LineCodec, byte_lines, line_codec
from onerack.mapreduce.inputs.records import ByteBlock, ByteOrigin, OnBad, PathOffsets, Piece
from onerack.mapreduce.inputs.sources import Source
from onerack.mapreduce.inputs.split_reader import BATCH_BYTES, BLOCK_BYTES, SplitReader
from onerack.mapreduce.messages import Fragment, InputFormat, Split

UNDECODABLE: Final = (
    "is not valid {encoding}: {reason}; give the file's encoding (--encoding latin-1), "
    "a policy for such bytes (--errors replace), or set bad records aside (--on-error skip:N)"
)


class LineReader(SplitReader):
    """Formats whose records are made of lines."""

    def __init__(self, split: Split, format: InputFormat) -> None:
        super().__init__(split, format)
        self.codec = line_codec(format.encoding, format.errors)

    def origins(
        self, source: Source, fragment: Fragment, chunk_bytes: int = BLOCK_BYTES
    ) -> Iterator[tuple[LineCodec, ByteOrigin]]:
        """Stretches of lines, each with the codec that fits it and the places of its lines."""
        codec, start = self.codec.body, 0
        for chunk in self.chunks(source, fragment, self.codec, chunk_bytes):
            if chunk.offset == 0:
                codec, start = self.codec.at_start(chunk.data)
            yield codec, line_origin(fragment.path, chunk, codec, start)
            start = 0

    def blocks(self, source: Source, fragment: Fragment, block_bytes: int) -> Iterator[ByteBlock]:
        return self.line_blocks(source, fragment, self.codec, block_bytes)


def line_origin(path: str, chunk: Chunk, codec: LineCodec, start: int = 0) -> ByteOrigin:
    """The places of a chunk's lines; `start`: the length of a byte order mark."""
    offset, data = chunk
    stops = codec.ends(data)
    if len(data) > (stops[-1] if len(stops) else start):
        stops = np.append(stops, len(data))
    starts: npt.NDArray[np.int64] = np.empty_like(stops)
    if len(stops):
        starts[0] = start
        starts[1:] = stops[:-1]
    return ByteOrigin(path, offset, data, starts, stops, codec.newline)


class TextReader(LineReader):
    """Lines of text."""

    def pieces(self, source: Source, fragment: Fragment, on_bad: OnBad | None) -> Iterator[Piece]:
        for codec, origin in self.origins(source, fragment):
            yield self._piece(codec, origin, fragment, on_bad)

    def _piece(self, codec: LineCodec, origin: ByteOrigin, fragment: Fragment, on_bad: OnBad | None) -> Piece:
        values: list[Any]
        count = len(origin.stops)
        data = origin.data[int(origin.starts[0]) :] if count and origin.starts[0] else origin.data
        try:
            values = byte_lines(data) if codec.encoding == BYTES else codec.decode(data, count)
        except UnicodeDecodeError:
            origin, values = self._line_by_line(codec, origin, fragment, on_bad)
        self.records += count
        return Piece(PathOffsets(origin.path, origin.base + origin.starts), values, len(origin.data), origin)

    def _line_by_line(
        self, codec: LineCodec, origin: ByteOrigin, fragment: Fragment, on_bad: OnBad | None
    ) -> tuple[ByteOrigin, list[str]]:
        """The lines that decode under the job's policy, and where they lie."""
        values: list[str] = []
        good: list[int] = []
        for index in range(len(origin.stops)):
            raw = origin.raw(index)
            try:
                values.append(codec.decode_line(raw))
                good.append(index)
            except UnicodeDecodeError as error:
                reason = UNDECODABLE.format(encoding=self.format.encoding, reason=error.reason)
                self.bad(on_bad, fragment, (self.records + index, origin.offset(index)), raw, reason)
        return origin._replace(starts=origin.starts[good], stops=origin.stops[good]), values

    def tables(self, source: Source, fragment: Fragment) -> Iterator[Any]:
        """Columns `offset` and `line`; with encoding="bytes", `line` is binary."""
        for codec, origin in self.origins(source, fragment, BATCH_BYTES):
            lines = native_lines(codec, origin)
            if lines is None:
                piece = self._piece(codec, origin, fragment, None)
                lines = pa.array(piece.values, pa.binary() if codec.encoding == BYTES else pa.string())
            offsets = pa.array(origin.base + origin.starts)
            yield pa.RecordBatch.from_arrays([offsets, lines], ["offset", "line"])


def native_lines(codec: LineCodec, origin: ByteOrigin) -> Any | None:
    """The lines as one Arrow array, cut by Arrow; None where only Python knows how (rare encodings, bad bytes, CR)."""
    if codec.encoding not in (BYTES, "utf-8", "ascii") or b"\r" in origin.data or not len(origin.stops):
        return None
    data = origin.data[int(origin.starts[0]) :].removesuffix(b"\n")
    if codec.encoding == "ascii" and not data.isascii():
        return None
    whole: Any = pa.array([data], pa.binary())
    if codec.encoding != BYTES:
        try:
            whole = whole.cast(pa.string())
        except pa.ArrowInvalid:
            return None
    return pc.split_pattern(whole, "\n").values
