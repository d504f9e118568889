"""The listener: takes connections on one socket, so many and no more, and looks at the clock for all of them.

The idea: one timer for the whole server, a few times a second, is cheaper than one for each request, and timeouts here
are long enough to be late by that.

The rule: what a stranger does wrong is the stranger's: it ends that connection and is nobody's error here. A process
that has no descriptors left accepts again a moment later.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from contextvars import Context
from typing import Final

from onerack.errors import UsageError
from onerack.kv.server.http2 import frames
from onerack.kv.server.http2.connection import Connection
from onerack.kv.server.http2.limits import Limits
from onerack.kv.server.http2.receiving import ServerBudget
from onerack.kv.server.http2.streams import Application
from onerack.rpc.link import Peer
from onerack.rpc.transports.address import Address
from onerack.rpc.transports.sockets import address_of, bind, check_exposure, shake_hands
from onerack.rpc.transports.tls import check_context, peer_of
from onerack.rpc.transports.tls_wire import TlsWire
from onerack.rpc.transports.wire import SocketWire, Wire

_ACCEPTS_MAX: Final = 64
"""Accepted in a row, before those who are connected get their turn."""
_PAUSE_S: Final = 0.1
_NO_ROOM: Final = frames.settings({}) + frames.goaway(0, frames.ENHANCE_YOUR_CALM, "too many connections")


async def listen(
    address: Address | str,
    application: Application,
    *,
    limits: Limits,
    connections_max: int,
    streams_max: int,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
) -> Listener:
    """Takes connections from now on. To a TLS context "h2" is added as what we speak (ALPN).

    Raises: UsageError: the address cannot be listened at, or not like this.
    """
    address = Address.parse(address) if isinstance(address, str) else address
    if address.scheme not in ("tcp", "tls"):
        raise UsageError(f"{address}: gRPC is served at tcp://host:port or tls://host:port")
    context = None
    if address.scheme == "tls":
        context = check_context(tls, str(address), is_server=True)
        context.set_alpn_protocols(["h2"])
    check_exposure(address, insecure)
    listening = await bind(address)
    taken = Address(address.scheme, address.host, listening.getsockname()[1])
    return Listener(listening, taken, application, limits, connections_max, streams_max, context)


class Listener:
    """Open from the start."""

    def __init__(
        self,
        listening: socket.socket,
        address: Address,
        application: Application,
        limits: Limits,
        connections_max: int,
        streams_max: int,
        context: ssl.SSLContext | None,
    ) -> None:
        self.address = str(address)
        """Where it listens, with the scheme; a port that was asked for as 0 is filled in."""
        self.connections: set[Connection] = set()
        self._socket = listening
        self._address = address
        self._application = application
        self._limits = limits
        self._connections_max = connections_max
        self._streams_max = streams_max
        self._context = context
        self._budget = ServerBudget()
        self._loop = asyncio.get_running_loop()
        self._shaking: set[asyncio.Task[None]] = set()
        self._is_open = True
        self._empty = asyncio.Event()
        self._pause: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        self._watch()
        self._timer = self._loop.call_later(limits.tick_s, self._tick, context=Context())

    async def close(self, drain_s: float = 0.0) -> None:
        """Takes no more connections. What clients have begun may go on for `drain_s` seconds; then it is cancelled."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._socket)
            if self._pause is not None:
                self._pause.cancel()
            self._socket.close()
            for task in self._shaking:
                task.cancel()
        await asyncio.gather(*self._shaking, return_exceptions=True)
        if drain_s > 0:
            for connection in list(self.connections):
                connection.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(drain_s):
                    await self._until_empty()
        for connection in list(self.connections):
            connection.close()
        await self._until_empty()
        self._timer.cancel()

    async def _until_empty(self) -> None:
        while self.connections:
            self._empty.clear()
            await self._empty.wait()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._limits.tick_s, self._tick)
        now = self._loop.time()
        for connection in list(self.connections):
            connection.tick(now)

    def _watch(self) -> None:
        self._pause = None
        Context().run(self._loop.add_reader, self._socket, self._accept_some)

    def _accept_some(self) -> None:
        for _ in range(_ACCEPTS_MAX):
            try:
                connected, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                # No descriptors, no memory, no network: all of them may be there again in a moment.
                self._loop.remove_reader(self._socket)
                self._pause = self._loop.call_later(_PAUSE_S, self._watch)
                return
            self._take(connected)

    def _take(self, connected: socket.socket) -> None:
        if len(self.connections) + len(self._shaking) >= self._connections_max:
            with contextlib.suppress(OSError):  # If it cannot be told why, it will see that it is closed.
                connected.setblocking(False)
                if self._context is None:
                    connected.send(_NO_ROOM)
            connected.close()
            return
        peer_address = address_of(connected, self._address)
        if self._context is None:
            self._connect(SocketWire(self._loop, connected), Peer(peer_address))
            return
        shaking = self._shake_hands(connected, self._context, peer_address)
        task = self._loop.create_task(shaking, context=Context())
        self._shaking.add(task)
        task.add_done_callback(self._shaking.discard)

    async def _shake_hands(self, connected: socket.socket, context: ssl.SSLContext, peer_address: str) -> None:
        wire = TlsWire(self._loop, connected, context, None)
        try:
            async with asyncio.timeout(self._limits.preface_timeout_s):
                await shake_hands(wire)
        except OSError:
            return
        self._connect(wire, peer_of(wire.certificate, peer_address))

    def _connect(self, wire: Wire, peer: Peer) -> None:
        connection = Connection(
            wire,
            peer,
            self._application,
            limits=self._limits,
            streams_max=self._streams_max,
            budget=self._budget,
            forget_me=self._forget,
        )
        self.connections.add(connection)
        connection.start()

    def _forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()
