"""Compression: gzip, bz2, xz and zstd files as streams of plain bytes.

The idea: the four decompressors of the standard library and of Arrow are driven by hand, because their file classes
hide where in the file something broke. A compressed file may have several members one after another (`cat a.gz b.gz`,
parallel compressors write them so); they read as one.

The rule: output comes in pieces of bounded size, however well the input was compressed, and damage, truncation and
trailing garbage each end in an `InputError` that names the file, and, where it is known, the byte.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import pyarrow as pa

from onerack.errors import InputError
from onerack.mapreduce.inputs.sources import Source, is_remote, reads
from onerack.mapreduce.messages import InputFormat

Compression = Literal["none", "gzip", "bz2", "xz", "zstd"]

SUFFIXES: Final[dict[str, Compression]] = {
    ".gz": "gzip", ".gzip": "gzip", ".tgz": "gzip", ".bz2": "bz2", ".xz": "xz", ".lzma": "xz", ".zst": "zstd",
    ".zstd": "zstd",
}  # fmt: skip
PIECE_BYTES: Final = 256 * 1024
"""At most so many bytes are decompressed at once."""


def compression_of(path: str, format: InputFormat) -> Compression:
    """How `path` is compressed: as the format says, or by its suffix. Parquet and pairs compress within."""
    if format.name in ("parquet", "pairs"):
        return "none"
    if format.compression != "infer":
        return format.compression
    if is_remote(path):  # In an archive (zip://a.gz::b.zip) the first name is the file's own.
        path = next(link for link in path.split("::") if "://" in link)
    dot = path.rfind(".")
    return SUFFIXES.get(path[dot:].lower(), "none") if dot > path.rfind("/") else "none"


def decompressed(source: Source, compression: Compression) -> Iterator[bytes]:
    """The plain bytes of a source. Raises: InputError: it is not what it says, or it is damaged."""
    if compression == "none":
        return reads(source)
    if compression == "zstd":
        return _zstd(source)
    return _members(source, compression)


class _Inflater:
    """zlib's decompressor with the manners of the other two: it keeps its own unconsumed input."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, content: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + content, max_length)


_DECOMPRESSORS: Final[dict[str, Callable[[], Any]]] = {
    "gzip": _Inflater,
    "bz2": bz2.BZ2Decompressor,
    "xz": lzma.LZMADecompressor,
}


def _members(source: Source, compression: Compression) -> Iterator[bytes]:
    """Member after member. Zero bytes after a member are padding (tapes, xz); anything else must be a member."""
    stored = reads(source)
    content = next(stored, b"")
    members = 0
    while content:
        inner = _DECOMPRESSORS[compression]()
        while not inner.eof:
            try:
                plain = inner.decompress(content, PIECE_BYTES)
            except (zlib.error, OSError, EOFError, lzma.LZMAError) as error:
                raise _damaged(source, compression, members, str(error)) from error
            content = b""
            if plain:
                yield plain
            if not inner.eof and inner.needs_input and not plain:
                content = next(stored, b"")
                if not content:
                    raise InputError(source.path, f"the {compression} data ends too early: the file was cut short")
        members += 1
        content = inner.unused_data.lstrip(b"\0")
        while not content and (more := next(stored, b"")):
            content = more.lstrip(b"\0")


def _damaged(source: Source, compression: Compression, members: int, reason: str) -> InputError:
    """Garbage at the very start is no damage but another kind of file, and garbage after a member is its tail."""
    near = f"near byte {source.consumed}"
    if members:
        return InputError(source.path, f"{compression} data is damaged after member {members}, {near}: {reason}")
    return InputError(
        source.path,
        f"is damaged {near}, or is no {compression} file: {reason}; "
        "if it is not compressed, set the input's compression to 'none'",
    )


class _Readable:
    """Lets Arrow pull from a source. Its own file classes cannot open every URL, and they would not count."""

    closed = False

    def __init__(self, source: Source) -> None:
        self._stored = reads(source)
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        if not self._left:
            self._left = next(self._stored, b"")
        size = len(self._left) if size < 0 else size
        content, self._left = self._left[:size], self._left[size:]
        return content

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


def _zstd(source: Source) -> Iterator[bytes]:
    """Arrow's zstd, which is always there; an empty file is empty."""
    if not source.read_at(0, 1):
        return
    stored: Any = _Readable(source)
    stream = pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), "zstd")
    try:
        while plain := stream.read(PIECE_BYTES):
            yield plain
    except OSError as error:
        reason = str(error)
        if "runcated" in reason:
            raise InputError(source.path, "the zstd data ends too early: the file was cut short") from error
        raise _damaged(source, "zstd", 0, reason) from error
