"""A node: one member of a raft group, with the machines that are mounted on its log.

    node = RaftNode("n1", "data/n1", members={"n1": "tcp://127.0.0.1:7001"}, machines={USER: Counter()})
    await node.start()
    node.propose(USER, b"5", done)

The idea: a node takes commands and reads from anybody, whether it leads or not. Commands of one turn become one entry,
reads of one turn one question. What is here is for whoever has a node; host.py is where its parts meet.

The rules: a machine sees the commands in the order of the log, each once. Whoever proposed hears what the machine said,
or an error that says whether it happened. A disk or a machine that fails halts the node.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from functools import partial
from typing import Any, Final, Self

import msgspec

from onerack import rpc
from onerack.config import RaftConfig
from onerack.errors import NotExecuted, OnerackError, Overloaded, StorageFull, UsageError
from onerack.raft.commands import MEMBERS
from onerack.raft.machine import StateMachine
from onerack.raft.messages import (
    NOBODY,
    Configuration,
    Recovered,
)
from onerack.raft.server.door import Door
from onerack.raft.server.host import LOOK_S, Host
from onerack.raft.server.machines import Machines
from onerack.raft.server.members import Member as Member
from onerack.raft.server.members import Members, Write
from onerack.raft.server.peers import Peers, RaftPeer
from onerack.raft.server.proposals import Done
from onerack.raft.storage import RaftLog
from onerack.runtime.env import StorageDisk
from onerack.runtime.seam import NodeId

log = logging.getLogger(__name__)

_DRAIN_S: Final = 0.2
"""For whoever has just been told that the node ends."""


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
        self.command_bytes_max = self.config.entry_bytes_max // 2
        """A longer command is refused."""
        self.book = Members(members)
        self._directory = directory
        self._disk = disk
        self._founders = () if joins else tuple(sorted(members))
        self._listen_at = address or members[name]
        self._machines = Machines({MEMBERS: self.book, **machines})
        self._tls, self._client_tls, self._insecure = tls, client_tls or tls, insecure
        self._services = dict(services or {})
        self._timeout_s = request_timeout_s
        self._host: Host | None = None
        """From the moment in which it takes part. It stays when the node has ended."""
        self._opening: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._halt_error: BaseException | None = None
        self._ended = asyncio.Event()
        self.on_role: list[Callable[[], None]] = []
        """Called when role, term or leader has changed, and when the node has halted."""
        self.on_applied: list[Callable[[], None]] = []
        """Called after each batch of entries that was applied."""
        self._server: rpc.Server
        self._peers: Peers

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
        storage, recovered = await asyncio.to_thread(
            RaftLog.open,
            self._directory,
            cluster=self.cluster,
            node=self.name,
            first=Configuration(voters=self._founders),
            config=self.config,
            disk=self._disk,
        )
        try:
            if self._ended.is_set():
                raise NotExecuted(f"{self.name} was closed while it was starting", cause="stopping")
            self._host = await self._begin(storage, recovered)
        except BaseException:
            await asyncio.to_thread(storage.close)
            raise

    async def _begin(self, storage: RaftLog, recovered: Recovered) -> Host:
        self._peers = Peers(
            self.name, self.book.address_of, cluster=self.cluster, tls=self._client_tls, insecure=self._insecure
        )
        host = Host(
            self.name, recovered, storage, self._machines, self._peers, config=self.config, timeout_s=self._timeout_s,
            on_role=self.on_role, on_applied=self.on_applied, on_halt=self._halted,
        )  # fmt: skip
        services: dict[Callable[..., Any], Any] = {RaftPeer: Door(host), **self._services}
        try:
            self._server = await rpc.serve(
                services, self._listen_at, cluster=self.cluster, tls=self._tls, insecure=self._insecure
            )
        except BaseException:
            host.stop(f"{self.name} could not be served")
            await host.close()
            await self._peers.close()
            raise
        last_index = host.core.last_index
        log.info("%s takes part in %r at %s; its log ends at %d", self.name, self.cluster, self.address, last_index)
        host.drive.turn_soon()
        return host

    async def close(self) -> None:
        """Ends this node; the group goes on if it can, with another leader if this one led.

        May be called again, and while it starts or has halted.
        """
        self._ended.set()
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(), context=Context())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._opening is not None:
            await asyncio.gather(self._opening, return_exceptions=True)  # Whoever called `start` hears of it.
        host = self._host
        if host is None:
            return
        await self._hand_over(host)
        host.stop(f"{self.name} was closed")
        await self._server.close(drain_s=_DRAIN_S)
        await host.close()
        await self._peers.close()
        await asyncio.to_thread(host.storage.close)

    async def _hand_over(self, host: Host) -> None:
        """Else nobody would lead until the others have missed this node. It waits for a moment only."""
        if self.has_halted or not host.orders.step_aside():
            return
        moved = asyncio.Event()
        self.on_role.append(moved.set)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.election_timeout_s):
                await moved.wait()
        self.on_role.remove(moved.set)

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

    def _halted(self, error: BaseException) -> None:
        self._halt_error = error
        self._ended.set()

    def _running(self) -> Host:
        """Raises: NotExecuted."""
        if self._host is None or self._ended.is_set():
            raise self._not_running()
        return self._host

    def _not_running(self) -> NotExecuted:
        words = f"has halted: {self._halt_error}" if self._halt_error is not None else "is not running"
        return NotExecuted(f"{self.name} {words}", cause="stopping")

    # ------------------------------------------------------------------------------------------------ for users

    def propose(self, mount: int, command: bytes, done: Done, *, eager: bool = False) -> None:
        """`done` gets what the machine says, or a CallError. It is called in the loop's thread; it must not raise.

        `eager`: when many commands have gathered, they may leave inside this call, and meanwhile others may be told
        what became of theirs. So the next entry gathers while this one is on its way.
        """
        refusal, host = self.refusal(len(command)), self._host
        if refusal is not None or host is None:
            done(refusal)
            return
        host.intake.proposals.add(mount, command, done, asyncio.get_running_loop().time())
        if eager and host.intake.proposals.is_batch:
            host.drive.turn_now()
        else:
            host.drive.turn_soon()

    def propose_all(self, mount: int, commands: Sequence[bytes], done: Sequence[Done]) -> None:
        """Several that came together, each with its own outcome; eager, see `propose`."""
        refusal, host = self.refusal(max(map(len, commands), default=0)), self._host
        if refusal is not None or host is None:
            for command, each in zip(commands, done, strict=True):
                self.propose(mount, command, each)
            return
        host.intake.proposals.add_all(mount, commands, done, asyncio.get_running_loop().time())
        if host.intake.proposals.is_batch:
            host.drive.turn_now()
        else:
            host.drive.turn_soon()

    def refusal(self, command_bytes: int) -> NotExecuted | None:
        """Why a command of this length would not be taken now."""
        if self._host is None or self._ended.is_set():
            return self._not_running()
        if command_bytes > self.command_bytes_max:
            words = f"a command of {command_bytes} bytes; at most {self.command_bytes_max} are taken"
            return NotExecuted(words, cause="too_large")
        if self._host.core.is_witness:
            return NotExecuted("a witness applies nothing, so it could not answer: ask another node", cause="invalid")
        if self._host.intake.proposals.gathered_bytes > self.config.uncommitted_bytes_max:
            return Overloaded("too many commands wait for the leader", retry_after_s=LOOK_S)
        return None

    def read(self, done: Callable[[NotExecuted | None], None]) -> None:
        """`done(None)` when everything that was committed before this call has been applied here."""
        if self._host is None or self._ended.is_set():
            done(self._not_running())
            return
        self._host.intake.reads.add(done, asyncio.get_running_loop().time())
        self._host.drive.turn_soon()

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
        await self._running().orders.carry_out(order, node)

    async def take_snapshot(self) -> None:
        """Of what is applied now; then the log before it may go, but for a tail. Raises: StorageFull: there is none."""
        await self._running().archive.take()

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
        return self._host is not None and not self._ended.is_set() and self._host.core.role == "leader"

    @property
    def is_witness(self) -> bool:
        """It votes and applies nothing: nobody can be answered here."""
        return self._host is not None and self._host.core.is_witness

    @property
    def leader(self) -> NodeId:
        """Empty: nobody, as far as this node knows, or it does not run."""
        return NOBODY if self._host is None or self._ended.is_set() else self._host.core.leader

    @property
    def configuration(self) -> Configuration:
        """Who takes part, as far as this node's log says. Requires: it was started."""
        assert self._host is not None, "a node that was not started knows nobody"
        return self._host.core.configuration

    @property
    def term(self) -> int:
        return 0 if self._host is None else self._host.core.term

    @property
    def storage_full(self) -> StorageFull | None:
        """The disk has no room for more of the log."""
        return None if self._host is None else self._host.storage.full

    def status(self) -> Status:
        """Requires: it was started. Also of a node that has ended: as it was then."""
        assert self._host is not None, "a node that was not started has no status"
        core = self._host.core
        return Status(
            self.name, core.role, core.leader, core.term, core.commit, self.applied, core.last_index, core.first_index,
            core.mark.index, core.configuration, tuple(self.book.all()),
        )  # fmt: skip
