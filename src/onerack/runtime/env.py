"""Env: what a procedure may ask of the world. Shipped twice: real (runtime/real.py) and simulated (sim/).

The idea: code that takes its clock, its network and its disk as arguments runs unchanged against the operating
system and inside a seeded simulation. Protocol cores need none of this; hosts and procedures do.

The rule: nothing here says how. Addresses are text: `unix:PATH` or `tcp:HOST:PORT`. A connection carries whole
payloads in order; each travels as one frame of codec.py. A disk keeps what was synced, and may keep any prefix of
what was not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from mmap import mmap
from typing import Protocol

Mapped = bytes | mmap
"""The content of a file: slices of it are bytes."""


class Clock(Protocol):
    """Seconds that never go back. Not the time of day."""

    def now(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class Connection(Protocol):
    """Two ends, whole payloads, in order, nothing repeated."""

    peer: str
    """Who is at the other end, for messages to people."""

    def send(self, payload: bytes) -> None:
        """Queues one payload. After the connection has ended it does nothing: the receiver learns of the end."""

    async def flush(self) -> None:
        """Waits until the queue is short again: the brake for those who send much."""

    async def receive(self) -> bytes | None:
        """The next payload, or None when the other end is gone. Raises: ProtocolError: bad bytes came."""

    def close(self) -> None:
        """Ends it. May be called again."""


class Listener(Protocol):
    """Takes connections until it is closed."""

    address: str
    """Where it listens; a port that was asked for as 0 is filled in."""

    async def close(self) -> None: ...


Serve = Callable[[Connection], Awaitable[None]]


class Network(Protocol):
    async def listen(self, address: str, serve: Serve) -> Listener:
        """Runs `serve` for each connection that comes."""

    async def connect(self, address: str) -> Connection:
        """Raises: ConnectionError: nobody listens there."""


class AppendFile(Protocol):
    """A file that only grows."""

    def append(self, content: bytes) -> None:
        """Raises: StorageFull: the disk is full; what was in the file stays."""

    def sync(self) -> None:
        """Everything appended so far is durable when this returns. If it cannot be, the process ends here."""

    def close(self) -> None: ...


class FixedFile(Protocol):
    """A file that keeps its size: what is there is written over."""

    def write(self, position: int, *pieces: bytes) -> None:
        """The pieces, one behind the other, from `position` on. Requires: they end within the file.

        Raises: StorageFull: some of it may be written, on file systems that write a changed block to another place.
        """

    def sync(self) -> None:
        """Everything written so far is durable when this returns. If it cannot be, the process ends here."""

    def close(self) -> None: ...


class ReadFile(Protocol):
    """A file that is read in parts. It may be unlinked meanwhile, and is read to its end all the same."""

    size: int

    def read(self, position: int, size: int) -> bytes:
        """Fewer bytes only where the file ends."""

    def close(self) -> None: ...


class Lock(Protocol):
    """Something that one process holds and all others do not, until `close` or until the process ends."""

    def close(self) -> None: ...


class Disk(Protocol):
    def open_append(self, path: str) -> AppendFile:
        """Opens the file for appending; makes it if it is not there."""

    def read(self, path: str) -> bytes:
        """Raises: FileNotFoundError."""

    def rename(self, source: str, target: str) -> None:
        """Atomic; `target` is replaced. Durable after `sync_directory`."""

    def unlink(self, path: str) -> None: ...

    def sync_directory(self, path: str) -> None: ...

    def make_directory(self, path: str) -> None:
        """Makes it, and those above it, if they are not there; they are durable when this returns."""

    def names(self, directory: str) -> Sequence[str]:
        """What is in the directory, in order of the names."""

    def lock(self, path: str) -> Lock:
        """Makes the file if it is not there, and holds it. Raises: UsageError: somebody else does."""


class StorageDisk(Disk, Protocol):
    """A disk on which files are also written over, and read in parts."""

    def open_fixed(self, path: str) -> FixedFile:
        """Raises: FileNotFoundError."""

    def open_read(self, path: str) -> ReadFile:
        """Raises: FileNotFoundError."""

    def map(self, path: str) -> Mapped:
        """The file without a copy of it: pages come from the disk when they are looked at, and what cannot be read then
        ends the process. Of a file that is unlinked later everything stays. Raises: FileNotFoundError."""


class Journal(Protocol):
    """Where a host puts a core's `writes`."""

    def append(self, records: Sequence[bytes]) -> None:
        """All of them are as durable as this journal makes things when this returns."""
