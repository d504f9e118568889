"""The simulated disk: what a crash may leave of what was written.

The idea: each file has durable bytes and pending ones, each directory durable names and present ones. `sync` and
`sync_directory` make the pending durable. A crash keeps any prefix of each file's pending bytes (of what was written
over: a prefix, or any of its sectors without the others), and all or none of the names that were changed, as the
chance of the seed will have it.

The rule: after a failed sync the pending bytes are gone, though reads may have shown them and the next sync says
that all is well; so a process that goes on after the failure is found out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from onerack.errors import StorageFull, UsageError


class SimHalt(BaseException):
    """The process ended here, as runtime/real.py ends one when fsync fails. Not for `except Exception`."""


SECTOR: Final = 512
"""A disk writes a sector whole or not at all."""


class _Content:
    def __init__(self) -> None:
        self.durable = bytearray()
        self.pending = b""
        self.over: list[tuple[int, bytes]] = []
        """Pending, too: where which bytes are to be written over, in this order."""

    @property
    def present(self) -> bytes:
        """As it reads now."""
        content = self.durable + self.pending
        write_over(content, self.over)
        return bytes(content)


def write_over(content: bytearray, pieces: Sequence[tuple[int, bytes]]) -> None:
    size = len(content)
    for position, piece in pieces:
        content[position : position + len(piece)] = piece
    assert len(content) == size, "a fixed file keeps its size"


def sectors_of(position: int, content: bytes) -> list[tuple[int, bytes]]:
    """The pieces of what is written at `position` that lie in one sector of the file each."""
    ends = [*range(SECTOR - position % SECTOR, len(content), SECTOR), len(content)]
    return [(position + begin, content[begin:end]) for begin, end in pairwise([0, *ends])]


class SimAppendFile:
    """A file that only grows."""

    def __init__(self, disk: SimDisk, path: str, content: _Content) -> None:
        self._disk = disk
        self._path = path
        self._content = content

    def append(self, content: bytes) -> None:
        room = self._disk.room
        self._content.pending += content[: max(0, room)]
        if len(content) > room:
            raise StorageFull(self._path)

    def sync(self) -> None:
        self._disk.sync(self._content)

    def close(self) -> None:
        return


class SimFixedFile:
    """A file that keeps its size."""

    def __init__(self, disk: SimDisk, content: _Content) -> None:
        self._disk = disk
        self._content = content

    def write(self, position: int, *pieces: bytes) -> None:
        self._content.over.append((position, b"".join(pieces)))

    def sync(self) -> None:
        self._disk.sync(self._content)

    def close(self) -> None:
        return


class SimReadFile:
    """A file that is read in parts."""

    def __init__(self, content: _Content) -> None:
        self._content = content
        self.size = len(content.durable) + len(content.pending)

    def read(self, position: int, size: int) -> bytes:
        return self._content.present[position : position + size]

    def close(self) -> None:
        return


class SimLock:
    """Held until it is closed, or until the process or the machine ends."""

    def __init__(self, held: set[str], path: str) -> None:
        if path in held:
            raise UsageError(f"{path} is held by another process, which must end first")
        held.add(path)
        self._held = held
        self._path = path

    def close(self) -> None:
        self._held.discard(self._path)


class SimDisk:
    """One machine's files. Whoever inflicts faults sets `capacity_bytes` and `syncs_until_failure`."""

    def __init__(self, chance: random.Random, capacity_bytes: int = 1 << 40) -> None:
        self.capacity_bytes = capacity_bytes
        self.syncs_until_failure = -1
        """Below zero: syncs succeed."""
        self._chance = chance
        self._names: dict[str, _Content] = {}
        self._durable_names: dict[str, _Content] = {}
        self._held: set[str] = set()

    @property
    def room(self) -> int:
        used = sum(len(content.durable) + len(content.pending) for content in self._names.values())
        return self.capacity_bytes - used

    def open_append(self, path: str) -> SimAppendFile:
        return SimAppendFile(self, path, self._names.setdefault(path, _Content()))

    def open_fixed(self, path: str) -> SimFixedFile:
        return SimFixedFile(self, self._there(path))

    def open_read(self, path: str) -> SimReadFile:
        return SimReadFile(self._there(path))

    def map(self, path: str) -> bytes:
        return self.read(path)

    def read(self, path: str) -> bytes:
        return self._there(path).present

    def _there(self, path: str) -> _Content:
        if path not in self._names:
            raise FileNotFoundError(path)
        return self._names[path]

    def rename(self, source: str, target: str) -> None:
        if source not in self._names:
            raise FileNotFoundError(source)
        self._names[target] = self._names.pop(source)

    def unlink(self, path: str) -> None:
        if path not in self._names:
            raise FileNotFoundError(path)
        del self._names[path]

    def sync_directory(self, path: str) -> None:
        self._count_sync()
        inside = {name for name in (*self._names, *self._durable_names) if name.rpartition("/")[0] == path}
        for name in sorted(inside):
            if name in self._names:
                self._durable_names[name] = self._names[name]
            else:
                del self._durable_names[name]

    def make_directory(self, path: str) -> None:
        """Directories are nothing but the beginnings of names here."""

    def names(self, directory: str) -> Sequence[str]:
        return sorted(name.rpartition("/")[2] for name in self._names if name.rpartition("/")[0] == directory)

    def lock(self, path: str) -> SimLock:
        return SimLock(self._held, path)

    def sync(self, content: _Content) -> None:
        try:
            self._count_sync()
        except SimHalt:
            content.pending = b""
            content.over = []
            raise
        content.durable += content.pending
        write_over(content.durable, content.over)
        content.pending = b""
        content.over = []

    def kill(self) -> None:
        """The process ends, the machine does not: files stay as they are, durable or not."""
        self._held = set()

    def crash(self) -> None:
        """Power is lost; what is there afterwards is durable."""
        self.kill()
        if self._chance.random() < 0.5:
            self._names = dict(self._durable_names)
        self._durable_names = dict(self._names)
        for name in sorted(self._names):
            content = self._names[name]
            content.durable += content.pending[: self._chance.randint(0, len(content.pending))]
            content.pending = b""
            write_over(content.durable, self._kept(content.over, len(content.durable)))
            content.over = []

    def _kept(self, over: Sequence[tuple[int, bytes]], size: int) -> list[tuple[int, bytes]]:
        """What is left of pieces that were written over: a prefix, or some sectors; within what is left of the file."""
        sectors = [sector for piece in over for sector in sectors_of(*piece)]
        if sectors and self._chance.random() < 0.5:
            kept = [sector for sector in sectors if self._chance.random() >= 0.5]
        else:
            kept = sectors[: self._chance.randint(0, len(sectors)) if sectors else 0]
            if kept:
                position, piece = kept[-1]
                kept[-1] = (position, piece[: self._chance.randint(1, len(piece))])
        return [(position, piece[: max(0, size - position)]) for position, piece in kept if position < size]

    def _count_sync(self) -> None:
        if self.syncs_until_failure == 0:
            self.syncs_until_failure = -1
            raise SimHalt("fsync failed")
        self.syncs_until_failure -= self.syncs_until_failure > 0
