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
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Self

import msgspec

from onerack import rpc
from onerack.config import RaftConfig
from onerack.errors import NotExecuted, OnerackError, StorageFull, UsageError
from onerack.raft.commands import MEMBERS, commands_of
from onerack.raft.core import RaftCore
from onerack.raft.machine import StateMachine
from onerack.raft.messages import (
    NOBODY,
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
    SnapshotArrived,
    SnapshotMark,
    SnapshotSent,
    SnapshotTaken,
)
from onerack.raft.server.door import Door
from onerack.raft.server.drive import Drive
from onerack.raft.server.intake import Intake
from onerack.raft.server.members import Member as Member
from onerack.raft.server.members import Members, Write
from onerack.raft.server.orders import Orders
from onerack.raft.server.peers import Forwarded, Peers, RaftPeer
from onerack.raft.server.proposals import Done
from onerack.raft.server.snapshots import Snapshots
from onerack.raft.storage import RaftLog
from onerack.rpc.dice import new_random
from onerack.runtime.seam import NodeId

log = logging.getLogger(__name__)

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
    ) -> None:
        """`members`: the group as it is founded, name and address of each, this node among them; a node that `joins` a
        group that is there already names whom it knows. `address`: where to listen, if not where the others dial.
        `machines`: by mount, see commands.py. `services`: RPC services to offer at the same address.
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
        self._founders = () if joins else tuple(sorted(members))
        self._listen_at = address or members[name]
        self._machines: dict[int, StateMachine] = {MEMBERS: self.book, **machines}
        self._tls, self._client_tls, self._insecure = tls, client_tls or tls, insecure
        self._services = dict(services or {})
        self._timeout_s = request_timeout_s
        self.applied = 0
        """The last index that the machines have seen."""
        self._applied_term = 0
        self._bytes_since_snapshot = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._halt_error: BaseException | None = None
        self._ended = asyncio.Event()
        self._role: tuple[str, int, NodeId] = ("", 0, NOBODY)
        self.on_role: list[Callable[[], None]] = []
        """Called when role, term or leader has changed."""
        self.on_applied: list[Callable[[], None]] = []
        """Called after each batch of entries that was applied."""
        self._storage: RaftLog
        self._snapshots: Snapshots
        self._drive: Drive
        self._server: rpc.Server
        self._peers: Peers
        self._orders: Orders
        self._intake: Intake
        self._look: asyncio.TimerHandle

    # ------------------------------------------------------------------------------------------------ life

    async def start(self) -> None:
        """Recovers what is on the disk, then takes part.

        Raises: Corruption: the log or the snapshot is damaged. UsageError: the directory is in use, or another node's.
        OSError: the address is in use.
        """
        first = Configuration(voters=self._founders)
        self._storage, recovered = await asyncio.to_thread(
            RaftLog.open, self._directory, cluster=self.cluster, node=self.name, first=first, config=self.config
        )
        try:
            await self._begin(recovered)
        except BaseException:
            await asyncio.to_thread(self._storage.close)
            raise

    async def _begin(self, recovered: Recovered) -> None:
        loop = asyncio.get_running_loop()
        self._snapshots = Snapshots(self._storage.snapshots, self._machines)
        if recovered.mark.index:
            self._snapshots.restore(recovered.mark)
        self.applied, self._applied_term = recovered.mark.index, recovered.mark.term
        core = RaftCore(self.name, recovered, self.config, new_random(), loop.time())
        self._peers = Peers(
            self.name, self.book.address_of, cluster=self.cluster, tls=self._client_tls, insecure=self._insecure,
            config=self.config,
        )  # fmt: skip
        self._intake = Intake(core, self._peers, self._spawn, self._timeout_s)
        self._drive = Drive(
            core, self._storage, gather=self._intake.gather, send=self._send, decided=self._decided, halted=self._halt
        )
        self._orders = Orders(core, self._drive.step, self._leader_stub, self._timeout_s)
        services: dict[Callable[..., Any], Any] = {RaftPeer: Door(self), **self._services}
        try:
            self._server = await rpc.serve(
                services, self._listen_at, cluster=self.cluster, tls=self._tls, insecure=self._insecure
            )
        except BaseException:
            self._drive.close()
            raise
        self._look = loop.call_later(_LOOK_S, self._look_through)
        self._drive.turn_soon()

    async def close(self) -> None:
        """Ends this node; the group goes on if it can. May be called again."""
        if self._ended.is_set() and not hasattr(self, "_look"):
            return
        self._ended.set()
        self._look.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.close(drain_s=0)
        await asyncio.to_thread(self._drive.close)
        await self._peers.close()
        await asyncio.to_thread(self._storage.close)
        self._fail_all("the node was closed")

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
        self._halt_error = error
        log.error("%s has halted: %s", self.name, error, exc_info=error)
        self._ended.set()
        self._fail_all(f"the node has halted: {error}")

    def _fail_all(self, words: str) -> None:
        self._intake.fail(words)
        self._orders.fail(words)

    # ------------------------------------------------------------------------------------------------ for users

    def propose(self, mount: int, command: bytes, done: Done) -> None:
        """`done` gets what the machine says, or a CallError. It is called in the loop's thread; it must not raise."""
        if self._ended.is_set():
            done(NotExecuted("the node has ended", cause="stopping"))
            return
        if len(command) > self.command_bytes_max:
            words = f"a command of {len(command)} bytes; at most {self.command_bytes_max} are taken"
            done(NotExecuted(words, cause="too_large"))
            return
        self._intake.propose(mount, command, done, asyncio.get_running_loop().time())
        self._drive.turn_soon()

    def read(self, done: Callable[[NotExecuted | None], None]) -> None:
        """`done(None)` when everything that was committed before this call has been applied here."""
        if self._ended.is_set():
            done(NotExecuted("the node has ended", cause="stopping"))
            return
        self._intake.reads.add(done)
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
        """
        await self._orders.carry_out(order, node)

    async def add_member(self, member: Member, role: str = "learner") -> None:
        """Its address becomes known, then it becomes a `learner`, `voter` or `witness`. Raises: as `manage`."""
        await self.execute(MEMBERS, msgspec.msgpack.encode(Write(member)))
        await self.manage(role, member.name)

    @property
    def address(self) -> str:
        """Where it listens; a port that was asked for as 0 is filled in."""
        return self._server.address

    @property
    def is_leader(self) -> bool:
        return self._drive.core.role == "leader"

    @property
    def leader(self) -> NodeId:
        """Empty: nobody, as far as this node knows."""
        return self._drive.core.leader

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
        for message in messages:
            self._drive.step(message, sender)

    def take(self, payload: bytes) -> asyncio.Future[Forwarded]:
        future = self._intake.pass_on(payload)
        self._drive.turn_soon()
        return future

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
            case Proposed(number, _, index):
                self._orders.placed(number, index)
            case Refused(number, cause, _) if number > 0:
                self._intake.refused(number, cause)
            case Refused(number, cause, _):
                self._orders.refused(number, cause)
            case SendSnapshot(to, term):
                self._spawn(self._send_snapshot(to, term))
            case Restore(mark):
                self._restore(mark)
        self._note_role()

    def _apply(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.kind == Kind.COMMANDS:
                self._apply_commands(entry.payload)
                self._bytes_since_snapshot += len(entry.payload)
            elif entry.kind == Kind.CONFIGURATION:
                self._peers.keep_only({*self._drive.core.configuration.members} - {self.name})
            self.applied, self._applied_term = entry.index, entry.term
            self._intake.committed(entry.term, entry.index)
        for call in self.on_applied:
            call()
        self._intake.reads.applied(self.applied)
        self._orders.applied(self.applied)
        if self._bytes_since_snapshot >= self.config.snapshot_bytes and not self._snapshots.is_busy:
            self._spawn(self.take_snapshot())

    def _apply_commands(self, payload: bytes) -> None:
        """Requires: the payload is of commands; else a node had been told a lie, and the node halts."""
        machines, waiting = self._machines, self._intake.proposals.waiting
        for mount, tag, body in commands_of(payload):
            machine = machines.get(mount)
            done = waiting.pop(tag, None)
            if machine is not None:
                result = machine.apply(body, done is not None)
            else:
                result = NotExecuted(f"nothing is mounted at {mount}", cause="no_machine")
            if done is not None:
                done(result)

    def _note_role(self) -> None:
        core = self._drive.core
        now = (core.role, core.term, core.leader)
        if now != self._role:
            self._role = now
            self._intake.leader_changed()
            self._drive.turn_soon()
            for call in self.on_role:
                call()

    # ------------------------------------------------------------------------------------------------ snapshots

    async def take_snapshot(self) -> None:
        """Of what is applied now; then the log before it may go, but for a tail."""
        self._bytes_since_snapshot = 0
        core = self._drive.core
        mark = SnapshotMark(self.applied, self._applied_term, core.configuration_at(self.applied))
        try:
            await self._snapshots.take(mark)
        except StorageFull as error:
            log.warning("%s: no snapshot: %s", self.name, error)
            return
        self._drive.step(SnapshotTaken(mark.index, self._kept_entries(mark.index)))
        await asyncio.to_thread(self._storage.cut_before, core.first_index)
        await asyncio.to_thread(self._storage.snapshots.delete_before, mark.index)

    def _kept_entries(self, index: int) -> int:
        """How many entries before this one are small enough together to be kept for slow followers."""
        core, size, count = self._drive.core, 0, 0
        while index - count >= core.first_index and size < self.config.kept_bytes:
            entry = core.entry_at(index - count)
            size += 0 if entry is None else len(entry.payload)
            count += 1
        return count

    async def _send_snapshot(self, to: NodeId, term: int) -> None:
        mark = self._storage.snapshots.newest()
        peer = self._peers.get(to)
        done = False
        if mark is not None and peer is not None:
            try:
                stub = await asyncio.wait_for(peer.stub(), self._timeout_s)
                async for index in stub.install(self.name, term, mark, self._snapshots.read(mark)):
                    done = index == mark.index
            except (OnerackError, OSError, TimeoutError) as error:
                log.info("%s: the snapshot for %s did not arrive: %s", self.name, to, error)
        self._drive.step(SnapshotSent(to, 0 if mark is None else mark.index, done))

    async def install(self, sender: NodeId, term: int, mark: SnapshotMark, pieces: AsyncIterator[bytes]) -> None:
        await self._snapshots.receive(mark, pieces)
        self._drive.step(SnapshotArrived(term, mark), sender)

    def _restore(self, mark: SnapshotMark) -> None:
        self._snapshots.restore(mark)
        self.applied, self._applied_term = mark.index, mark.term
        self._bytes_since_snapshot = 0
        self._intake.reads.applied(self.applied)

    # ------------------------------------------------------------------------------------------------ time

    def _look_through(self) -> None:
        now = asyncio.get_running_loop().time()
        self._orders.expire(now)
        if self._intake.expire(now):
            self._drive.turn_soon()
        self._note_role()
        self._look = asyncio.get_running_loop().call_later(_LOOK_S, self._look_through)

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
