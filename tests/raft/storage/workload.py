"""What a node does with its disk, and what may be found there afterwards: the model that recovery is compared with.

The rule: the model knows no files. It says which `View`s are allowed at each moment: the one before what is under way,
and the one after it, and nothing between.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from onerack.config import RaftConfig
from onerack.errors import StorageFull
from onerack.raft.messages import Configuration, Entry, HardState, LogReset, Recovered, SnapshotMark
from onerack.raft.storage import RaftLog, SnapshotStore
from onerack.raft.storage.batch import Write
from tests.raft.storage.crash_disk import CrashDisk

DIRECTORY = "/data"
INSIDE = f"{DIRECTORY}/raft"
FIRST = Configuration(voters=("n1", "n2", "n3"))
CONFIG = RaftConfig(segment_bytes=2560, entry_bytes_max=1200, append_bytes_max=1200)
SMALL = RaftConfig(segment_bytes=1024, entry_bytes_max=500, append_bytes_max=500)


class View(NamedTuple):
    """What a node knows when it starts. Entries up to the mark do not matter."""

    hard_state: HardState
    mark: SnapshotMark
    entries: tuple[Entry, ...]

    def after_writes(self, writes: Sequence[Write]) -> View:
        hard_state, mark, entries = self
        for write in writes:
            if isinstance(write, HardState):
                hard_state = write
            elif isinstance(write, Entry):
                entries = (*(entry for entry in entries if entry.index < write.index), write)
            else:
                assert write.mark == mark, "the snapshot is durable first"
                entries = ()
        return View(hard_state, mark, entries)

    def after_snapshot(self, mark: SnapshotMark) -> View:
        if mark.index < self.mark.index:
            return self
        known = any(entry.index == mark.index and entry.term == mark.term for entry in self.entries)
        kept = tuple(entry for entry in self.entries if known and entry.index > mark.index)
        hard_state = self.hard_state if self.hard_state.term >= mark.term else HardState(mark.term)
        return View(hard_state, mark, kept)


FRESH = View(HardState(), SnapshotMark(configuration=FIRST), ())


def view_of(recovered: Recovered) -> View:
    entries = recovered.entries
    assert [entry.index for entry in entries] == [*range(entries[0].index, entries[-1].index + 1)] if entries else True
    assert not entries or entries[0].index <= recovered.mark.index + 1
    later = tuple(entry for entry in entries if entry.index > recovered.mark.index)
    return View(recovered.hard_state, recovered.mark, later)


class Node:
    """One life of a node. What it has under way is in `disk.allowed`."""

    def __init__(
        self,
        disk: CrashDisk,
        seed: int = 0,
        config: RaftConfig = CONFIG,
        *,
        cluster: str = "test",
        node: str = "n1",
    ) -> None:
        self.disk = disk
        self.log, recovered = RaftLog.open(
            DIRECTORY,
            cluster=cluster,
            node=node,
            first=FIRST,
            config=config,
            disk=disk,
            in_background=False,
            draw=random.Random(seed).randbytes,
        )
        self.view = view_of(recovered)
        self._now(self.view)

    @property
    def snapshots(self) -> SnapshotStore:
        return self.log.snapshots

    def write(self, *writes: Write) -> None:
        after = self.view.after_writes(writes)
        self._do(after, lambda: self.log.append(writes), self.log.sync)

    def snapshot(self, mark: SnapshotMark, *pieces: bytes) -> None:
        writer = self.snapshots.create(mark)
        for piece in pieces:
            writer.write(piece)
        self._do(self.view.after_snapshot(mark), writer.commit)

    def take_snapshot(self, index: int, keep: int = 0) -> None:
        """Of its own state, as a host does when the log has grown."""
        term = next(entry.term for entry in self.view.entries if entry.index == index)
        self.snapshot(SnapshotMark(index, term, FIRST), b"state of " * 20, str(index).encode())
        self.snapshots.delete_before(index)
        self.log.cut_before(index + 1 - keep)

    def receive_snapshot(self, index: int, term: int) -> None:
        """From a leader, because the log is behind, or is not the leader's."""
        mark = SnapshotMark(index, term, FIRST)
        self.snapshot(mark, b"received " * 20)
        self.write(HardState(term), LogReset(mark))
        self.snapshots.delete_before(index)
        self.log.cut_before(index + 1)

    def close(self) -> None:
        self.log.close()

    def _do(self, after: View, *steps: Callable[[], None]) -> None:
        self.disk.allowed = (self.view, after)
        try:
            for step in steps:
                step()
        except StorageFull:
            self._now(self.view)
            raise
        self._now(after)

    def _now(self, view: View) -> None:
        """The world may be told, and soon something may follow from it."""
        self.view = view
        self.disk.allowed = (view,)
        self.disk.happened("acknowledged")


def entries(term: int, first: int, *payloads: bytes) -> list[Entry]:
    return [Entry(term, first + number, 0, payload) for number, payload in enumerate(payloads)]


def worked() -> CrashDisk:
    """The disk of a node that has lived three times, and has done all that a node can do with a log."""
    disk = CrashDisk()
    node = Node(disk)
    node.write(HardState(1, "n1"))
    node.write(*entries(1, 1, b"", b"one", b"two " * 9))
    node.write(*entries(1, 4, b"over several sectors" + bytes(700) + b"of which one is zeros" + b"." * 500))
    node.write(*entries(1, 5, b"and one that has a single bit", b"." * 500 + bytes(300) + b"\x01" + bytes(350)))
    node.write(HardState(2, "n2"), *entries(2, 3, b"replaces"))
    node.write(*entries(2, 4, *(b"%d" % number * 130 for number in range(5))))
    node.write(*entries(2, 9, b"x" * 650))
    node.take_snapshot(5)
    node.close()
    node = Node(disk, seed=1)
    node.write(HardState(3, "n3"), *entries(3, 8, b"y" * 300, b"z" * 300))
    node.write(*entries(3, 10, bytes(700)))
    node.take_snapshot(6)
    node.write(*entries(4, 7, b"far back"))
    node.take_snapshot(7)
    node.write(*entries(4, 8, b"w" * 500))
    node.write(HardState(5))
    node.write(*entries(5, 9, b"v" * 500))
    node.receive_snapshot(6 + 20, 6)
    node.write(*entries(6, 27, b"u" * 300))
    node.close()
    node = Node(disk, seed=2)
    node.write(*entries(6, 28, b"t" * 400))
    node.write(HardState(7, "n1"), *entries(7, 28, b"s" * 400))
    node.take_snapshot(28)
    node.write(*entries(7, 29, *(b"not agreed on " * 30 for _ in range(3))))
    node.receive_snapshot(30, 8)
    node.write(*entries(8, 31, b"last" * 200))
    node.close()
    return disk
