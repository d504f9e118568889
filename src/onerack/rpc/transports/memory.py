"""Memory: links within one process, `memory://name`.

The idea: the same connection as over a socket, limits, pieces, keepalive and all, over a wire that hands bytes to the
other end in the loop's next turn. So a test over memory says something about the network too, and nobody shares an
object with the other side.

The rule: a name belongs to the event loop in which it was listened at. What was written is copied at once; a wire whose
reader does not read takes so much and no more, as a socket does.
"""

from __future__ import annotations

import asyncio
import ssl
import weakref
from collections.abc import Sequence
from contextvars import Context
from typing import Final

from onerack.config import MIB, RpcConfig
from onerack.errors import UsageError
from onerack.rpc.link import Accept, Buffer, Link, Owner, Peer
from onerack.rpc.transports.address import Address
from onerack.rpc.transports.budget import Budget
from onerack.rpc.transports.sockets import link_over
from onerack.rpc.transports.wire import Reader

_PIPE_BYTES: Final = MIB
"""What lies between two ends, about; then the writer waits."""
_PEER: Final = Peer("memory")
_LISTENERS: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, MemoryListener]]] = (
    weakref.WeakKeyDictionary()
)


class MemoryWire:
    """One end of a pipe in each direction."""

    hint = ""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = Context()
        self._other: MemoryWire | None = None
        self._reader: Reader | None = None
        self._incoming = bytearray()
        self._is_reading = False
        self._is_finished = False
        """Nothing more comes."""
        self._is_full = False
        """The writer was told to wait."""
        self._is_over = False
        self._will_deliver = False

    @classmethod
    def pair(cls, loop: asyncio.AbstractEventLoop) -> tuple[MemoryWire, MemoryWire]:
        one, other = cls(loop), cls(loop)
        one._other, other._other = other, one
        return one, other

    def start(self, reader: Reader) -> None:
        self._reader = reader
        self.resume_reading()

    def write(self, parts: Sequence[Buffer]) -> bool:
        other = self._other
        if other is None or self._is_over:
            return False
        for part in parts:
            other._incoming += part
        other._deliver_soon()
        other._is_full = len(other._incoming) > _PIPE_BYTES
        return not other._is_full

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        self._deliver_soon()

    def look(self) -> None: ...

    def finish(self) -> None:
        if self._other is not None:
            self._other._is_finished = True
            self._other._deliver_soon()

    def abort(self) -> None:
        self._end_soon()

    def _deliver_soon(self) -> None:
        if not self._will_deliver and not self._is_over:
            self._will_deliver = True
            self._loop.call_soon(self._deliver, context=self._context)

    def _deliver(self) -> None:
        self._will_deliver = False
        if self._is_over or not self._is_reading or self._reader is None:
            return
        arrived = memoryview(bytes(self._incoming))
        self._incoming.clear()
        while arrived and self._is_reading and not self._is_over:
            space = self._reader.space()
            size = min(len(space), len(arrived))
            space[:size] = arrived[:size]
            arrived = arrived[size:]
            self._reader.arrived(size)
        self._incoming[:0] = arrived
        if self._is_full and len(self._incoming) <= _PIPE_BYTES and self._other is not None:
            self._is_full = False
            self._loop.call_soon(self._other._tell_writable, context=self._other._context)
        if self._is_finished and not self._incoming:
            self._end_soon()

    def _tell_writable(self) -> None:
        if self._reader is not None and not self._is_over:
            self._reader.writable()

    def _end_soon(self) -> None:
        if not self._is_over:
            self._is_over = True
            self.finish()
            self._loop.call_soon(self._tell_end, context=self._context)

    def _tell_end(self) -> None:
        reader, self._reader, self._other = self._reader, None, None
        self._incoming.clear()
        if reader is not None:
            reader.ended(None)


class MemoryListener:
    """A name in this loop's registry."""

    def __init__(self, address: Address, accept: Accept, config: RpcConfig) -> None:
        self.address = str(address)
        self._name = address.host
        self._accept = accept
        self._config = config
        self._budget = Budget(config)
        self._links: set[Link] = set()
        self._connections = 0
        self._empty = asyncio.Event()
        self._registry = _registry()
        self._registry[self._name] = self

    def connect(self, owner: Owner, config: RpcConfig) -> Link:
        if len(self._links) >= self._config.connections_max:
            raise ConnectionError(f"{self.address}: overloaded: there are {self._config.connections_max} connections")
        near, far = MemoryWire.pair(asyncio.get_running_loop())
        # Counted here, so that a simulation gives the same names each time.
        self._connections += 1
        name = f"{self.address}#{self._connections}"
        server = link_over(
            far, _PEER, self._accept, side="server", config=self._config, budget=self._budget, forget=self._forget,
            name=f"{name}:server",
        )  # fmt: skip
        self._links.add(server)
        return link_over(
            near, _PEER, lambda _link: owner, side="client", config=config, budget=Budget(config), name=f"{name}:client"
        )

    async def close(self) -> None:
        if self._registry.get(self._name) is self:
            del self._registry[self._name]
            for link in list(self._links):
                link.close("the server has stopped")
        while self._links:
            self._empty.clear()
            await self._empty.wait()

    def _forget(self, link: Link) -> None:
        self._links.discard(link)
        self._empty.set()


async def listen(
    address: Address,
    accept: Accept,
    *,
    config: RpcConfig,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
) -> MemoryListener:
    """Raises: UsageError: the name is taken."""
    if address.host in _registry():
        raise UsageError(f"{address}: somebody listens there already")
    return MemoryListener(address, accept, config)


async def dial(
    address: Address,
    owner: Owner,
    *,
    config: RpcConfig,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
) -> Link:
    """Raises: ConnectionError: nobody listens there."""
    listener = _registry().get(address.host)
    if listener is None:
        raise ConnectionError(f"{address}: nobody listens there in this event loop")
    return listener.connect(owner, config)


def _registry() -> dict[str, MemoryListener]:
    return _LISTENERS.setdefault(asyncio.get_running_loop(), {})
