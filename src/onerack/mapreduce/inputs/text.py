"""Text: a record is a line; key (path, byte offset), value the line without its line end.

The idea: a stretch of lines is decoded and cut in two calls whatever number of lines it has, and their offsets come
from one vectorised search for newlines. Only a stretch that does not decode is gone through line by line, so a bad
line costs its neighbours some time, not the job.

The rule: the value is `bytes.decode` of the line's own bytes under the job's error policy (or those bytes, with
encoding="bytes"); where the file was cut never shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from onerack.mapreduce.inputs.line_reader import (
    LineReader,
    Stretch,
    decoded_lines,
    joined_paths,
    lines_of,
    undecodable,
)
from onerack.mapreduce.inputs.lines import BYTES, byte_lines
from onerack.mapreduce.inputs.records import ByteOrigin, OnBad, Piece
from onerack.mapreduce.inputs.split_reader import BATCH_BYTES


class TextReader(LineReader):
    """Lines of text."""

    def pieces(self, on_bad: OnBad | None) -> Iterator[Piece]:
        for stretch in self.stretches(self.block_bytes):
            yield self._piece(stretch, on_bad)

    def _piece(self, stretch: Stretch, on_bad: OnBad | None) -> Piece:
        codec, origin = stretch
        count = len(origin.stops)
        values: list[Any]
        try:
            values = byte_lines(lines_of(origin)) if codec.encoding == BYTES else decoded_lines(codec, origin)
        except UnicodeDecodeError:
            origin, values = self._line_by_line(stretch, on_bad)
        self.records += count
        return Piece(origin.keys, values, len(origin.data), origin)

    def _line_by_line(self, stretch: Stretch, on_bad: OnBad | None) -> tuple[ByteOrigin, list[str]]:
        """The lines that decode under the job's policy, and where they lie."""
        codec, origin = stretch
        values: list[str] = []
        good: list[int] = []
        for index in range(len(origin.stops)):
            try:
                values.append(codec.decode_line(origin.raw(index)))
                good.append(index)
            except UnicodeDecodeError as error:
                self.bad(on_bad, origin, index, undecodable(self.format.encoding, error))
        return (origin if len(good) == len(origin.stops) else origin.only(good)), values

    def batches(self) -> Iterator[Any]:
        """Columns `path`, `offset` and `line`; with encoding="bytes", `line` is binary."""
        for stretch in self.stretches(BATCH_BYTES):
            lines = _native_lines(stretch)
            if lines is None:
                values = self._piece(stretch, None).values
                lines = pa.array(values, pa.binary() if stretch.codec.encoding == BYTES else pa.string())
            keys = stretch.origin.keys
            columns = [joined_paths(keys), pa.array(keys.offsets), lines]
            yield pa.RecordBatch.from_arrays(columns, ["path", "offset", "line"])


def _native_lines(stretch: Stretch) -> Any | None:
    """The lines as one array, cut by Arrow; None where only Python knows how (rare encodings, bad bytes, CR)."""
    codec, origin = stretch
    if codec.encoding not in (BYTES, "utf-8", "ascii") or b"\r" in origin.data or not len(origin.stops):
        return None
    data = lines_of(origin).removesuffix(b"\n")
    if codec.encoding == "ascii" and not data.isascii():
        return None
    whole: Any = pa.array([data], pa.binary())
    if codec.encoding != BYTES:
        try:
            whole = whole.cast(pa.string())
        except pa.ArrowInvalid:
            return None
    return pc.split_pattern(whole, "\n").values
