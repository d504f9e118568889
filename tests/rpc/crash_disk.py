"""A disk that remembers every moment of its life, and says of each what a crash at that moment may have left.

The idea: nothing is drawn at random. After each operation the disk keeps a picture of itself; from a picture all legal
remains are enumerated: of what was appended and not synced every prefix, and every choice of lost sectors; of what was
renamed, made or unlinked and not yet synced with its directory every subset. A workload of a dozen batches so has some
ten thousand remains, and each must be recovered from.

The rule: a kill leaves a picture as it is (the kernel lives on, with all that is not durable yet); a loss of power
leaves one of its remains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

from onerack.errors import StorageFull
from tests.crash_names import Change, NamesThatCrash, named, subsets

SECTOR = 512
LOST_SECTORS_MAX = 6
"""Of more unsynced sectors only prefixes are tried."""

Files = dict[str, bytes]


class Picture(NamedTuple):
    """The disk at one moment, and what the world has been told until then."""

    durable: dict[int, bytes]
    pending: dict[int, bytes]
    names: dict[str, int]
    changes: tuple[Change, ...]
    """Since the directory was synced; `names` are those before them."""
    acknowledged: tuple[bytes, ...]
    flying: tuple[bytes, ...]
    """Proposed, and neither acknowledged nor dropped."""
    operation: str

    def remains(self, every: int = 1) -> Iterator[Files]:
        """Everything that a loss of power may leave; of prefixes only each of so many."""
        for changes in subsets(self.changes):
            names = named(self.names, changes)
            visible = [number for number in sorted(set(names.values())) if self.pending[number]]
            for kept in product(*(self._kept(number, every) for number in visible)):
                content = {**self.durable, **dict(zip(visible, kept, strict=True))}
                yield {name: content[number] for name, number in names.items()}

    def _kept(self, number: int, every: int) -> Iterator[bytes]:
        durable, pending = self.durable[number], self.pending[number]
        for length in range(0, len(pending), every):
            yield durable + pending[:length]
        yield durable + pending
        begin, end = len(durable), len(durable) + len(pending)
        sectors = range(begin // SECTOR, (end - 1) // SECTOR + 1)
        if len(sectors) <= LOST_SECTORS_MAX:
            for lost in subsets(sectors):
                content = bytearray(durable + pending)
                for sector in lost:
                    first, last = max(begin, sector * SECTOR), min(end, (sector + 1) * SECTOR)
                    content[first:last] = bytes(last - first)
                yield bytes(content)


class CrashFile:
    def __init__(self, disk: CrashDisk, path: str, number: int) -> None:
        self._disk = disk
        self._path = path
        self._number = number

    def append(self, content: bytes) -> None:
        disk = self._disk
        kept = content[: disk.room]
        disk.room -= len(kept)
        disk.pending[self._number] += kept
        disk.happened(f"append {len(kept)} to {self._path}")
        if len(kept) < len(content):
            raise StorageFull(self._path)

    def sync(self) -> None:
        disk = self._disk
        disk.durable[self._number] += disk.pending[self._number]
        disk.pending[self._number] = b""
        disk.happened(f"sync {self._path}")

    def close(self) -> None:
        return


class CrashDisk(NamesThatCrash):
    """A `Disk` of one directory. `pictures`: one for each operation, beginning with none done."""

    def __init__(self, files: Files | None = None, acknowledged: Sequence[bytes] = ()) -> None:
        super().__init__()
        self.durable: dict[int, bytes] = {}
        self.pending: dict[int, bytes] = {}
        self.room = 1 << 40
        self.acknowledged = list(acknowledged)
        self.flying: list[bytes] = []
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
        disk.durable, disk.pending = dict(picture.durable), dict(picture.pending)
        disk._durable_names, disk._changes = dict(picture.names), list(picture.changes)
        disk._names = named(picture.names, picture.changes)
        disk.acknowledged, disk.flying = list(picture.acknowledged), list(picture.flying)
        disk.pictures.clear()
        disk.happened("begin")
        return disk

    @property
    def files(self) -> Files:
        """As they read now."""
        return {name: self.durable[number] + self.pending[number] for name, number in self._names.items()}

    def happened(self, operation: str) -> None:
        self.pictures.append(
            Picture(
                dict(self.durable),
                dict(self.pending),
                dict(self._durable_names),
                tuple(self._changes),
                tuple(self.acknowledged),
                tuple(self.flying),
                operation,
            )
        )
        self.meanwhile()

    def open_append(self, path: str) -> CrashFile:
        if path not in self._names:
            self._change((path, self._new_content(b"")))
            self.happened(f"create {path}")
        return CrashFile(self, path, self._names[path])

    def read(self, path: str) -> bytes:
        self.require(path)
        return self.files[path]

    def _new_content(self, content: bytes) -> int:
        number = len(self.durable)
        self.durable[number], self.pending[number] = content, b""
        return number
