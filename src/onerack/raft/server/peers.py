"""Peers: how the nodes of a group reach each other, over our RPC.

The idea: raft's messages need no answer from the transport, so all that one turn has for a peer travels as one call of
which nobody hears. What does need an answer is a call like any other: commands that are passed on to the leader, and
snapshots, which stream in pieces with back-pressure.

The rule: nothing that a peer says is trusted before it is decoded and its sender known to be allowed; a message that
is lost is lost, for the core repeats what matters.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from typing import Final, Protocol

import msgspec

from onerack import rpc
from onerack.config import RpcConfig
from onerack.errors import OnerackError, UsageError
from onerack.raft.messages import PeerMessage, SnapshotMark
from onerack.raft.server.members import Member
from onerack.runtime.seam import NodeId

log = logging.getLogger(__name__)

_PAUSE_S_MIN: Final = 0.02
_PAUSE_S_MAX: Final = 1.0
"""Between two tries to reach a peer that does not answer."""
_TIMING: Final = RpcConfig(
    backoff_max_s=0.25, connect_timeout_s=_PAUSE_S_MAX, keepalive_interval_s=1.0, keepalive_timeout_s=2.0
)
"""A peer that is back must be heard before the others elect a leader without it; and a connection that leads nowhere,
because the network has forgotten it, must not be talked into for long."""

encode_messages: Final = msgspec.msgpack.Encoder().encode
decode_messages: Final = msgspec.msgpack.Decoder(list[PeerMessage]).decode


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where commands have gone in the log."""

    term: int
    index: int


class Refusal(msgspec.Struct, frozen=True):
    """Commands were not taken, and never will be."""

    cause: str
    leader: NodeId


class Forwarded(msgspec.Struct, frozen=True):
    """One of the two."""

    place: Place | None = None
    refusal: Refusal | None = None


@rpc.service("onerack.RaftPeer")
class RaftPeer(Protocol):
    """What a node does for another one of its group."""

    @rpc.at_least_once(attempts=1)
    async def deliver(self, sender: str, to: str, messages: rpc.Attachment) -> None:
        """A msgpack list of peer messages."""

    @rpc.at_most_once
    async def forward(self, commands: rpc.Attachment) -> Forwarded:
        """For the leader: commands that another node's clients have proposed."""

    @rpc.at_most_once
    def install(self, sender: str, term: int, mark: SnapshotMark, pieces: AsyncIterator[bytes]) -> AsyncIterator[int]:
        """A whole snapshot. The one item that comes back is its index, when it is durable here."""

    @rpc.at_most_once
    async def manage(self, order: str, node: str) -> None:
        """For the leader: see `RaftNode.manage`."""

    @rpc.readonly
    async def book(self) -> list[Member]:
        """Where this node takes the members to be: for a witness, to which no log tells it."""


class Peer:
    """One other node, as this one reaches it. The connection is kept up as long as the peer is a member."""

    def __init__(self, name: NodeId, address: str, *, cluster: str, tls: ssl.SSLContext | None, insecure: bool) -> None:
        self.name = name
        self.address = address
        self._cluster = cluster
        self._tls = tls
        self._insecure = insecure
        self._client: rpc.Client[RaftPeer] | None = None
        self._ready = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(
            self._connect(), name=f"raft peer {name}", context=Context()
        )

    async def _connect(self) -> None:
        pause_s, said = _PAUSE_S_MIN, ""
        while self._client is None:
            try:
                self._client = await rpc.connect(
                    RaftPeer, self.address, cluster=self._cluster, tls=self._tls, insecure=self._insecure,
                    connect_timeout=_PAUSE_S_MAX, config=_TIMING,
                )  # fmt: skip
            except (OnerackError, OSError) as error:
                if str(error) != said:  # Once: it may be down for days.
                    said = str(error)
                    level = logging.WARNING if isinstance(error, UsageError) else logging.INFO
                    log.log(level, "%s at %s cannot be reached yet: %s", self.name, self.address, error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_S_MAX)
        self._ready.set()

    @property
    def is_up(self) -> bool:
        return self._client is not None and bool(self._client.server)

    def send(self, sender: NodeId, messages: list[PeerMessage]) -> None:
        """Now or never."""
        if self._client is not None:
            self._client.tell("deliver", sender, self.name, encode_messages(messages))

    async def stub(self) -> RaftPeer:
        """When there is a connection."""
        await self._ready.wait()
        assert self._client is not None
        return self._client.stub

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._client is not None:
            await self._client.close()


class Peers:
    """All the others."""

    def __init__(
        self, own: NodeId, address_of: Callable[[NodeId], str | None], *, cluster: str, tls: ssl.SSLContext | None,
        insecure: bool,
    ) -> None:  # fmt: skip
        """`address_of`: where a node is, as far as this one knows."""
        self._own = own
        self._address_of = address_of
        self._cluster = cluster
        self._tls = tls
        self._insecure = insecure
        self._peers: dict[NodeId, Peer] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def get(self, name: NodeId) -> Peer | None:
        """None: nobody knows where it is, or it is this node. A peer that has moved is reached anew."""
        address = None if name == self._own else self._address_of(name)
        peer = self._peers.get(name)
        if peer is not None and peer.address != address:
            self._drop(name)
            peer = None
        if peer is None and address is not None:
            peer = self._peers[name] = Peer(
                name, address, cluster=self._cluster, tls=self._tls, insecure=self._insecure
            )
        return peer

    def keep_only(self, names: set[NodeId]) -> None:
        """Who is no member any more is not reached any more."""
        for name in sorted(set(self._peers) - names):
            self._drop(name)

    def _drop(self, name: NodeId) -> None:
        task = asyncio.get_running_loop().create_task(self._peers.pop(name).close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        for name in list(self._peers):
            self._drop(name)
        await asyncio.gather(*self._closing, return_exceptions=True)
