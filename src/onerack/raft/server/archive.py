"""The archive: when snapshots are taken, who is sent one, and what becomes of one that arrives.

    the log has grown by so much -> take -> SnapshotTaken -> what came before is cut, but for a tail
    SendSnapshot                 -> the newest one, to that peer -> SnapshotSent
    a peer installs one here     -> written beside the others -> SnapshotArrived -> Restore, if the core wants it

A witness has no state, and so no snapshots: what it puts in their place is the bare mark, the place and term of its
last committed entry, and who belonged to the group there (with where they are, as it was told). That is all that it
will ever be asked for: its vote hangs on the end of its log, its answers to a leader on what lies behind its commit
index, and nobody gets entries from it.

The rules: one is taken at a time, and one is received at a time: a newer one puts an older one off, whose sender may
have died. One is sent to a peer at a time; the core asks again when it has lost patience, and a transfer that still
gets on is left to go on. What cannot be taken because the disk is full is tried again when the log has grown again.

Source: Ongaro & Ousterhout 2014, section 7.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import Context
from typing import Any, Final

from onerack.config import RaftConfig
from onerack.errors import NotExecuted, OnerackError, ProtocolError
from onerack.raft.commands import MEMBERS
from onerack.raft.core import RaftCore
from onerack.raft.messages import NOBODY, SnapshotArrived, SnapshotMark, SnapshotSent, SnapshotTaken
from onerack.raft.server.machines import Machines
from onerack.raft.server.peers import Peers
from onerack.raft.server.snapshots import Snapshots, in_thread
from onerack.raft.storage import RaftLog
from onerack.runtime.seam import NodeId

log = logging.getLogger(__name__)

WITNESS_ENTRIES: Final = 10_000
"""A witness cuts its log when it has so many committed entries; they are small, for it has no payloads."""


class _Transfer:
    """One that is being sent."""

    def __init__(self) -> None:
        self.pieces = 0
        self.seen = -1
        """How many there were when the core last asked."""
        self.task: asyncio.Task[None]


class Archive:
    """Of one node."""

    def __init__(
        self,
        core: RaftCore,
        storage: RaftLog,
        machines: Machines,
        peers: Peers,
        *,
        step: Callable[[Any, NodeId], None],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        config: RaftConfig,
        timeout_s: float,
    ) -> None:
        self._core = core
        self._storage = storage
        self._machines = machines
        self._peers = peers
        self._step = step
        self._spawn = spawn
        self._config = config
        self._timeout_s = timeout_s
        self._snapshots = Snapshots(storage.snapshots, machines.by_mount)
        known = {mount: machine for mount, machine in machines.by_mount.items() if mount == MEMBERS}
        self._bare = Snapshots(storage.snapshots, known)
        self._taking: asyncio.Task[None] | None = None
        self._sending: dict[NodeId, _Transfer] = {}
        self._receiving: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------------------------------ taking

    def take_if_due(self) -> None:
        if self._machines.bytes_since_snapshot >= self._config.snapshot_bytes and self._taking is None:
            self._begin_to_take()

    def cut_if_due(self) -> None:
        """Of a witness, to which nothing is handed out by which it could see that its log grows."""
        core = self._core
        if core.is_witness and core.applied - core.mark.index >= WITNESS_ENTRIES and self._taking is None:
            self._begin_to_take()

    async def take(self) -> None:
        """Of what is applied now. Returns when it is durable. Raises: StorageFull: there is none."""
        while self._taking is not None:  # That one is of an earlier state.
            await asyncio.wait([self._taking])
        await asyncio.shield(self._begin_to_take())

    def _begin_to_take(self) -> asyncio.Task[None]:
        self._machines.bytes_since_snapshot = 0
        self._taking = self._spawn(self._take())
        self._taking.add_done_callback(self._taken)
        return self._taking

    def _taken(self, task: asyncio.Task[None]) -> None:
        self._taking = None

    async def _take(self) -> None:
        machines, core = self._machines, self._core
        if core.is_witness:
            await self._take_bare(core.applied)
            return
        if machines.applied <= core.mark.index:
            return  # There is nothing new; or a snapshot has just arrived, and is about to be put in place.
        mark = SnapshotMark(machines.applied, machines.applied_term, core.configuration_at(machines.applied))
        await self._snapshots.take(mark)
        await self._cut(mark.index, self._kept_entries(mark.index))

    async def _take_bare(self, index: int) -> None:
        core, term = self._core, self._core.term_at(index)
        group = core.configuration_at(max(index, core.mark.index))
        # Where it was no witness the mark would say so, and the node could be taken for one that has everything.
        if index <= core.mark.index or term is None or core.node not in group.witnesses:
            return
        await self._bare.take(SnapshotMark(index, term, group))
        await self._cut(index, 0)

    async def _cut(self, index: int, kept: int) -> None:
        """Requires: a snapshot of this index is durable."""
        self._step(SnapshotTaken(index, kept), NOBODY)
        await in_thread(self._storage.cut_before, self._core.first_index)
        await in_thread(self._storage.snapshots.delete_before, index)

    def _kept_entries(self, index: int) -> int:
        """How many entries up to this one are small enough together to be kept for slow followers."""
        core, size, count = self._core, 0, 0
        while index - count >= core.first_index and size < self._config.kept_bytes:
            entry = core.entry_at(index - count)
            size += 0 if entry is None else len(entry.payload)
            count += 1
        return count

    # ------------------------------------------------------------------------------------------------ sending

    def send(self, to: NodeId, term: int) -> None:
        """The core wants it; SnapshotSent follows."""
        transfer = self._sending.get(to)
        if transfer is not None and transfer.seen < transfer.pieces:
            transfer.seen = transfer.pieces
            return
        if transfer is not None:
            transfer.task.cancel()
        transfer = self._sending[to] = _Transfer()
        transfer.task = self._spawn(self._send(to, term, transfer))

    async def _send(self, to: NodeId, term: int, transfer: _Transfer) -> None:
        mark: SnapshotMark | None = None
        done = False
        try:
            mark = await in_thread(self._storage.snapshots.newest)
            if mark is not None:
                done = await self._transfer(to, term, mark, transfer)
        except (OnerackError, OSError, TimeoutError) as error:
            log.info("%s: the snapshot for %s did not arrive: %s", self._core.node, to, error)
        finally:
            if self._sending.get(to) is transfer:
                del self._sending[to]
        self._step(SnapshotSent(to, 0 if mark is None else mark.index, done), NOBODY)

    async def _transfer(self, to: NodeId, term: int, mark: SnapshotMark, transfer: _Transfer) -> bool:
        peer = self._peers.get(to)
        if peer is None:
            return False

        async def counted() -> AsyncIterator[bytes]:
            async for piece in self._snapshots.read(mark):
                transfer.pieces += 1
                yield piece

        stub = await asyncio.wait_for(peer.stub(), self._timeout_s)
        answers = [index async for index in stub.install(self._core.node, term, mark, counted())]
        return answers == [mark.index]

    # ------------------------------------------------------------------------------------------------ receiving

    async def install(self, sender: NodeId, term: int, mark: SnapshotMark, pieces: AsyncIterator[bytes]) -> None:
        """Returns when it is durable here. Raises: NotExecuted: it is not wanted. ProtocolError. StorageFull."""
        self._require_leader(sender, term, mark)
        if self._receiving is not None:
            self._receiving.cancel()
        work = self._snapshots.receive(mark, pieces)
        self._receiving = task = asyncio.get_running_loop().create_task(work, context=Context())
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise
        finally:
            if self._receiving is task:
                self._receiving = None
        if task.cancelled():
            raise NotExecuted("a newer snapshot is being received", cause="superseded")
        task.result()
        log.info("%s has received the snapshot of index %d from %s", self._core.node, mark.index, sender)
        self._step(SnapshotArrived(term, mark), sender)

    def _require_leader(self, sender: NodeId, term: int, mark: SnapshotMark) -> None:
        core = self._core
        if not mark.configuration.members:
            raise ProtocolError("a snapshot of a group without members")
        if term < core.term or (term == core.term and core.leader not in (NOBODY, sender)):
            words = f"{sender} of term {term} does not lead; {core.leader or 'nobody'} leads term {core.term}"
            raise NotExecuted(words, cause="not_leader")
        if mark.index <= core.commit:
            # The core tells the leader how far this node is.
            self._step(SnapshotArrived(term, mark), sender)
            raise NotExecuted(f"{core.node} has all of index {mark.index}", cause="has_it")

    def restore(self, mark: SnapshotMark) -> None:
        """The machines become what it says. Raises: Corruption. UsageError."""
        self._snapshots.restore(mark)
        self._machines.restored(mark)
