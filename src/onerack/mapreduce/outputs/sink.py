"""Sink: bytes into one file, buffered, perhaps compressed, checksummed as they leave.

The idea: all formats end here, so that three things are said once: small writes are gathered, the checksum is of the
bytes as they lie on the disk, and a full disk has a name.

The rule: after `close` the file is complete and `size` and `checksum` are those of its bytes; after `abort`, or any
failure, it is gone. Compressed output carries no time and no name, so equal results are equal bytes.

An embedded job does not call fsync: its output is as durable as that of `sort -o`, no more.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from typing import Any, Final

import pyarrow as pa

from onerack.errors import StorageFull, storing
from onerack.mapreduce.inputs.sources import is_remote

BUFFER_BYTES: Final = 1024 * 1024


class _Written:
    """What Arrow asks of a file object that is only written."""

    closed = False

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


class _RawFile(_Written):
    """The file itself: writes everything it is given, and counts."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        self.checksum = 0
        with storing(path):
            self._file = open_binary(path, "wb")

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        with storing(self.path):
            written = 0
            while written < len(view):
                written += self._file.write(view[written:])
        self.size += len(view)
        self.checksum = zlib.crc32(view, self.checksum)
        return len(view)

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            with storing(self.path):
                self._file.close()


def open_binary(path: str, mode: str) -> Any:
    """A local file without Python's own buffer, or whatever fsspec opens for a URL."""
    if is_remote(path):
        import fsspec

        filesystem, name = fsspec.core.url_to_fs(path)
        return filesystem.open(name, mode)
    return open(path, mode, buffering=0)


def remove_file(path: str) -> None:
    """Removes a file that may not be there."""
    if is_remote(path):
        import fsspec

        filesystem, name = fsspec.core.url_to_fs(path)
        with suppress(FileNotFoundError):
            filesystem.rm_file(name)
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)


class _Gzip:
    """gzip in the two calls that a sink needs; the header that zlib writes has neither time nor name."""

    def __init__(self, raw: _RawFile) -> None:
        self._raw = raw
        self._inner = zlib.compressobj(6, zlib.DEFLATED, 31)

    def write(self, content: Any) -> None:
        self._raw.write(self._inner.compress(content))

    def close(self) -> None:
        self._raw.write(self._inner.flush())


class Sink(_Written):
    """The one file of an attempt. A file object too: Arrow's writers take it."""

    def __init__(self, path: str, compression: str = "none") -> None:
        self.path = path
        self._raw = _RawFile(path)
        self._waiting: list[Any] = []
        self._waiting_bytes = 0
        self._inner: Any = self._raw
        raw: Any = self._raw
        if compression == "gzip":
            self._inner = _Gzip(raw)
        elif compression == "zstd":
            self._inner = pa.CompressedOutputStream(pa.PythonFile(raw, mode="w"), "zstd")

    @property
    def size(self) -> int:
        """Bytes in the file so far."""
        return self._raw.size

    @property
    def checksum(self) -> int:
        """crc32 of the file so far."""
        return self._raw.checksum

    def write(self, content: Any) -> int:
        """Takes bytes or any buffer; it must not change afterwards."""
        size = len(content)
        if size >= BUFFER_BYTES:
            self.flush()
            self._inner.write(content)
            return size
        self._waiting.append(content)
        self._waiting_bytes += size
        if self._waiting_bytes >= BUFFER_BYTES:
            self.flush()
        return size

    def flush(self) -> None:
        """Hands on what was gathered."""
        if self._waiting:
            waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
            self._inner.write(b"".join(waiting))

    def close(self) -> None:
        """Completes the file. Raises: StorageFull: and the file is gone."""
        if self.closed:
            return
        try:
            self.flush()
            if self._inner is not self._raw:
                self._inner.close()
            self._raw.close()
        except BaseException:
            self.abort()
            raise
        self.closed = True

    def abort(self) -> None:
        """Removes the file, finished or not."""
        self.closed = True
        self._waiting = []
        with suppress(OSError, StorageFull):
            self._raw.close()
        remove_file(self.path)
