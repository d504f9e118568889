"""Lines: where they end and how their bytes become text.

The idea: in almost every encoding a newline is the one byte 0x0A and nothing else is, so a file may be cut at any
newline and each stretch decoded by itself. UTF-16, UTF-32 and EBCDIC are the exceptions: there a file is one split,
and the newline is searched at whole code units. A line ends at a newline; a carriage return before it belongs to
the line end, any other carriage return is data (as are form feeds and the Unicode separators, at which
`str.splitlines` would cut).

The rule: decoding a stretch of lines at once gives exactly what decoding each line by itself gives, or it is not used.
"""

from __future__ import annotations

import codecs
import sys
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from onerack.errors import UsageError

BYTES: Final = "bytes"
"""The encoding of those who want bytes."""
_WIDE: Final = ("utf-16", "utf-32")
_NATIVE: Final = "-le" if sys.byteorder == "little" else "-be"
_MARKS: Final = {
    "utf-8-sig": ((codecs.BOM_UTF8, "utf-8"),),
    "utf-16": ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")),
    "utf-32": ((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")),
}
"""Byte order marks that the codec takes off the start of a file, and the codec for what follows."""


class LineCodec(NamedTuple):
    """One encoding and what to do with bytes that are not of it."""

    encoding: str
    """Python's own name, or `bytes`."""
    errors: str
    newline: bytes

    @property
    def splittable(self) -> bool:
        """Whether a file in this encoding may be cut at newlines found from anywhere."""
        return self.newline == b"\n"

    @property
    def body(self) -> LineCodec:
        """The codec of what does not begin a file: a mark there is data."""
        return self._replace(encoding="utf-8") if self.encoding == "utf-8-sig" else self

    def at_start(self, head: bytes) -> tuple[LineCodec, int]:
        """The codec behind a file's byte order mark, and the mark's length."""
        for mark, encoding in _MARKS.get(self.encoding, ()):
            if head.startswith(mark):
                return line_codec(encoding, self.errors), len(mark)
        if self.encoding in _WIDE:
            return line_codec(self.encoding + _NATIVE, self.errors), 0
        return self.body, 0

    def last_end(self, data: bytes | bytearray, searched: int = 0) -> int:
        """Just behind the last newline of `data`, 0 without one. Bytes before `searched` are known to have none."""
        unit = len(self.newline)
        if unit == 1:
            return data.rfind(self.newline, searched) + 1
        ends = self.ends(data)
        return int(ends[-1]) if len(ends) else 0

    def ends(self, data: bytes | bytearray) -> npt.NDArray[np.int64]:
        """Just behind every newline of `data`, in order."""
        unit = len(self.newline)
        units = np.frombuffer(data, dtype=f"u{unit}", count=len(data) // unit)
        return (np.flatnonzero(units == int.from_bytes(self.newline, sys.byteorder)) + 1) * unit

    def decode(self, data: bytes, count: int) -> list[str]:
        """The `count` lines of `data`, without their line ends; the last one may lack its own.

        Raises: UnicodeDecodeError: some of it is not of this encoding, whatever `errors` says: go line by line.
        """
        text = data.decode(self.encoding)
        lines = text.split("\n")
        if len(lines) == count + 1 and not lines[-1]:
            lines.pop()
        if len(lines) != count:
            raise UnicodeDecodeError(self.encoding, data, 0, len(data), "its newlines are not its line ends")
        if "\r" in text:
            return [line[:-1] if line.endswith("\r") else line for line in lines]
        return lines

    def decode_line(self, line: bytes) -> str:
        """One line, given without its newline. Raises: UnicodeDecodeError: under strict errors."""
        return line.decode(self.encoding, self.errors).removesuffix("\r")


def line_codec(encoding: str, errors: str = "strict") -> LineCodec:
    """The codec of that name. Raises: UsageError: Python knows no such encoding or error policy, or it has no lines."""
    if encoding == BYTES:
        return LineCodec(BYTES, errors, b"\n")
    try:
        name = codecs.lookup(encoding).name
        codecs.lookup_error(errors)
        newline = "\n".encode(name + _NATIVE if name in _WIDE else "utf-8" if name == "utf-8-sig" else name)
    except (LookupError, UnicodeError) as error:
        raise UsageError(f"encoding={encoding!r}, errors={errors!r}: {error}") from error
    if len(newline) != 1 and not name.startswith(_WIDE):
        raise UsageError(f"encoding={encoding!r}: no encoding of text files, a newline in it is {newline!r}")
    return LineCodec(name, errors, newline)


def byte_lines(data: bytes) -> list[bytes]:
    """The lines of `data` without their line ends, for those who want bytes."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    if b"\r" in data:
        return [line[:-1] if line.endswith(b"\r") else line for line in lines]
    return lines
