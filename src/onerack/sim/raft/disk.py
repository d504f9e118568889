"""The model of a node's storage: what is durable, and what is written and not yet durable.

The idea: the log as records, without bytes. A sync makes all pending records durable, or fails and drops them, as Linux
marks pages clean that it could not write; a crash keeps none, all, or any first part of them. What the production
storage makes of bytes, torn records and directories is tried with its own files (files.py); the protocol is tried
against both.

The rule: `durable` is what a machine would find after losing power now; the judge reads it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Protocol

from onerack.raft.messages import Configuration, Entry, HardState, LogReset, Recovered, SnapshotMark


class SyncFailed(Exception):
    """An fsync failed: the process must end here."""


class Durable:
    """A log and what belongs to it."""

    def __init__(self, first: Configuration) -> None:
        self.hard_state = HardState()
        self.before = 0
        """The index before the first entry."""
        self.entries: list[Entry] = []
        self.snapshots: dict[int, tuple[SnapshotMark, bytes]] = {}
        self._first = SnapshotMark(0, 0, first)

    @property
    def mark(self) -> SnapshotMark:
        """Of the newest snapshot."""
        return self.snapshots[max(self.snapshots)][0] if self.snapshots else self._first

    @property
    def last_index(self) -> int:
        return self.before + len(self.entries)

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry of this index and term, or a snapshot that has it, is here."""
        place = index - self.before - 1
        if 0 <= place < len(self.entries) and self.entries[place].term == term:
            return True
        return index <= self.mark.index

    def write(self, record: Any) -> None:
        if isinstance(record, Entry):
            place = record.index - self.before - 1
            assert 0 <= place <= len(self.entries), f"entry {record.index} leaves a gap behind {self.last_index}"
            self.entries[place:] = [record]
        elif isinstance(record, HardState):
            self.hard_state = record
        else:
            assert isinstance(record, LogReset), record
            assert record.mark.index in self.snapshots, f"a reset to a snapshot that is not here: {record.mark}"
            self.before, self.entries = record.mark.index, []

    def cut_before(self, index: int) -> None:
        drop = min(max(0, index - 1 - self.before), len(self.entries))
        del self.entries[:drop]
        self.before += drop

    def read_snapshot(self, mark: SnapshotMark) -> bytes:
        found = self.snapshots.get(mark.index)
        assert found is not None, f"snapshot {mark} is wanted, and is not here"
        assert found[0] == mark, f"snapshot {mark} is wanted, {found[0]} is here"
        return found[1]

    def delete_snapshots_before(self, index: int) -> None:
        """Never the newest."""
        for old in sorted(self.snapshots)[:-1]:
            if old < index:
                del self.snapshots[old]

    def recover(self) -> Recovered:
        """What a starting node finds; entries from before the arrival of the newest snapshot are the core's affair."""
        if not self.entries:
            self.before = self.mark.index
        return Recovered(self.hard_state, self.mark, tuple(self.entries))


class Storage(Protocol):
    """What a node keeps its state in. `sync` raises SyncFailed."""

    sync_fails: bool
    """The next sync will fail."""

    def recover(self) -> Recovered: ...
    def append(self, writes: Sequence[Any]) -> None: ...
    def sync(self) -> None: ...
    def keep_snapshot(self, mark: SnapshotMark, content: bytes) -> None: ...
    def newest_snapshot(self) -> tuple[SnapshotMark, bytes] | None: ...
    def read_snapshot(self, mark: SnapshotMark) -> bytes: ...
    def delete_snapshots_before(self, index: int) -> None: ...
    def cut_before(self, index: int) -> None: ...
    def crash(self) -> None: ...
    @property
    def durable(self) -> Durable: ...


class ModelStorage:
    """See the file's docstring."""

    def __init__(self, chance: random.Random, first: Configuration) -> None:
        self.sync_fails = False
        self._chance = chance
        self._durable = Durable(first)
        self._pending: list[Any] = []

    @property
    def durable(self) -> Durable:
        return self._durable

    def recover(self) -> Recovered:
        return self._durable.recover()

    def append(self, writes: Sequence[Any]) -> None:
        self._pending.extend(writes)

    def sync(self) -> None:
        if self.sync_fails:
            self.sync_fails = False
            self._pending.clear()
            raise SyncFailed
        for record in self._pending:
            self._durable.write(record)
        self._pending.clear()

    def keep_snapshot(self, mark: SnapshotMark, content: bytes) -> None:
        """Durable when this returns; a crash before it leaves nothing of it."""
        self._durable.snapshots[mark.index] = (mark, content)

    def newest_snapshot(self) -> tuple[SnapshotMark, bytes] | None:
        snapshots = self._durable.snapshots
        return snapshots[max(snapshots)] if snapshots else None

    def read_snapshot(self, mark: SnapshotMark) -> bytes:
        return self._durable.read_snapshot(mark)

    def delete_snapshots_before(self, index: int) -> None:
        self._durable.delete_snapshots_before(index)

    def cut_before(self, index: int) -> None:
        self._durable.cut_before(index)

    def crash(self) -> None:
        """Power is lost, or the process ends: then the kernel keeps all, which is one of the cases."""
        kept = self._chance.choice([0, len(self._pending), self._chance.randint(0, len(self._pending))])
        for record in self._pending[:kept]:
            self._durable.write(record)
        self._pending.clear()
        self.sync_fails = False
