"""The host of one core: what the core decides is carried out here, while the node runs.

    peers, through the door ─┐              ┌─ drive: disk, peers, clock
    commands, reads, orders ─┼─ core, by ───┼─ machines: what is committed
    a look around, 10 per s ─┘    drive     └─ intake, orders, archive: what became of what they wanted

The idea: each part knows one thing, and this is where they meet; there is nothing else here.

The rules: a disk or a machine that fails halts the host, and then nothing is taken, and nothing leaves. Whoever waits
for anything is told, whatever happens.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any, Final

from onerack.config import RaftConfig
from onerack.errors import NotExecuted, StorageFull
from onerack.raft.commands import MEMBERS
from onerack.raft.core import RaftCore
from onerack.raft.messages import (
    NOBODY,
    Append,
    Committed,
    Entry,
    Kind,
    PeerMessage,
    Proposed,
    ReadReady,
    Recovered,
    Refused,
    Restore,
    SendSnapshot,
    SnapshotMark,
)
from onerack.raft.server.archive import Archive
from onerack.raft.server.drive import Drive
from onerack.raft.server.intake import Intake
from onerack.raft.server.machines import Machines
from onerack.raft.server.members import Member, Members
from onerack.raft.server.orders import Orders
from onerack.raft.server.peers import Forwarded, Peers, RaftPeer
from onerack.raft.server.whereabouts import Whereabouts
from onerack.raft.storage import RaftLog
from onerack.rpc.dice import new_random
from onerack.runtime.seam import NodeId

log = logging.getLogger(__name__)

LOOK_S: Final = 0.1
"""How often those who wait are looked through for whom is late."""

Hooks = list[Callable[[], None]]


class Host:
    """Of one node, from its recovery to its end."""

    def __init__(
        self,
        name: NodeId,
        recovered: Recovered,
        storage: RaftLog,
        machines: Machines,
        peers: Peers,
        *,
        config: RaftConfig,
        timeout_s: float,
        on_role: Hooks,
        on_applied: Hooks,
        on_halt: Callable[[BaseException], None],
    ) -> None:
        """Restores the machines. Raises: Corruption. UsageError: the snapshot holds a machine that is not mounted."""
        self.name = name
        self.storage = storage
        self.machines = machines
        self.core = core = RaftCore(name, recovered, config, new_random(), asyncio.get_running_loop().time())
        self._peers = peers
        self._on_role, self._on_applied, self._on_halt = on_role, on_applied, on_halt
        self._tasks: set[asyncio.Task[None]] = set()
        self._role: tuple[str, int, NodeId] = ("", 0, NOBODY)
        self._end = ""
        """Why it takes nothing any more."""
        self._has_stepped_aside = False
        """Because its disk is full."""
        self.archive = Archive(
            core, storage, machines, peers, step=self._step, spawn=self._spawn, config=config, timeout_s=timeout_s
        )
        self._whereabouts = Whereabouts(core, self._book, peers, self._spawn)
        if recovered.mark.index:
            self.archive.restore(recovered.mark)
        self.intake = Intake(core, peers, self._spawn, timeout_s, self._has_room)
        self.drive = Drive(
            core, storage, gather=self.intake.gather, send=self._send, decided=self._decided, turned=self._note_role,
            halted=self.halt, reserve_bytes=config.segment_bytes // 4,
        )  # fmt: skip
        self.orders = Orders(core, self.drive.step, self._leader_stub, timeout_s)
        self._look = asyncio.get_running_loop().call_later(LOOK_S, self._look_through)

    def halt(self, error: BaseException) -> None:
        """For ever. Whoever looks after the node should close it."""
        if self._end:
            return
        self._on_halt(error)
        log.error("%s has halted: %s", self.name, error, exc_info=error)
        self.stop(f"{self.name} has halted: {error}")
        for call in self._on_role:
            call()

    def stop(self, words: str) -> None:
        """Takes nothing any more, and tells everybody who waits. May be called again."""
        self._end = self._end or words
        self._look.cancel()
        self.drive.stop()
        self.intake.fail(words)
        self.orders.fail(words)

    async def close(self) -> None:
        """Returns when nothing works any more. Requires: it was stopped."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.drive.close)

    def require_running(self) -> None:
        """Raises: NotExecuted."""
        if self._end:
            raise NotExecuted(self._end, cause="stopping")

    # ------------------------------------------------------------------------------------------------ into the core

    def receive(self, sender: NodeId, messages: list[PeerMessage]) -> None:
        if self.storage.full is not None and not self._has_room():
            # To a full disk entries are lost, as on a bad network: the leader sends them again.
            messages = [message for message in messages if type(message) is not Append or not message.entries]
        self.drive.step_all(messages, sender)

    def _step(self, message: Any, sender: NodeId) -> None:
        self.drive.step(message, sender)

    def _has_room(self) -> bool:
        return self.drive.has_room

    def take(self, payload: bytes) -> asyncio.Future[Forwarded]:
        """Raises: NotExecuted."""
        self.require_running()
        future = self.intake.pass_on(payload)
        self.drive.turn_soon()
        return future

    async def install(self, sender: NodeId, term: int, mark: SnapshotMark, pieces: AsyncIterator[bytes]) -> None:
        self.require_running()
        await self.archive.install(sender, term, mark, pieces)

    async def manage_here(self, order: str, node: NodeId) -> None:
        """An order that another node has passed on."""
        self.require_running()
        await self.orders.carry_out_here(order, node)

    def known_members(self) -> list[Member]:
        """Where they are, with what this node was told at its start of those who have not said so themselves."""
        names = self.core.configuration.members
        found = [(name, self._book.get(name), self._book.address_of(name)) for name in sorted(names)]
        return [known or Member(name, address) for name, known, address in found if address is not None]

    @property
    def _book(self) -> Members:
        book = self.machines.by_mount[MEMBERS]
        assert isinstance(book, Members), "what is mounted there is the book of members"
        return book

    async def _leader_stub(self) -> tuple[NodeId, RaftPeer | None]:
        """None: this node leads, or nobody does."""
        leader = self.core.leader
        if leader in (NOBODY, self.name):
            return leader, None
        peer = self._peers.get(leader)
        if peer is None or not peer.is_up:
            return NOBODY, None
        return leader, await peer.stub()

    # ------------------------------------------------------------------------------------------------ out of the core

    def _send(self, to: NodeId, messages: list[PeerMessage]) -> None:
        peer = self._peers.get(to)
        if peer is not None:
            peer.send(self.name, messages)

    def _decided(self, decision: Any) -> None:
        if type(decision) is Committed:
            self._apply(decision.entries)
            return
        match decision:
            case ReadReady(number, index):
                self.intake.reads.ready(number, index, self.machines.applied)
            case Proposed(number, term, index) if number > 0:
                self.intake.placed(number, term, index)
            case Proposed(number, term, index):
                self.orders.placed(number, term, index)
            case Refused(number, cause, _) if number > 0:
                self.intake.refused(number, cause)
            case Refused(number, cause, _):
                self.orders.refused(number, cause)
            case SendSnapshot(to, term):
                self.archive.send(to, term)
            case Restore(mark):
                self._restore(mark)

    def _apply(self, entries: Sequence[Entry]) -> None:
        machines, intake, orders = self.machines, self.intake, self.orders
        waiting = intake.proposals.waiting
        for entry in entries:
            machines.apply(entry, waiting)
            intake.committed(entry.term, entry.index)
            if entry.kind == Kind.CONFIGURATION:
                self._keep_members(entry.index)
            if not orders.is_empty:
                orders.applied(entry)
        for call in self._on_applied:
            call()
        intake.reads.applied(machines.applied)
        self.archive.take_if_due()

    def _keep_members(self, index: int) -> None:
        """Who is being removed is still told so."""
        self._peers.keep_only({*self.core.configuration_at(index).members})

    def _restore(self, mark: SnapshotMark) -> None:
        self.archive.restore(mark)
        self._keep_members(mark.index)
        self.intake.proposals.skipped(mark.index)
        for call in self._on_applied:
            call()
        self.intake.reads.applied(mark.index)

    def _note_role(self) -> None:
        core = self.core
        now = (core.role, core.term, core.leader)
        if now != self._role:
            self._role = now
            self.intake.leader_changed()
            self.orders.role_changed()
            if self.intake.has_gathered:
                self.drive.turn_soon()
            for call in self._on_role:
                call()

    # ------------------------------------------------------------------------------------------------ time

    def _look_through(self) -> None:
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(LOOK_S, self._look_through)
        now = loop.time()
        self.orders.expire(now)
        if self.intake.expire(now):
            self.drive.turn_soon()
        self.archive.cut_if_due()
        self._whereabouts.look(now)
        self.drive.try_disk_again()
        self._step_aside_if_full()

    def _step_aside_if_full(self) -> None:
        """A leader that takes no commands is in the way of one that could. Once: all disks may be full."""
        if self.storage.full is None or self.core.role != "leader":
            self._has_stepped_aside &= self.storage.full is not None
        elif not self.drive.has_room and not self._has_stepped_aside:
            self._has_stepped_aside = True
            log.warning("%s steps aside: %s", self.name, self.storage.full)
            self.orders.step_aside()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # In a context of its own: what is done here for many must not end with the deadline of whoever came first.
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._work_ended)
        return task

    def _work_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, StorageFull):
            log.warning("%s: %s", self.name, error)
        elif error is not None:
            self.halt(error)
