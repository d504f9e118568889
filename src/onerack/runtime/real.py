"""The real world: the operating system's clock, sockets and files behind the protocols of env.py.

The idea: as thin as possible, so that what is not simulated is hardly worth simulating. Sockets are asyncio streams
that carry frames; files are plain file descriptors, each append one `write`.

The rule: a failed fsync ends the process, at once. After the failure the kernel marks the pages clean and the next
fsync says that all is well, so retrying would turn lost data into acknowledged data.
"""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from onerack.codec import FrameDecoder, encode_frame
from onerack.errors import UsageError, storing
from onerack.runtime.env import Connection, Disk, Listener, Mapped, Serve

EXIT_IO_ERROR = 74
"""sysexits.h's EX_IOERR: the exit code after a failed fsync."""
_READ_BYTES = 256 * 1024


class RealClock:
    """The operating system's monotonic clock."""

    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


# ---------------------------------------------------------------------------------------------------- sockets


class StreamConnection:
    """A connection over an asyncio stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> None:
        self.peer = peer
        self._reader = reader
        self._writer = writer
        self._decoder = FrameDecoder()
        self._received: deque[bytes] = deque()

    def send(self, payload: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode_frame(payload))

    async def flush(self) -> None:
        try:
            await self._writer.drain()
        except ConnectionError:
            self.close()

    async def receive(self) -> bytes | None:
        while not self._received:
            try:
                arrived = await self._reader.read(_READ_BYTES)
            except ConnectionError:
                arrived = b""
            if not arrived:
                return None
            self._received.extend(self._decoder.feed(arrived))
        return self._received.popleft()

    def close(self) -> None:
        self._writer.close()


class StreamListener:
    """Takes connections on one socket; closing it ends the connections that it took."""

    def __init__(self, serve: Serve) -> None:
        self.address = ""
        self._serve = serve
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    def bind(self, server: asyncio.Server, address: str) -> None:
        self._server = server
        self.address = address

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        connection = StreamConnection(reader, writer, str(writer.get_extra_info("peername") or self.address))
        try:
            await self._serve(connection)
        except asyncio.CancelledError:
            # Only `close` cancels, and it waits for us; asyncio's own callback would call this an error.
            pass
        finally:
            connection.close()
            self._serving.discard(task)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await self._server.wait_closed()
        if self.address.startswith("unix:"):
            _unlink_if_there(self.address.removeprefix("unix:"))


class RealNetwork:
    """Unix and TCP sockets."""

    async def listen(self, address: str, serve: Serve) -> Listener:
        listener = StreamListener(serve)
        path, host, port = parse_address(address)
        if path:
            server = await asyncio.start_unix_server(listener.accept, path)
            os.chmod(path, 0o600)
            listener.bind(server, address)
        else:
            server = await asyncio.start_server(listener.accept, host, port)
            listener.bind(server, f"tcp:{host}:{server.sockets[0].getsockname()[1]}")
        return listener

    async def connect(self, address: str) -> Connection:
        path, host, port = parse_address(address)
        try:
            if path:
                reader, writer = await asyncio.open_unix_connection(path)
            else:
                reader, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            raise ConnectionError(f"nobody listens at {address}: {error.strerror or error}") from error
        return StreamConnection(reader, writer, address)


def parse_address(address: str) -> tuple[str, str, int]:
    """(path, "", 0) of `unix:PATH`, ("", host, port) of `tcp:HOST:PORT`. Raises: UsageError."""
    kind, _, rest = address.partition(":")
    if kind == "unix" and rest:
        return rest, "", 0
    host, _, port = rest.rpartition(":")
    if kind == "tcp" and host and port.isdecimal() and int(port) < 65536:
        return "", host, int(port)
    raise UsageError(f"{address!r} is not an address; expected unix:PATH or tcp:HOST:PORT")


# ------------------------------------------------------------------------------------------------------ files


def halt(reason: str) -> None:
    """Ends the process without unwinding: nothing may be sent or written after a failed fsync."""
    print(f"onerack: {reason}; this process ends, because what it acknowledges next could be lost", file=sys.stderr)
    sys.stderr.flush()
    os._exit(EXIT_IO_ERROR)


class _WrittenFile:
    """A file descriptor that is written to."""

    def __init__(self, path: str, flags: int) -> None:
        self._path = path
        with storing(path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o644)

    def sync(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            halt(f"fsync of {self._path} failed ({error.strerror})")

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RealAppendFile(_WrittenFile):
    """A file descriptor opened for appending."""

    def __init__(self, path: str) -> None:
        super().__init__(path, os.O_APPEND | os.O_CREAT)

    def append(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            with storing(self._path):
                written = os.write(self._descriptor, rest)
            rest = rest[written:]


class RealFixedFile(_WrittenFile):
    """A file descriptor opened for writing over what is there."""

    def __init__(self, path: str) -> None:
        super().__init__(path, 0)

    def write(self, position: int, *pieces: bytes) -> None:
        with storing(self._path):
            written = os.pwritev(self._descriptor, pieces, position)
        size = sum(map(len, pieces))
        if written < size:  # Rare: the copy is for the rest only.
            rest = memoryview(b"".join(pieces))[written:]
            while rest:
                with storing(self._path):
                    written = os.pwrite(self._descriptor, rest, position + size - len(rest))
                rest = rest[written:]


class RealReadFile:
    """A file descriptor opened for reading at any place."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size

    def read(self, position: int, size: int) -> bytes:
        pieces: list[bytes] = []
        while size > 0:
            piece = os.pread(self._descriptor, size, position)
            if not piece:
                break
            pieces.append(piece)
            position += len(piece)
            size -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RealLock:
    """A lock (flock) on a file. The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, path: str) -> None:
        with storing(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            if isinstance(error, BlockingIOError):
                raise UsageError(f"{path} is held by another process, which must end first") from error
            raise UsageError(f"{path} cannot be locked ({error.strerror}); choose a file system with locks") from error

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RealDisk:
    """The local file system."""

    def open_append(self, path: str) -> RealAppendFile:
        return RealAppendFile(path)

    def open_fixed(self, path: str) -> RealFixedFile:
        return RealFixedFile(path)

    def open_read(self, path: str) -> RealReadFile:
        return RealReadFile(path)

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def map(self, path: str) -> Mapped:
        with open(path, "rb", buffering=0) as file:
            if not os.fstat(file.fileno()).st_size:
                return b""  # Of which there can be no mapping.
            piece = bytearray(_READ_BYTES)
            while file.readinto(piece):
                pass  # What cannot be read is an OSError here, and would be a signal later.
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def rename(self, source: str, target: str) -> None:
        with storing(target):
            os.replace(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def sync_directory(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            halt(f"fsync of the directory {path} failed ({error.strerror})")
        finally:
            os.close(descriptor)

    def make_directory(self, path: str) -> None:
        if os.path.isdir(path):
            return
        parent = os.path.dirname(os.path.abspath(path))
        self.make_directory(parent)
        with storing(path), suppress(FileExistsError):
            os.mkdir(path, 0o700)
        self.sync_directory(parent)

    def names(self, directory: str) -> Sequence[str]:
        return sorted(os.listdir(directory))

    def lock(self, path: str) -> RealLock:
        return RealLock(path)


class FileJournal:
    """A journal in one file: frames, appended; read back by `codec.decode_file`.

    `sync=False` leaves durability to the operating system: right for an embedded job, which dies with its machine
    anyway, and for which the journal serves people and `onerack debug`.
    """

    def __init__(self, disk: Disk, path: str, *, sync: bool) -> None:
        self._file = disk.open_append(path)
        self._sync = sync

    def append(self, records: Sequence[bytes]) -> None:
        self._file.append(b"".join(map(encode_frame, records)))
        if self._sync:
            self._file.sync()

    def close(self) -> None:
        self._file.close()


def _unlink_if_there(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
