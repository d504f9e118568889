"""JSON Lines: a record is a line of JSON; key (path, byte offset), value what it says.

The idea: msgspec decodes line after line without a line of Python between them. (Its `decode_lines` would be faster,
but takes `1 2` for two lines.) Only when one fails, the stretch is gone through with care, and what msgspec refuses
(NaN, Infinity, lone surrogates) gets a second chance with Python's own decoder.

The rules: a line of blanks is no record. A byte order mark at the start of a file is left out. A broken line is a bad
record of its own, and costs no other line anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pyarrow as pa

from onerack.errors import InputError
from onerack.mapreduce.inputs.line_reader import LineReader, Stretch, lines_of, undecodable
from onerack.mapreduce.inputs.lines import BYTES, byte_lines, line_codec
from onerack.mapreduce.inputs.records import ByteOrigin, OnBad, Piece
from onerack.mapreduce.inputs.split_reader import BATCH_BYTES
from onerack.mapreduce.messages import InputFormat, Split

_DECODER: Final = msgspec.json.Decoder()


class JsonlReader(LineReader):
    """Lines of JSON."""

    def __init__(self, split: Split, format: InputFormat) -> None:
        super().__init__(split, format)
        if self.codec.encoding in ("utf-8", BYTES):
            self.codec = line_codec("utf-8-sig", format.errors)
        self._is_utf8 = self.codec.body.encoding == "utf-8" and format.errors == "strict"

    def pieces(self, on_bad: OnBad | None) -> Iterator[Piece]:
        for stretch in self.stretches(self.block_bytes):
            yield self._piece(stretch, on_bad)

    def _piece(self, stretch: Stretch, on_bad: OnBad | None) -> Piece:
        origin = stretch.origin
        lines = len(origin.stops)
        values: list[Any] | None = None
        if self._is_utf8 and stretch.codec.encoding == "utf-8":
            values = _decoded(byte_lines(lines_of(origin)))
        if values is None:
            origin, values = self._line_by_line(stretch, on_bad)
        self.records += lines
        return Piece(origin.keys, values, len(origin.data), origin)

    def _line_by_line(self, stretch: Stretch, on_bad: OnBad | None) -> tuple[ByteOrigin, list[Any]]:
        """The values of the lines that are JSON, and where these lie."""
        codec, origin = stretch
        values: list[Any] = []
        good: list[int] = []
        for index in range(len(origin.stops)):
            try:
                line = codec.decode_line(origin.raw(index))
                if line.strip(" \t\r\n"):
                    values.append(_value_of(line))
                    good.append(index)
            except UnicodeDecodeError as error:
                self.bad(on_bad, origin, index, undecodable(self.format.encoding, error))
            except (ValueError, RecursionError) as error:
                self.bad(on_bad, origin, index, f"is not JSON: {error}")
        return origin.only(good), values

    def batches(self) -> Iterator[Any]:
        """The objects' fields as columns, in order of first appearance; a missing field is null.

        The types are those of each batch's values. Raises: RecordUnreadable: a line is no JSON object.
        """
        for stretch in self.stretches(BATCH_BYTES):
            piece = self._piece(stretch, None)
            for index, value in enumerate(piece.values):
                if not isinstance(value, dict):
                    self.bad(None, _origin_of(piece), index, f"is no JSON object but {type(value).__name__}")
            if piece.values:
                yield _table(piece)


def _origin_of(piece: Piece) -> ByteOrigin:
    assert isinstance(piece.origin, ByteOrigin)
    return piece.origin


def _table(piece: Piece) -> Any:
    names: dict[str, None] = {}
    for row in piece.values:
        names.update(dict.fromkeys(row))
    try:
        columns = [pa.array([row.get(name) for row in piece.values]) for name in names]
    except (pa.ArrowException, OverflowError) as error:
        path, offset = piece.keys[0]
        reason = f"the rows from byte {offset} on have a field of several types, which no column holds: {error}"
        raise InputError(path, f"{reason}; use map, which takes each row by itself") from error
    return pa.RecordBatch.from_arrays(columns, list(names))


def _decoded(lines: list[bytes]) -> list[Any] | None:
    """The values of all lines, or None when they have to be looked at with care."""
    try:
        return list(map(_DECODER.decode, lines))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _value_of(line: str) -> Any:
    """One line's value. Raises: ValueError: it is no JSON."""
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeError):
        return json.loads(line)
