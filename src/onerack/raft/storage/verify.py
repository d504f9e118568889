"""What is in a raft directory, and whether all of it is right: for `onerack raft verify DIR`.

The idea: the same reading as at a start, and every piece of every snapshot beside. Damage is reported, not raised, so
that one look shows all of it.

The rule: nothing is changed, and a node that runs is not disturbed: while one holds the directory, this refuses.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from onerack.errors import Corruption, InputError
from onerack.raft.messages import HardState, SnapshotMark
from onerack.raft.storage.files import IDENTITY, LOCK, raft_directory, segments_in, snapshot_name, snapshots_in
from onerack.raft.storage.identity import Identity, read_identity
from onerack.raft.storage.recovery import Extent, Scan, Torn, reconcile, scan
from onerack.raft.storage.snapshots import SnapshotStore
from onerack.runtime.env import StorageDisk
from onerack.runtime.real import RealDisk
from onerack.runtime.seam import NodeId


class Damage(msgspec.Struct, frozen=True):
    """Bytes that are not what was written."""

    file: str
    offset: int
    reason: str
    """A sentence that names both, what was expected, and what was found."""


class SegmentReport(msgspec.Struct, frozen=True):
    """One file of the log that has records."""

    file: str
    size: int
    used: int
    """Up to here are records."""
    records: int


class SnapshotReport(msgspec.Struct, frozen=True):
    """One snapshot whose every piece is right."""

    file: str
    mark: SnapshotMark
    size: int
    pieces: int


class Report(msgspec.Struct, kw_only=True):
    """What a directory holds. After damage: what was read before it."""

    directory: str
    cluster: str = ""
    node: NodeId = ""
    log: str = ""
    """Its identity, in hexadecimal."""
    segments: list[SegmentReport] = []
    records: int = 0
    first_index: int = 0
    """Of the entries in the log; 0 if there are none."""
    last_index: int = 0
    hard_state: HardState = HardState()
    snapshots: list[SnapshotReport] = []
    torn: list[Torn] = []
    """The last write before a crash, which will be cut: nobody had been told that it was done."""
    damage: list[Damage] = []

    @property
    def is_right(self) -> bool:
        return not self.damage

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.directory}: node {self.node or '?'} of cluster {self.cluster or '?'}, log {self.log or '?'}"
        yield f"term {self.hard_state.term}, vote {self.hard_state.vote or 'none'}"
        entries = f"entries {self.first_index} to {self.last_index}" if self.first_index else "no entries"
        yield f"{entries}, {self.records} records in {len(self.segments)} segments"
        for segment in self.segments:
            yield f"  {segment.file}: {segment.records} records, {segment.used} of {segment.size} bytes used"
        for snapshot in self.snapshots:
            mark = snapshot.mark
            yield f"  {snapshot.file}: up to entry {mark.index} of term {mark.term}, {snapshot.size} bytes"
        for torn in self.torn:
            yield f"torn: the last write to {torn.file} ends at byte {torn.offset}; nobody was told that it was done"
        for damage in self.damage:
            yield damage.reason
        yield "all is right" if self.is_right else "DAMAGED: restore this node from its peers"


def verify(directory: str | os.PathLike[str], *, disk: StorageDisk | None = None) -> Report:
    """Raises: InputError: there is no raft log. UsageError: a node runs on it, or a later onerack wrote it."""
    files, inside = disk or RealDisk(), raft_directory(directory)
    try:
        names = files.names(inside)
    except (FileNotFoundError, NotADirectoryError):
        names = ()
    if not (segments_in(names) or snapshots_in(names) or LOCK in names):
        raise InputError(os.fspath(directory), "there is no raft log in it")
    lock = files.lock(f"{inside}/{LOCK}")
    try:
        return _Verifier(files, directory).verify()
    finally:
        lock.close()


class _Verifier:
    def __init__(self, disk: StorageDisk, directory: str | os.PathLike[str]) -> None:
        self._disk = disk
        self._data_directory = directory
        self._directory = raft_directory(directory)
        self._report = Report(directory=self._directory)

    def verify(self) -> Report:
        try:
            identity = read_identity(self._disk, self._directory)
        except Corruption as damage:
            self._damaged(damage)
            return self._report
        if identity is None:
            self._damaged(Corruption(f"{self._directory}/{IDENTITY}", 0, "the identity of the log", "no such file"))
            return self._report
        report = self._report
        report.cluster, report.node, report.log = identity.cluster, identity.node, identity.log.hex()
        found = Scan()
        try:
            scan(self._disk, self._directory, identity.log, found)
        except Corruption as damage:
            self._damaged(damage)
        self._tell(found)
        self._read_snapshots(identity)
        if not report.damage:
            self._compare(found, identity)
        return report

    def _tell(self, found: Scan) -> None:
        report = self._report
        report.segments = [_segment_report(extent) for extent in found.extents]
        report.records = sum(extent.records for extent in found.extents)
        report.hard_state, report.torn = found.hard_state, found.torn
        if found.entries:
            report.first_index, report.last_index = found.base + 1, found.last

    def _read_snapshots(self, identity: Identity) -> None:
        store = SnapshotStore(self._data_directory, disk=self._disk, identity=identity.log)
        for index in store.indexes():
            try:
                with store.open_index(index) as reader:
                    pieces = sum(1 for _ in reader.pieces())
                    self._report.snapshots.append(
                        SnapshotReport(snapshot_name(index), reader.mark, reader.size, pieces)
                    )
            except Corruption as damage:
                self._damaged(damage)

    def _compare(self, found: Scan, identity: Identity) -> None:
        marks = [snapshot.mark for snapshot in self._report.snapshots]
        try:
            reconcile(found, marks[-1] if marks else SnapshotMark(configuration=identity.first), self._directory)
        except Corruption as damage:
            self._damaged(damage)

    def _damaged(self, damage: Corruption) -> None:
        self._report.damage.append(Damage(damage.path, damage.offset, str(damage)))


def _segment_report(extent: Extent) -> SegmentReport:
    return SegmentReport(extent.name, extent.header.size, extent.end, extent.records)
