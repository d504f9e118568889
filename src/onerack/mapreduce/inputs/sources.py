"""Sources: the bytes of one input file, local or remote.

The idea: a local path is opened with os.open and read with os.pread, because twenty thousand small files would
otherwise cost more in layers than in reading; everything that looks like a URL goes through fsspec, with ranged
reads. Both give the same two verbs: `read_at` for ranges, `reads` for the whole file from its start.

The rule: whatever goes wrong here leaves as `InputError` with the file's name, never as a bare OSError.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Protocol

from onerack.errors import InputError

READ_BYTES = 256 * 1024
"""One read of a local file: it, its text and the lines cut from it fit the cache of one core."""
REMOTE_READ_BYTES = 4 * 1024 * 1024
"""One ranged request: far above the latency of a request, far below the memory of a worker."""


_URL = re.compile(r"(?!(?:file|local)://)[a-z][a-z0-9+.-]*(?:://|::.*://)", re.IGNORECASE | re.DOTALL)


def is_remote(path: str) -> bool:
    """Whether fsspec has to open this. `file://` is local, and so is the manual page `File::Spec.3pm`."""
    return _URL.match(path) is not None


def local_path(path: str) -> str:
    """A local path without its scheme."""
    return path.partition("://")[2] if path.startswith(("file://", "local://")) else path


def absolute_path(path: str) -> str:
    """The absolute path of a local name. A quoted pattern keeps its `~` from the shell, so it is taken here."""
    return os.path.abspath(os.path.expanduser(local_path(path)))


def refuse_undecodable(name: str) -> None:
    """Raises `InputError` for a name of bytes that are no UTF-8: no message and no record could hold it."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(name, "this name is not valid UTF-8; rename it, or link to it by another name") from error


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Names `path` in whatever the operating system has against it."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(path, "no such file (it was there when the job was planned, or the name is wrong)") from error
    except PermissionError as error:
        raise InputError(path, "permission denied; the job's user must be able to read it") from error
    except IsADirectoryError as error:
        raise InputError(path, "is a directory, where a file was expected") from error
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror or error}") from error


class Source(Protocol):
    """An open input file."""

    path: str
    read_bytes: int
    """The size of one read that suits this source."""
    consumed: int
    """Bytes that became records so far; the reader's progress."""

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer only at the end of the file."""

    def size(self) -> int:
        """Bytes in the file now."""

    def close(self) -> None: ...


class LocalSource:
    """A file of this machine."""

    __slots__ = ("consumed", "descriptor", "path", "read_bytes")

    def __init__(self, path: str) -> None:
        self.path = path
        self.read_bytes = READ_BYTES
        self.consumed = 0
        try:
            self.descriptor = os.open(local_path(path), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            with reading(path):
                raise

    def read_at(self, offset: int, size: int) -> bytes:
        try:
            content = os.pread(self.descriptor, size, offset)
            # A short read is the end of a regular file, except that one call gives at most 2 GiB.
            while (missing := size - len(content)) and (
                more := os.pread(self.descriptor, missing, offset + len(content))
            ):
                content += more
        except OSError:
            with reading(self.path):
                raise
        return content

    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def close(self) -> None:
        os.close(self.descriptor)


class RemoteSource:
    """A file behind an fsspec URL."""

    __slots__ = ("consumed", "file", "filesystem", "path", "read_bytes")

    def __init__(self, path: str) -> None:
        import fsspec

        self.path = path
        self.read_bytes = REMOTE_READ_BYTES
        self.consumed = 0
        with reading(path):
            # Kept as long as its file: an archive that nobody holds closes itself.
            self.filesystem, name = fsspec.core.url_to_fs(path)
            self.file: IO[Any] = self.filesystem.open(name, "rb")

    def read_at(self, offset: int, size: int) -> bytes:
        with reading(self.path):
            self.file.seek(offset)
            parts = [self.file.read(size)]
            missing = size - len(parts[0])
            while missing and (more := self.file.read(missing)):
                parts.append(more)
                missing -= len(more)
        return b"".join(parts)

    def size(self) -> int:
        with reading(self.path):
            return int(self.file.seek(0, os.SEEK_END))

    def close(self) -> None:
        self.file.close()


def open_source(path: str) -> Source:
    """The file behind `path`. Raises: InputError: it cannot be opened."""
    return RemoteSource(path) if is_remote(path) else LocalSource(path)


def reads(source: Source) -> Iterator[bytes]:
    """The whole file from its start, read by read; counts what was consumed."""
    while content := source.read_at(source.consumed, source.read_bytes):
        source.consumed += len(content)
        yield content
