"""The door: what the kv servers of a group do for each other.

    door = KvDoor()
    node = RaftNode("n1", ..., machines={KV: machine}, services=door.services)
    server = KvServer(node, machine, door=door)

The idea: only the leader counts the seconds of leases and of tokens. Whoever is asked for them elsewhere passes the
question on, over the same RPC by which the nodes of raft reach each other, at the same address.

The rule: a node that does not lead answers None, and the question is asked again, until there is no time left for it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from onerack import rpc
from onerack.errors import NotExecuted, OnerackError
from onerack.raft import RaftNode

_PAUSE_S: Final = 0.05
"""Between two tries to find a leader that answers."""
_CONNECT_S: Final = 1.0

_Answer = TypeVar("_Answer")


@rpc.service("onerack.KvPeer")
class KvPeer(Protocol):
    """What a kv server does for another one of its group, as long as it leads."""

    @rpc.at_least_once(attempts=1)
    async def renew(self, leases: list[int]) -> list[int] | None:
        """For each lease, for how many seconds it holds from now on; 0: there is none."""

    @rpc.readonly
    async def remaining(self, lease: int) -> int | None:
        """In whole seconds; -1: there is no such lease."""

    @rpc.at_least_once(attempts=1)
    async def touch(self, tokens: list[str]) -> bool:
        """These tokens were used lately. False: this node does not lead."""


class Leading(Protocol):
    """What the door needs of the leader: the lessor, and who ends tokens."""

    async def renew(self, leases: Sequence[int]) -> list[int] | None: ...

    async def remaining(self, lease: int) -> int | None: ...

    def touch(self, tokens: Sequence[str]) -> bool: ...


class _Porter:
    """Implements KvPeer. Before a kv server is there, it does not lead."""

    def __init__(self) -> None:
        self.leading: Leading | None = None

    async def renew(self, leases: list[int]) -> list[int] | None:
        return await self.leading.renew(leases) if self.leading else None

    async def remaining(self, lease: int) -> int | None:
        return await self.leading.remaining(lease) if self.leading else None

    async def touch(self, tokens: list[str]) -> bool:
        return self.leading is not None and self.leading.touch(tokens)


class KvDoor:
    """Of one node. `services` is for the RaftNode, the door itself for the KvServer."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, insecure: bool = False) -> None:
        """`tls`, `insecure`: for calls to the others, as RaftNode's `client_tls` and `insecure`."""
        self._tls = tls
        self._insecure = insecure
        self._porter = _Porter()
        self._clients: dict[str, rpc.Client[KvPeer]] = {}
        self._node: RaftNode
        self._timeout_s = 0.0

    @property
    def services(self) -> Mapping[Callable[..., Any], Any]:
        return {KvPeer: self._porter}

    def open(self, node: RaftNode, leading: Leading, timeout_s: float) -> None:
        """From now on it answers, and asks."""
        self._node, self._timeout_s = node, timeout_s
        self._porter.leading = leading

    async def close(self) -> None:
        self._porter.leading = None
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.close()

    # ------------------------------------------------------------------------------------------------ asking

    async def renew(self, leases: list[int]) -> list[int]:
        """Raises: NotExecuted: no leader has answered in time."""
        return await self._ask(lambda peer: peer.renew(leases))

    async def remaining(self, lease: int) -> int:
        """Raises: NotExecuted: no leader has answered in time."""
        return await self._ask(lambda peer: peer.remaining(lease))

    async def touch(self, tokens: list[str]) -> None:
        """Raises: NotExecuted: no leader has answered in time."""

        async def touch(peer: KvPeer) -> bool | None:
            return await peer.touch(tokens) or None

        await self._ask(touch)

    async def _ask(self, question: Callable[[KvPeer], Awaitable[_Answer | None]]) -> _Answer:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._timeout_s
        while True:
            try:
                async with asyncio.timeout_at(give_up_at):
                    found = await self._ask_once(question)
            except (OnerackError, OSError, TimeoutError):
                found = None
            if found is not None:
                return found
            if loop.time() + _PAUSE_S >= give_up_at:
                raise NotExecuted("no leader has answered", cause="no_leader" if not self._node.leader else "timeout")
            await asyncio.sleep(_PAUSE_S)

    async def _ask_once(self, question: Callable[[KvPeer], Awaitable[_Answer | None]]) -> _Answer | None:
        leader = self._node.leader
        if leader == self._node.name:
            return await question(self._porter)
        address = self._node.book.address_of(leader) if leader else None
        return None if address is None else await question((await self._client(address)).stub)

    async def _client(self, address: str) -> rpc.Client[KvPeer]:
        client = self._clients.get(address)
        if client is None:
            client = await rpc.connect(
                KvPeer, address, cluster=self._node.cluster, tls=self._tls, insecure=self._insecure,
                connect_timeout=_CONNECT_S, deadline=self._timeout_s,
            )  # fmt: skip
            other = self._clients.setdefault(address, client)
            if other is not client:  # Somebody else was faster.
                await client.close()
                client = other
        return client
