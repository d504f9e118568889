"""Simulated files under the production storage: what a crash may leave of what was written.

The idea: a file is its durable content and the writes since its last sync, cut into sectors. A crash keeps none of
them, all, those before some moment, or any sectors at random; names that were changed since the last sync of their
directory are kept or not in the same ways. A failed sync drops what it should have written, and the next one says that
all is well.

The rule: `FileStorage.durable` is told what was synced, never what was found; the judge compares it with what nodes
say. After a crash it is what recovery reads, for until then nobody can know.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

from onerack.config import RaftConfig
from onerack.raft.messages import Configuration, Recovered, SnapshotMark
from onerack.raft.storage import RaftLog, SnapshotStore
from onerack.sim.disk import SimLock
from onerack.sim.raft.disk import Durable, SyncFailed

SECTOR: Final = 512
DIRECTORY: Final = "d"


class _Content:
    """Of one file, whatever its names."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.present = bytearray()
        self.pending: list[tuple[int, bytes]] = []

    def write(self, position: int, piece: bytes) -> None:
        _put(self.present, position, piece)
        done = 0
        while done < len(piece):
            size = SECTOR - (position + done) % SECTOR
            self.pending.append((position + done, piece[done : done + size]))
            done += size

    def settle(self, kept: Sequence[tuple[int, bytes]]) -> None:
        for position, piece in kept:
            _put(self.durable, position, piece)
        self.present = bytearray(self.durable)
        self.pending.clear()


def _put(content: bytearray, position: int, piece: bytes) -> None:
    if position > len(content):
        content.extend(bytes(position - len(content)))
    content[position : position + len(piece)] = piece


class SectorFile:
    """An open file, for appending, writing over, or reading."""

    def __init__(self, disk: SectorDisk, content: _Content) -> None:
        self._disk = disk
        self._content = content
        self.size = len(content.present)

    def append(self, content: bytes) -> None:
        self._content.write(len(self._content.present), content)

    def write(self, position: int, *pieces: bytes) -> None:
        written = b"".join(pieces)
        if self._disk.lazy and self.read(position, len(written)) == written:
            return
        self._content.write(position, written)

    def read(self, position: int, size: int) -> bytes:
        return bytes(self._content.present[position : position + size])

    def sync(self) -> None:
        self._disk.sync(self._content)

    def close(self) -> None:
        return


class SectorDisk:
    """One machine's files; a `StorageDisk`."""

    def __init__(self, chance: random.Random) -> None:
        self.sync_fails = False
        self.lazy = False
        """What is there already is not written again: a bug that is planted."""
        self._chance = chance
        self._names: dict[str, _Content] = {}
        self._durable_names: dict[str, _Content] = {}
        self._changes: list[tuple[str, _Content | None]] = []
        self._held: set[str] = set()

    def open_append(self, path: str) -> SectorFile:
        if path not in self._names:
            self._name(path, _Content())
        return SectorFile(self, self._names[path])

    def open_fixed(self, path: str) -> SectorFile:
        return SectorFile(self, self._content(path))

    def open_read(self, path: str) -> SectorFile:
        return SectorFile(self, self._content(path))

    def read(self, path: str) -> bytes:
        return bytes(self._content(path).present)

    def map(self, path: str) -> bytes:
        return self.read(path)

    def rename(self, source: str, target: str) -> None:
        content = self._content(source)
        self._name(target, content)
        self._name(source, None)

    def unlink(self, path: str) -> None:
        self._content(path)
        self._name(path, None)

    def _content(self, path: str) -> _Content:
        if path not in self._names:
            raise FileNotFoundError(path)
        return self._names[path]

    def _name(self, path: str, content: _Content | None) -> None:
        _bind(self._names, path, content)
        self._changes.append((path, content))

    def sync_directory(self, path: str) -> None:
        self._fail_if_wanted()
        for name, content in self._changes:
            _bind(self._durable_names, name, content)
        self._changes.clear()

    def make_directory(self, path: str) -> None:
        """Directories are nothing but the beginnings of names here."""

    def names(self, directory: str) -> Sequence[str]:
        return sorted(name.rpartition("/")[2] for name in self._names if name.rpartition("/")[0] == directory)

    def lock(self, path: str) -> SimLock:
        return SimLock(self._held, path)

    def sync(self, content: _Content) -> None:
        try:
            self._fail_if_wanted()
        except SyncFailed:
            content.pending.clear()
            raise
        content.settle(content.pending)

    def _fail_if_wanted(self) -> None:
        if self.sync_fails:
            self.sync_fails = False
            raise SyncFailed

    def kill(self) -> None:
        """The process ends, the machine does not."""
        self._held = set()

    def crash(self) -> None:
        """Power is lost."""
        self.kill()
        for name, content in self._kept(self._changes):
            _bind(self._durable_names, name, content)
        self._changes.clear()
        self._names = dict(self._durable_names)
        for name in sorted(self._names):
            content = self._names[name]
            content.settle(self._kept(content.pending))

    def flip(self, path: str, position: int, bit: int) -> None:
        """Rot: one bit of what is durable is another one now."""
        content = self._content(path)
        content.durable[position] ^= 1 << bit
        content.present[position] ^= 1 << bit

    def _kept(self, changes: list[Any]) -> list[Any]:
        chance = self._chance.random()
        if chance < 0.3:
            return []
        if chance < 0.5:
            return changes
        if chance < 0.8:
            return changes[: self._chance.randint(0, len(changes))]
        return [change for change in changes if self._chance.random() < 0.5]


