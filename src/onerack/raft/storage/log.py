"""The raft log of one node: what must be durable before anything that follows from it is said.

    append(writes) -> one write into the present segment     sync() -> one fdatasync     cut_before(index)

The idea: hard state, resets and entries of one Output are one record. Nothing is ever changed in place: an entry that
replaces others is simply appended, and reading the records in order gives what holds. Each segment repeats at its
beginning what the log was before it, so that the segments before it can go as soon as a snapshot stands for them.

The rules:
- one record is in flight: nothing is appended before the one before it is synced, so only the last can be torn;
- an fdatasync that fails ends the process: nobody knows what is on the disk (runtime/real.py);
- a full disk is met while the next segment is made, ahead of need (`full` says so); `append` raises StorageFull only
  when the present segment has no room for the batch, and may be called again, with the same or other writes.

Source: Ongaro's dissertation, 2014, sections 3.8 and 5.1.3; Figure 2 (persistent state).
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from onerack.config import RaftConfig
from onerack.errors import StorageFull, check
from onerack.raft.messages import Configuration, HardState, Recovered
from onerack.raft.storage.batch import Batch, Write, opening_parts
from onerack.raft.storage.files import LOCK, raft_directory, segment_name, unfinished_in
from onerack.raft.storage.format import HEADER_BYTES, Begin, record_bytes
from onerack.raft.storage.identity import Identity, read_identity, require_owner, write_identity
from onerack.raft.storage.recovery import Extent, Scan, Torn, recover, require_unborn
from onerack.raft.storage.segments import Segment, SegmentMaker
from onerack.raft.storage.snapshots import SnapshotStore
from onerack.rpc.durable.format import IDENTITY_BYTES
from onerack.runtime.env import Lock, StorageDisk
from onerack.runtime.real import RealDisk
from onerack.runtime.seam import NodeId


class RaftLog:
    """See `open`. `append` and `sync` may be called in a worker thread, `cut_before` in another."""

    def __init__(
        self, directory: str, disk: StorageDisk, lock: Lock, config: RaftConfig, maker: SegmentMaker, found: Scan
    ) -> None:
        self.torn: Sequence[Torn] = found.torn
        """What recovery has cut: the last write of an earlier life, which nobody had been told of."""
        self.records = 0
        """Written in this life."""
        self.snapshots: SnapshotStore
        self._directory = directory
        self._disk = disk
        self._lock = lock
        self._config = config
        self._maker = maker
        self._segment = open_segment(disk, directory, found)
        self._extents = found.extents
        """Those with durable records, in order."""
        self._guard = threading.Lock()
        """Of `_extents`, which `cut_before` changes, too."""
        self._number = found.number
        """Of the last record."""
        self._last = found.last
        """Of the last entry."""
        self._hard_state = found.hard_state
        self._unsynced: Batch | None = None
        self._spare_after = self._segment.header.size // 2
        """The next segment is made ahead when the present one is used up to here."""

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        cluster: str,
        node: NodeId,
        first: Configuration | None = None,
        config: RaftConfig | None = None,
        disk: StorageDisk | None = None,
        in_background: bool = True,
        draw: Callable[[int], bytes] = secrets.token_bytes,
    ) -> tuple[RaftLog, Recovered]:
        """Opens the log in `directory`/raft, which is made if it is not there.

        `first`: the configuration with which a new log begins; an old one has its own. `in_background`: the next
        segment is made in a thread. Raises: UsageError: another process has it open, or it is another node's.
        Corruption. StorageFull.
        """
        opening = _Opening(os.fspath(directory), disk or RealDisk(), config or RaftConfig(), in_background, draw)
        try:
            return opening.open(cluster, node, first or Configuration())
        except BaseException:
            opening.lock.close()
            raise

    @property
    def full(self) -> StorageFull | None:
        """The disk has no room for the next segment. The present one still takes what it has room for."""
        return self._maker.full

    # ------------------------------------------------------------------------------------------------ writing

    def append(self, writes: Iterable[Write]) -> None:
        """Writes one record (more, each synced before the next, if it is too long for one).

        Requires: what was appended before is synced. Raises: StorageFull: nothing more is written; a beginning of the
        writes may be there.
        """
        check(self._unsynced is None, "what was appended before must be synced first")
        batch = Batch(self._last, self._hard_state)
        enough = self._config.segment_bytes // 2
        for write in writes:
            batch.add(write)
            if batch.size > enough:
                self._put(batch)
                self.sync()
                batch = Batch(self._last, self._hard_state)
        if batch.parts:
            self._put(batch)

    def sync(self) -> None:
        """What was appended is durable when this returns. If it cannot be, the process ends here."""
        if self._unsynced is not None:
            self._segment.sync()
            with self._guard:
                self._follow(self._unsynced)
            self._unsynced = None
            self._make_ahead()

    def _put(self, batch: Batch) -> None:
        if self._segment.takes(batch.size):
            self._segment.append(self._number + 1, batch.pieces, batch.parts)
        else:
            self._roll(batch)
        self._number += 1
        self.records += 1
        self._last, self._hard_state = batch.last, batch.hard_state
        self._unsynced = batch

    def _roll(self, batch: Batch) -> None:
        """The next segment takes the batch, behind what the log was before."""
        before = self._segment
        sequence = before.header.sequence + 1
        opening = opening_parts(self._last, self._hard_state, Begin(before.position, before.checksum))
        needed = HEADER_BYTES + record_bytes(sum(map(len, opening)) + batch.size)
        segment = self._maker.take(sequence, max(self._config.segment_bytes, needed))
        # Whatever fails now, nothing may go between what the present segment has and what the next one begins with.
        before.failed = True
        try:
            segment.append(self._number + 1, [*opening, *batch.pieces], 2 + batch.parts)
        except BaseException:
            segment.close()
            raise
        before.close()
        self._segment = segment
        self._spare_after = segment.header.size // 2

    def _follow(self, batch: Batch) -> None:
        """Only when the batch is durable: until then what it replaces may have to be found again."""
        header = self._segment.header
        if self._extents[-1].header != header:
            self._extents.append(Extent(header, segment_name(header.sequence)))
        for extent in self._extents:
            extent.last = min(extent.last, batch.lowest - 1)
        if batch.has_entries:
            self._extents[-1].last = batch.last

    def _make_ahead(self) -> None:
        """In the background, so that nobody waits for it. What failed is tried again when somewhat more is used."""
        if self._segment.position >= self._spare_after and self._maker.is_idle:
            self._spare_after = self._segment.position + self._segment.header.size // 16
            self._maker.begin(self._segment.header.sequence + 1, self._config.segment_bytes)

    def try_again(self) -> None:
        """For a host that writes nothing while the disk is `full`: maybe there is room again.

        Requires: neither `append` nor `sync` is under way.
        """
        if self.full and self._maker.is_idle:
            self._maker.begin(self._segment.header.sequence + 1, self._config.segment_bytes)

    # ------------------------------------------------------------------------------------------------ cutting

    def cut_before(self, index: int) -> None:
        """Removes the segments that hold nothing from `index` on.

        Requires: a durable snapshot stands for all before `index`.
        """
        with self._guard:
            # Never the last one: what the log was before the segment behind it may not be durable there yet.
            count = 0
            while count < len(self._extents) - 1 and self._extents[count].last < index:
                count += 1
            cut, self._extents = self._extents[:count], self._extents[count:]
        for extent in cut:
            # In whatever order they vanish, and if they come back: recovery reads what follows without a gap.
            with suppress(FileNotFoundError):
                self._disk.unlink(f"{self._directory}/{extent.name}")

    def close(self) -> None:
        """Ends it. May be called again."""
        try:
            self._maker.wait()
        finally:
            self._segment.close()
            self._lock.close()


def open_segment(disk: StorageDisk, directory: str, found: Scan) -> Segment:
    """The last one with records; if it ends torn, it takes no more."""
    extent = found.extents[-1]
    path = f"{directory}/{extent.name}"
    segment = Segment(disk.open_fixed(path), extent.header)
    segment.position, segment.checksum = extent.end, extent.checksum
    segment.failed = any(torn.file == path for torn in found.torn)
    return segment


class _Opening:
    """One opening of a log, from the lock to the last repair."""

    def __init__(
        self,
        directory: str,
        disk: StorageDisk,
        config: RaftConfig,
        in_background: bool,
        draw: Callable[[int], bytes],
    ) -> None:
        self._data_directory = directory
        self._directory = raft_directory(directory)
        self._disk = disk
        self._config = config
        self._in_background = in_background
        self._draw = draw
        disk.make_directory(self._directory)
        self.lock = disk.lock(f"{self._directory}/{LOCK}")

    def open(self, cluster: str, node: NodeId, first: Configuration) -> tuple[RaftLog, Recovered]:
        identity = read_identity(self._disk, self._directory)
        if identity is None:
            identity = self._make(Identity(cluster, node, self._draw(IDENTITY_BYTES), first))
        require_owner(identity, self._directory, cluster, node)
        snapshots = SnapshotStore(self._data_directory, disk=self._disk, identity=identity.log, draw=self._draw)
        found = recover(self._disk, self._directory, identity, snapshots)
        log = self._log(identity, found.scan)
        log.snapshots = snapshots
        self._settle(found.scan)
        if found.repairs:
            log.append(found.repairs)
            log.sync()
        return log, found.recovered

    def _make(self, identity: Identity) -> Identity:
        """The identity is written last: where there is one, there is a log."""
        require_unborn(self._disk, self._directory)
        segment = self._maker(identity).take(1, self._config.segment_bytes)
        segment.append(1, opening_parts(0, HardState(), Begin(0, 0)), 2)
        segment.sync()
        segment.close()
        write_identity(self._disk, self._directory, identity)
        return identity

    def _maker(self, identity: Identity) -> SegmentMaker:
        return SegmentMaker(self._disk, self._directory, identity.log, self._draw, in_background=self._in_background)

    def _log(self, identity: Identity, found: Scan) -> RaftLog:
        maker = self._maker(identity)
        maker.spare = found.spare
        return RaftLog(self._directory, self._disk, self.lock, self._config, maker, found)

    def _settle(self, found: Scan) -> None:
        """Makes durable what was found, and may not be: the process may have died, and the machine lived on.

        If it died of a sync that failed, the kernel shows what it could not write, and takes it for written. So the
        last record, the only one whose sync nobody has seen end, is written over itself first.
        """
        extent = found.extents[-1]
        path = f"{self._directory}/{extent.name}"
        file = self._disk.open_read(path)
        record = file.read(extent.begin, extent.end - extent.begin)
        file.close()
        last = self._disk.open_fixed(path)
        last.write(extent.begin, record)
        last.sync()
        last.close()
        self._disk.sync_directory(self._directory)
        # Only now: what they are superseded by is durable.
        names = [*found.superseded, *unfinished_in(self._disk.names(self._directory))]
        for name in names:
            self._disk.unlink(f"{self._directory}/{name}")
        if names:
            # A segment with a torn first record that came back would stand for a record that has another place now.
            self._disk.sync_directory(self._directory)
