"""KvServer: the etcd v3 API of one node, at an address of its own.

    door = KvDoor()
    machine = KvMachine()
    node = RaftNode("n1", "data/n1", members={...}, machines={KV: machine}, services=door.services)
    server = KvServer(node, machine, address="tcp://127.0.0.1:2379", door=door)
    await node.start()
    await server.start()

The idea: raft's node carries commands, the machine knows what they mean, `http2` and `grpc` speak with clients. What is
here binds them: one small service for each of etcd's, around one desk.

The rule: the node outlives its server; `close` ends the calls, and then what served them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import Final, Self

import msgspec

from onerack.config import KvConfig
from onerack.kv.core import KvMachine
from onerack.kv.server.auth import AuthService
from onerack.kv.server.cluster import ClusterService
from onerack.kv.server.compactor import Compactor
from onerack.kv.server.desk import Desk
from onerack.kv.server.door import KvDoor
from onerack.kv.server.election import ElectionService
from onerack.kv.server.grpc import Listener, Stream, Unary, serve
from onerack.kv.server.identity import cluster_id, member_id
from onerack.kv.server.kv import KvService
from onerack.kv.server.lease import LeaseService
from onerack.kv.server.lessor import Lessor
from onerack.kv.server.lock import LockService
from onerack.kv.server.maintenance import MaintenanceService
from onerack.kv.server.tokens import Tokens
from onerack.kv.server.watch import WatchService
from onerack.raft import RaftNode
from onerack.rpc.transports.address import Address

_EVERYWHERE: Final = ("0.0.0.0", "::")


class _Leading:
    """What this node does for the others while it leads."""

    def __init__(self, lessor: Lessor, tokens: Tokens) -> None:
        self.renew = lessor.renew
        self.remaining = lessor.remaining
        self.touch = tokens.touch


class KvServer:
    """Open with `start` when the node has started, end with `close`."""

    def __init__(
        self,
        node: RaftNode,
        machine: KvMachine,
        address: str = "tcp://127.0.0.1:2379",
        *,
        door: KvDoor | None = None,
        advertise: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
        insecure: bool = False,
        config: KvConfig | None = None,
    ) -> None:
        """`machine` is mounted on `node` at commands.KV. `door`: the one whose services the node offers; without it the
        node must be alone in its group. `advertise`: where clients shall connect, if not at `address`.
        """
        self.node = node
        self.machine = machine
        self.config = config or machine.config
        self._address = address
        self._door = door or KvDoor()
        self._advertise = tuple(advertise)
        self._tls = tls
        self._insecure = insecure
        self._listener: Listener | None = None
        self._lessor: Lessor
        self._tokens: Tokens
        self._compactor: Compactor
        self._desk: Desk
        self._watches: WatchService
        self._leases: LeaseService

    @property
    def address(self) -> str:
        """Where it listens; a port that was asked for as 0 is filled in."""
        return self._listener.address if self._listener is not None else self._address

    @property
    def advertised(self) -> tuple[str, ...]:
        """Where clients shall connect. Who listens everywhere is to be found at the host where the others dial it."""
        if self._advertise:
            return self._advertise
        where, known = Address.parse(self.address), self.node.book.address_of(self.node.name)
        if where.host not in _EVERYWHERE or known is None or (dialled := Address.parse(known).host) == "":
            return (self.address,)
        return (str(msgspec.structs.replace(where, host=dialled)),)

    def user_of(self, token: str) -> str | None:
        """Whose token it is, which was used now; nobody's: it is void."""
        return self.machine.auth.user_of(token) if self._listener is None else self._tokens.user_of(token)

    # ------------------------------------------------------------------------------------------------ life

    async def start(self) -> None:
        """Raises: UsageError: the address cannot be listened at, or not like this."""
        node, machine = self.node, self.machine
        machine.cluster_id, machine.member_id = cluster_id(node.cluster), member_id(node.name)
        self._lessor = Lessor(node, machine)
        self._tokens = Tokens(node, machine, self._door, self.config.auth_token_ttl_s)
        self._compactor = Compactor(node, machine, self.config)
        self._desk = Desk(node, machine, self.config, self._door, self._tokens)
        self._door.open(node, _Leading(self._lessor, self._tokens), self.config.request_timeout_s)
        self._watches = WatchService(self._desk)
        self._leases = LeaseService(self._desk)
        try:
            await self._open()
        except BaseException:
            await self._close_services()
            raise

    async def _open(self) -> None:
        cluster = ClusterService(self._desk)
        handlers: dict[str, Unary | Stream] = {}
        for service in (
            KvService(self._desk),
            self._watches,
            self._leases,
            cluster,
            MaintenanceService(self._desk),
            AuthService(self._desk),
            LockService(self._desk, self._watches),
            ElectionService(self._desk, self._watches),
        ):
            handlers.update(service.handlers())
        self._listener = await self._listen(handlers)
        self._desk.spawn(cluster.publish(self.advertised))

    async def _listen(self, handlers: Mapping[str, Unary | Stream]) -> Listener:
        return await serve(handlers, self._address, tls=self._tls, config=self.config, insecure=self._insecure)

    async def close(self, drain_s: float = 0.0) -> None:
        """Takes no more calls. What was begun may go on for `drain_s` seconds. May be called again."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        self._address = listener.address
        if drain_s:
            await listener.close(drain_s)
        await self._close_services()
        await asyncio.sleep(0)  # What was just answered leaves before the connections are closed.
        await listener.close()

    async def _close_services(self) -> None:
        self._watches.close()
        self._leases.close()
        await self._desk.close()
        await self._tokens.close()
        self._lessor.close()
        self._compactor.close()
        await self._door.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
