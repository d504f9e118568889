"""A disk that remembers every moment of its life, and says of each what a crash at that moment may have left.

The idea: as tests/rpc/crash_disk.py, for files that are also written over. After each operation the disk keeps a
picture of itself; from a picture all legal remains are enumerated: of what was written and not synced every prefix, and
every choice of lost sectors; of what was renamed, made or unlinked and not yet synced with its directory every subset.

The rule: a kill leaves a picture as it is (the kernel lives on, with all that is not durable yet); a loss of power
leaves one of its remains. Lost sectors of what was written over are what was there before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

from onerack.errors import StorageFull
from onerack.sim.disk import SimHalt, sectors_of
from tests.crash_names import Change, NamesThatCrash, named, subsets
from tests.rpc.crash_disk import LOST_SECTORS_MAX, Files

Writes = tuple[tuple[int, bytes], ...]


def written(content: bytes, writes: Sequence[tuple[int, bytes]]) -> bytes:
    changed = bytearray(content)
    for position, piece in writes:
        changed.extend(bytes(max(0, position - len(changed))))
        changed[position : position + len(piece)] = piece
    return bytes(changed)


class Content(NamedTuple):
    """One file's bytes."""

    durable: bytes
    pending: Writes
    shown: Writes = ()
    """What a sync failed to write: the kernel shows it, and takes it for written."""

    @property
    def present(self) -> bytes:
        return written(self.durable, self.shown + self.pending)

    def written(self, *write: tuple[int, bytes]) -> Content:
        return Content(self.durable, self.pending + write, self.shown)

    def synced(self, *, fails: bool) -> Content:
        if fails:
            return Content(self.durable, (), self.shown + self.pending)
        return Content(written(self.durable, self.pending), (), self.shown)

    def remains(self, every: int) -> Iterator[bytes]:
        """All that may be left; of prefixes only each of so many."""
        size = sum(len(piece) for _, piece in self.pending)
        for length in (*range(0, size, every), size):
            yield written(self.durable, list(self._prefix(length)))
        sectors = [sector for write in self.pending for sector in sectors_of(*write)]
        if len(sectors) <= LOST_SECTORS_MAX:
            size = len(self.present)
            for kept in subsets(sectors):
                yield written(self.durable, kept).ljust(size, b"\x00")

    def _prefix(self, length: int) -> Iterator[tuple[int, bytes]]:
        for position, piece in self.pending:
            yield position, piece[:length]
            length = max(0, length - len(piece))


class Picture(NamedTuple):
    """The disk at one moment, and what may be recovered from then on."""

    contents: dict[int, Content]
    names: dict[str, int]
    changes: tuple[Change, ...]
    """Since the directory was synced; `names` are those before them."""
    allowed: tuple[Any, ...]
    operation: str

    def remains(self, every: int = 1) -> Iterator[Files]:
        """Everything that a loss of power may leave, without files that have no name yet."""
        for changes in subsets(self.changes):
            names = {name: number for name, number in named(self.names, changes).items() if not name.endswith(".tmp")}
            dirty = [number for number in sorted(set(names.values())) if self.contents[number].pending]
            for kept in product(*(self.contents[number].remains(every) for number in dirty)):
                left = dict(zip(dirty, kept, strict=True))
                yield {name: left.get(number, self.contents[number].durable) for name, number in names.items()}


class CrashFile:
    """A file that is appended to, or written over, or read."""

    def __init__(self, disk: CrashDisk, path: str, number: int) -> None:
        self._disk = disk
        self._path = path
        self._number = number
        self.size = len(self._content.present)

    @property
    def _content(self) -> Content:
        return self._disk.contents[self._number]

    def append(self, content: bytes) -> None:
        room = self._disk.room
        kept = content[:room]
        self._disk.room -= len(kept)
        self._write(len(self._content.present), kept)
        if len(kept) < len(content):
            raise StorageFull(self._path)

    def write(self, position: int, *pieces: bytes) -> None:
        content = b"".join(pieces)
        assert position + len(content) <= len(self._content.present), "a fixed file keeps its size"
        kept = content[: self._disk.overwrites_room]
        self._write(position, kept)
        if len(kept) < len(content):
            raise StorageFull(self._path)

    def _write(self, position: int, piece: bytes) -> None:
        self._disk.contents[self._number] = self._content.written((position, piece))
        self._disk.happened(f"write {len(piece)} at {position} of {self._path}")

    def sync(self) -> None:
        fails, self._disk.sync_fails = self._disk.sync_fails, False
        self._disk.contents[self._number] = self._content.synced(fails=fails)
        self._disk.happened(f"sync {self._path}")
        if fails:
            raise SimHalt

    def read(self, position: int, size: int) -> bytes:
        return self._content.present[position : position + size]

    def close(self) -> None:
        return


class CrashDisk(NamesThatCrash):
    """A `StorageDisk` of one directory. `pictures`: one for each operation, beginning with none done."""

    def __init__(self, files: Files | None = None, allowed: Sequence[Any] = ()) -> None:
        super().__init__()
        self.contents: dict[int, Content] = {}
        self.room = 1 << 40
        self.overwrites_room = 1 << 40
        """Less: on this file system a block that is written over goes to another place, and there is none left."""
        self.sync_fails = False
        """The next one does, and ends the process."""
        self.allowed: tuple[Any, ...] = tuple(allowed)
        self.pictures: list[Picture] = []
        self.meanwhile: Callable[[], None] = lambda: None
        """What somebody else does after each operation."""
        for name, content in (files or {}).items():
            self._names[name] = self._durable_names[name] = self._new_content(content)
        self.happened("begin")

    @classmethod
    def after_kill(cls, picture: Picture) -> CrashDisk:
        """The same disk in the hands of another process."""
        disk = cls()
        disk.contents = dict(picture.contents)
        disk._durable_names, disk._changes = dict(picture.names), list(picture.changes)
        disk._names = named(picture.names, picture.changes)
        disk.allowed = picture.allowed
        disk.pictures.clear()
        disk.happened("begin")
        return disk

    @property
    def files(self) -> Files:
        """As they read now."""
        return {name: self.contents[number].present for name, number in self._names.items()}

    def happened(self, operation: str) -> None:
        self.pictures.append(
            Picture(
                dict(self.contents), dict(self._durable_names), tuple(self._changes), tuple(self.allowed), operation
            )
        )
        self.meanwhile()

    def open_append(self, path: str) -> CrashFile:
        if path not in self._names:
            self._change((path, self._new_content(b"")))
            self.happened(f"create {path}")
        return CrashFile(self, path, self._names[path])

    def open_fixed(self, path: str) -> CrashFile:
        return self.open_read(path)

    def open_read(self, path: str) -> CrashFile:
        return CrashFile(self, path, self.require(path))

    def read(self, path: str) -> bytes:
        return self.contents[self.require(path)].present

    def map(self, path: str) -> bytes:
        return self.read(path)

    def _new_content(self, content: bytes) -> int:
        number = len(self.contents)
        self.contents[number] = Content(content, ())
        return number