def _bind(names: dict[str, _Content], path: str, content: _Content | None) -> None:
    if content is None:
        names.pop(path, None)
    else:
        names[path] = content


class FileStorage:
    """The production storage of one node."""

    log_class = RaftLog

    def __init__(self, chance: random.Random, node: str, first: Configuration, config: RaftConfig) -> None:
        self.disk = SectorDisk(chance)
        self.machine_dies: bool | None = None
        """Whether power is lost when the process ends; None: by chance."""
        self._chance = chance
        self._node = node
        self._first = first
        self._config = config
        self._log: RaftLog | None = None
        self._durable = Durable(first)
        self._pending: list[Any] = []

    @property
    def sync_fails(self) -> bool:
        return self.disk.sync_fails

    @sync_fails.setter
    def sync_fails(self, fails: bool) -> None:
        self.disk.sync_fails = fails

    @property
    def durable(self) -> Durable:
        return self._durable

    @property
    def _snapshots(self) -> SnapshotStore:
        assert self._log is not None
        return self._log.snapshots

    def recover(self) -> Recovered:
        self._log, recovered = self.log_class.open(
            DIRECTORY, cluster="sim", node=self._node, first=self._first, config=self._config, disk=self.disk,
            in_background=False, draw=self._chance.randbytes,
        )  # fmt: skip
        durable = Durable(self._first)
        durable.hard_state = recovered.hard_state
        durable.entries = list(recovered.entries)
        durable.before = recovered.entries[0].index - 1 if recovered.entries else recovered.mark.index
        found = self.newest_snapshot()
        if found is not None:
            durable.snapshots[found[0].index] = found
        assert durable.mark == recovered.mark, f"{durable.mark} is the newest snapshot, {recovered.mark} was recovered"
        self._durable = durable
        return recovered

    def append(self, writes: Sequence[Any]) -> None:
        assert self._log is not None
        self._log.append(writes)
        self._pending.extend(writes)

    def sync(self) -> None:
        assert self._log is not None
        self._log.sync()
        for record in self._pending:
            self._durable.write(record)
        self._pending.clear()

    def keep_snapshot(self, mark: SnapshotMark, content: bytes) -> None:
        writer = self._snapshots.create(mark)
        half = len(content) // 2
        for piece in (content[:half], content[half:]):
            if piece:
                writer.write(piece)
        writer.commit()
        self._durable.snapshots[mark.index] = (mark, content)

    def newest_snapshot(self) -> tuple[SnapshotMark, bytes] | None:
        mark = self._snapshots.newest()
        return None if mark is None else (mark, self.read_snapshot(mark))

    def read_snapshot(self, mark: SnapshotMark) -> bytes:
        with self._snapshots.open(mark) as reader:
            assert reader.mark == mark, f"snapshot {mark} is wanted, {reader.mark} is here"
            return b"".join(reader.pieces())

    def delete_snapshots_before(self, index: int) -> None:
        self._snapshots.delete_before(index)
        self._durable.delete_snapshots_before(index)

    def cut_before(self, index: int) -> None:
        assert self._log is not None
        self._log.cut_before(index)

    def crash(self) -> None:
        self.disk.sync_fails = False
        self._pending.clear()
        dies = self._chance.random() < 0.5 if self.machine_dies is None else self.machine_dies
        if dies:
            self.disk.crash()
        else:
            self.disk.kill()
