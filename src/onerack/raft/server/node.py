"""A node: one member of a raft group, with the machines that are mounted on its log.

    node = RaftNode("n1", "data/n1", members={"n1": "tcp://127.0.0.1:7001"}, machines={USER: Counter()})
    await node.start()
    node.propose(USER, b"5", done)

The idea: a node takes commands and reads from anybody, whether it leads or not. Commands of one turn become one entry,
reads of one turn one question; drive.py turns the core, and what the core decides is carried out here.

The rules: a machine sees the commands in the order of the log, each once. Whoever proposed hears what the machine said,
or an error that says whether it happened. A disk or a machine that fails halts the node.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextvars import Context
from functools import partial
from typing import Any, Final, Self

import msgspec

from onerack import rpc
from onerack.config import RaftConfig
from onerack.errors import NotExecuted, OnerackError, Overloaded, StorageFull, UsageError
from onerack.raft.commands import MEMBERS
from onerack.raft.core import RaftCore
from onerack.raft.machine import StateMachine
from onerack.raft.messages import (
    NOBODY,
    Append,
    Committed,
    Configuration,
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
from onerack.raft.server.door import Door
from onerack.raft.server.drive import Drive
from onerack.raft.server.intake import Intake
from onerack.raft.server.machines import Machines
from onerack.raft.server.members import Member as Member
from onerack.raft.server.members import Members, Write
from onerack.raft.server.orders import Orders
from onerack.raft.server.peers import Forwarded, Peers, RaftPeer
from onerack.raft.server.proposals import Done
from onerack.raft.storage import RaftLog
from onerack.rpc.dice import new_random
from onerack.runtime.env import StorageDisk
from onerack.runtime.seam import NodeId

log = logging.getLogger(__name__)

_DRAIN_S: Final = 0.2
"""For whoever has just been told that the node ends."""
_LOOK_S: Final = 0.1
"""How often those who wait are looked through for whom is late."""


class Status(msgspec.Struct, frozen=True):
    """A node, as it sees itself and its group."""

    name: NodeId
    role: str
    leader: NodeId
    term: int
    commit: int
    applied: int
    last_index: int
    first_index: int
    snapshot_index: int
    configuration: Configuration
    members: tuple[Member, ...]


class RaftNode:
    """Open with `start`, end with `close`; or `async with RaftNode(...) as node`. For one event loop."""

    def __init__(
        self,
        name: NodeId,
        directory: str | os.PathLike[str],
        *,
        members: Mapping[NodeId, str],
        machines: Mapping[int, StateMachine],
        address: str = "",
        joins: bool = False,
        cluster: str = "onerack",
        tls: ssl.SSLContext | None = None,
        client_tls: ssl.SSLContext | None = None,
        insecure: bool = False,
        services: Mapping[Callable[..., Any], Any] | None = None,
        request_timeout_s: float = 7.0,
        config: RaftConfig | None = None,
        disk: StorageDisk | None = None,
    ) -> None:
        """`members`: the group as it is founded, name and address of each, this node among them; a node that `joins` a
        group that is there already names whom it knows. `address`: where to listen, if not where the others dial.
        `machines`: by mount, see commands.py. `services`: RPC services to offer at the same address. `disk`: another
        than the operating system's, for tests.
        """
        if MEMBERS in machines:
            raise UsageError(f"mount {MEMBERS} is raft's own")
        if not address and name not in members:
            raise UsageError(f"{name!r} is not among the members {', '.join(sorted(members))}, and has no address")
        self.name = name
        self.cluster = cluster
        self.config = config or RaftConfig()
        self.book = Members(members)
        self._directory = directory
        self._disk = disk
        self._founders = () if joins else tuple(sorted(members))
        self._listen_at = address or members[name]
        self._machines = Machines({MEMBERS: self.book, **machines})
        self._tls, self._client_tls, self._insecure = tls, client_tls or tls, insecure
        self._services = dict(services or {})
        self._timeout_s = request_timeout_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_open = False
        self._opening: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._halt_error: BaseException | None = None
        self._ended = asyncio.Event()
        self._role: tuple[str, int, NodeId] = ("", 0, NOBODY)
        self._has_stepped_aside = False
        """Because its disk is full."""
        self.on_role: list[Callable[[], None]] = []
        """Called when role, term or leader has changed, and when the node has halted."""
        self.on_applied: list[Callable[[], None]] = []
        """Called after each batch of entries that was applied."""
        self._storage: RaftLog
        self._archive: Archive
        self._drive: Drive
        self._server: rpc.Server
        self._peers: Peers
        self._orders: Orders
        self._intake: Intake
        self._look: asyncio.TimerHandle

    # ------------------------------------------------------------------------------------------------ life

    async def start(self) -> None:
        """Recovers what is on the disk, then takes part.

        Raises: Corruption: the log or the snapshot is damaged. UsageError: the directory is in use, or another node's;
        or the address is in use. NotExecuted: the node was closed meanwhile.
        """
        if self._opening is not None or self._closing is not None:
            raise UsageError(f"{self.name} was started before; a node is started once")
        self._opening = asyncio.get_running_loop().create_task(self._open(), context=Context())
        try:
            await asyncio.shield(self._opening)
        except asyncio.CancelledError:
            await self.close()
            raise

    async def _open(self) -> None:
        first = Configuration(voters=self._founders)
        self._storage, recovered = await asyncio.to_thread(
            RaftLog.open,
            self._directory,
            cluster=self.cluster,
            node=self.name,
            first=first,
            config=self.config,
            disk=self._disk,
        )
        try:
            if self._ended.is_set():
                raise NotExecuted(f"{self.name} was closed while it was starting", cause="stopping")
            await self._begin(recovered)
        except BaseException:
            await asyncio.to_thread(self._storage.close)
            raise
        self._is_open = True

    async def _begin(self, recovered: Recovered) -> None:
        loop, config = asyncio.get_running_loop(), self.config
        core = RaftCore(self.name, recovered, config, new_random(), loop.time())
        self._peers = peers = Peers(
            self.name, self.book.address_of, cluster=self.cluster, tls=self._client_tls, insecure=self._insecure
        )
        self._archive = Archive(
            core, self._storage, self._machines, peers, step=self._step, spawn=self._spawn, config=config,
            timeout_s=self._timeout_s,
        )  # fmt: skip
        if recovered.mark.index:
            self._archive.restore(recovered.mark)
        self._intake = Intake(core, peers, self._spawn, self._timeout_s, self._has_room)
        self._drive = Drive(
            core, self._storage, gather=self._intake.gather, send=self._send, decided=self._decided,
            turned=self._note_role, halted=self._halt, reserve_bytes=config.segment_bytes // 4,
        )  # fmt: skip
        self._orders = Orders(core, self._drive.step, self._leader_stub, self._timeout_s)
        services: dict[Callable[..., Any], Any] = {RaftPeer: Door(self), **self._services}
        try:
            self._server = await rpc.serve(
                services, self._listen_at, cluster=self.cluster, tls=self._tls, insecure=self._insecure
            )
        except BaseException:
            self._drive.close()
            raise
        log.info("%s takes part in %r at %s, from index %d on", self.name, self.cluster, self.address, core.last_index)
        self._look = loop.call_later(_LOOK_S, self._look_through)
        self._drive.turn_soon()

    async def close(self) -> None:
        """Ends this node; the group goes on if it can. May be called again, and while it starts or halts."""
        self._ended.set()
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(), context=Context())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._opening is not None:
            await asyncio.gather(self._opening, return_exceptions=True)  # Whoever called `start` hears of it.
        if not self._is_open:
            return
        self._is_open = False
        self._look.cancel()
        self._fail_all("the node was closed")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.close(drain_s=_DRAIN_S)
        await asyncio.to_thread(self._drive.close)
        await self._peers.close()
        await asyncio.to_thread(self._storage.close)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def wait(self) -> None:
        """Until the node ends. Raises: whatever halted it."""
        await self._ended.wait()
        if self._halt_error is not None:
            raise self._halt_error

    def _halt(self, error: BaseException) -> None:
        """Nothing is taken any more, and nothing leaves. Whoever waits in `wait` should close the node."""
        if self._ended.is_set():
            return
        self._halt_error = error
        log.error("%s has halted: %s", self.name, error, exc_info=error)
        self._ended.set()
        self._drive.stop()
        self._fail_all(f"the node has halted: {error}")
        for call in self.on_role:
            call()

    def _fail_all(self, words: str) -> None:
        self._intake.fail(words)
        self._orders.fail(words)

    # ------------------------------------------------------------------------------------------------ for users

    def propose(self, mount: int, command: bytes, done: Done) -> None:
        """`done` gets what the machine says, or a CallError. It is called in the loop's thread; it must not raise."""
        refusal = self.refusal(len(command))
        if refusal is not None:
            done(refusal)
            return
        self._intake.proposals.add(mount, command, done, asyncio.get_running_loop().time())
        self._drive.turn_soon()

    def refusal(self, command_bytes: int) -> NotExecuted | None:
        """Why a command of this length would not be taken now."""
        if self._ended.is_set() or not self._is_open:
            return self._not_running()
        if command_bytes > self.command_bytes_max:
            words = f"a command of {command_bytes} bytes; at most {self.command_bytes_max} are taken"
            return NotExecuted(words, cause="too_large")
        if self._intake.proposals.gathered_bytes > self.config.uncommitted_bytes_max:
            return Overloaded("too many commands wait for the leader", retry_after_s=_LOOK_S)
        return None

    def _not_running(self) -> NotExecuted:
        words = f"has halted: {self._halt_error}" if self._halt_error is not None else "is not running"
        return NotExecuted(f"{self.name} {words}", cause="stopping")

    def read(self, done: Callable[[NotExecuted | None], None]) -> None:
        """`done(None)` when everything that was committed before this call has been applied here."""
        if self._ended.is_set() or not self._is_open:
            done(self._not_running())
            return
        self._intake.reads.add(done, asyncio.get_running_loop().time())
        self._drive.turn_soon()

    async def execute(self, mount: int, command: bytes) -> Any:
        """As `propose`, for whoever would rather wait. Raises: CallError."""
        return await self._waited(partial(self.propose, mount, command))

    async def catch_up(self) -> None:
        """As `read`. Raises: NotExecuted."""
        await self._waited(self.read)

    async def _waited(self, begin: Callable[[Done], None]) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def done(result: Any) -> None:
            if future.done():
                return
            if isinstance(result, OnerackError):
                future.set_exception(result)
            else:
                future.set_result(result)

        begin(done)
        return await future

    async def manage(self, order: str, node: NodeId) -> None:
        """`learner`, `voter`, `witness`, `remove` (another configuration) or `transfer` (the leadership), anywhere.

        Returns when it is done. Raises: NotExecuted: it cannot be done now, with the cause. Unknown: not in time.
        UsageError: there is no such order.
        """
        self._require_running()
        await self._orders.carry_out(order, node)

    async def manage_here(self, order: str, node: NodeId) -> None:
        """As `manage`, if this node leads."""
        self._require_running()
        await self._orders.carry_out_here(order, node)

    def _require_running(self) -> None:
        if self._ended.is_set() or not self._is_open:
            raise self._not_running()

    async def take_snapshot(self) -> None:
        """Of what is applied now; then the log before it may go, but for a tail. Raises: StorageFull: there is none."""
        self._require_running()
        await self._archive.take()

    async def add_member(self, member: Member, role: str = "learner") -> None:
        """Its address becomes known, then it becomes a `learner`, `voter` or `witness`. Raises: as `manage`."""
        refusal = await self.execute(MEMBERS, msgspec.msgpack.encode(Write(member)))
        if refusal is not None:
            raise refusal
        await self.manage(role, member.name)

    @property
    def address(self) -> str:
        """Where it listens; a port that was asked for as 0 is filled in."""
        return self._server.address

    @property
    def applied(self) -> int:
        """The last index that the machines have seen."""
        return self._machines.applied

    @property
    def has_halted(self) -> bool:
        return self._halt_error is not None

    @property
    def is_leader(self) -> bool:
        return self._drive.core.role == "leader" and not self._ended.is_set()

    @property
    def leader(self) -> NodeId:
        """Empty: nobody, as far as this node knows, or it has ended."""
        return NOBODY if self._ended.is_set() else self._drive.core.leader

    @property
    def term(self) -> int:
        return self._drive.core.term

    @property
    def command_bytes_max(self) -> int:
        """A longer command is refused."""
        return self.config.entry_bytes_max // 2

    @property
    def storage_full(self) -> StorageFull | None:
        """The disk has no room for more of the log."""
        return self._storage.full

    def status(self) -> Status:
        core = self._drive.core
        return Status(
            self.name, core.role, core.leader, core.term, core.commit, self.applied, core.last_index, core.first_index,
            core.mark.index, core.configuration, tuple(self.book.all()),
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------ into the core

    def receive(self, sender: NodeId, messages: list[PeerMessage]) -> None:
        has_room = self._has_room()
        for message in messages:
            # To a full disk entries are lost, as on a bad network: the leader sends them again.
            if has_room or type(message) is not Append or not message.entries:
                self._drive.step(message, sender)

    def _step(self, message: Any, sender: NodeId) -> None:
        self._drive.step(message, sender)

    def _has_room(self) -> bool:
        return self._drive.has_room

    def take(self, payload: bytes) -> asyncio.Future[Forwarded]:
        if self._ended.is_set() or not self._is_open:
            raise self._not_running()
        future = self._intake.pass_on(payload)
        self._drive.turn_soon()
        return future

    async def install(self, sender: NodeId, term: int, mark: SnapshotMark, pieces: AsyncIterator[bytes]) -> None:
        self._require_running()
        await self._archive.install(sender, term, mark, pieces)

    async def _leader_stub(self) -> tuple[NodeId, RaftPeer | None]:
        """None: this node leads, or nobody does."""
        leader = self.leader
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
        match decision:
            case Committed(entries):
                self._apply(entries)
            case ReadReady(number, index):
                self._intake.reads.ready(number, index, self.applied)
            case Proposed(number, term, index) if number > 0:
                self._intake.placed(number, term, index)
            case Proposed(number, term, index):
                self._orders.placed(number, term, index)
            case Refused(number, cause, _) if number > 0:
                self._intake.refused(number, cause)
            case Refused(number, cause, _):
                self._orders.refused(number, cause)
            case SendSnapshot(to, term):
                self._archive.send(to, term)
            case Restore(mark):
                self._restore(mark)

    def _apply(self, entries: Sequence[Entry]) -> None:
        machines, intake, orders = self._machines, self._intake, self._orders
        waiting = intake.proposals.waiting
        for entry in entries:
            machines.apply(entry, waiting)
            intake.committed(entry.term, entry.index)
            if entry.kind == Kind.CONFIGURATION:
                self._keep_members(entry.index)
            if not orders.is_empty:
                orders.applied(entry)
        for call in self.on_applied:
            call()
        intake.reads.applied(machines.applied)
        self._archive.take_if_due()

    def _keep_members(self, index: int) -> None:
        """Who is being removed is still told so."""
        self._peers.keep_only({*self._drive.core.configuration_at(index).members})

    def _restore(self, mark: SnapshotMark) -> None:
        self._archive.restore(mark)
        self._keep_members(mark.index)
        self._intake.proposals.skipped(mark.index)
        for call in self.on_applied:
            call()
        self._intake.reads.applied(mark.index)

    def _note_role(self) -> None:
        core = self._drive.core
        now = (core.role, core.term, core.leader)
        if now != self._role:
            self._role = now
            self._intake.leader_changed()
            self._orders.role_changed()
            if self._intake.has_gathered:
                self._drive.turn_soon()
            for call in self.on_role:
                call()

    # ------------------------------------------------------------------------------------------------ time

    def _look_through(self) -> None:
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(_LOOK_S, self._look_through)
        if self._ended.is_set():
            return
        now = loop.time()
        self._orders.expire(now)
        if self._intake.expire(now):
            self._drive.turn_soon()
        self._drive.try_disk_again()
        self._step_aside_if_full()

    def _step_aside_if_full(self) -> None:
        """A leader that takes no commands is in the way of one that could. Once: all disks may be full."""
        if self.storage_full is None or not self.is_leader:
            self._has_stepped_aside &= self.storage_full is not None
        elif not self._drive.has_room and not self._has_stepped_aside:
            self._has_stepped_aside = True
            log.warning("%s steps aside: %s", self.name, self.storage_full)
            self._orders.step_aside()

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
            self._halt(error)
