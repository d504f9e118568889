"""The listener: takes connections on one socket, so many and no more.

The idea: we accept ourselves, so that the limit on connections holds also for those that are still shaking hands. One
that comes when there is no room is taken all the same, told so by a Notice, and closed; so are only a few at once, the
rest are closed without a word.

The rule: what a stranger does wrong is the stranger's: it ends that connection and is nobody's error here. A process
that has no descriptors left accepts again a moment later.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Final

from onerack.config import RpcConfig
from onerack.rpc.link import Accept, Arrival, Link, Owner, Peer
from onerack.rpc.messages import Notice
from onerack.rpc.transports import unix
from onerack.rpc.transports.address import Address
from onerack.rpc.transports.budget import Budget
from onerack.rpc.transports.sockets import BACKLOG, address_of, bind, check_exposure, link_over, shake_hands
from onerack.rpc.transports.tls import check_context, peer_of
from onerack.rpc.transports.tls_wire import TlsWire
from onerack.rpc.transports.wire import SocketWire, Wire

_ACCEPTS_MAX: Final = 64
"""Accepted in a row, before those who are connected get their turn."""
_REFUSALS_MAX: Final = 64
_PAUSE_S: Final = 0.1


async def listen(
    address: Address,
    accept: Accept,
    *,
    config: RpcConfig,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
    budget: Budget | None = None,
) -> SocketListener:
    """Takes connections from now on.

    Raises: UsageError: the address cannot be listened at, or not like this.
    """
    context = check_context(tls, str(address), is_server=True) if address.scheme == "tls" else None
    check_exposure(address, insecure)
    if address.scheme == "unix":
        file = unix.listen(address.path, BACKLOG)
        return SocketListener(file.listening, address, accept, config, context, budget, file.remove)
    listening = await bind(address)
    taken = Address(address.scheme, address.host, listening.getsockname()[1])
    return SocketListener(listening, taken, accept, config, context, budget, lambda: None)


class SocketListener:
    """Open from the start."""

    def __init__(
        self,
        listening: socket.socket,
        address: Address,
        accept: Accept,
        config: RpcConfig,
        context: ssl.SSLContext | None,
        budget: Budget | None,
        remove_file: Callable[[], None],
    ) -> None:
        self.address = str(address)
        self._socket = listening
        self._address = address
        self._accept = accept
        self._config = config
        self._context = context
        self._budget = budget or Budget(config)
        self._remove_file = remove_file
        self._loop = asyncio.get_running_loop()
        self._links: set[Link] = set()
        self._shaking: set[asyncio.Task[None]] = set()
        self._taken = 0
        self._refused = 0
        """Connections that are there, those that shake hands included."""
        self._pause: asyncio.TimerHandle | None = None
        self._is_open = True
        self._empty = asyncio.Event()
        listening.setblocking(False)
        self._watch()

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._socket)
            if self._pause is not None:
                self._pause.cancel()
            self._socket.close()
            self._remove_file()
            for task in self._shaking:
                task.cancel()
            for link in list(self._links):
                link.close("the server has stopped")
        await asyncio.gather(*self._shaking, return_exceptions=True)
        while self._links:
            self._empty.clear()
            await self._empty.wait()

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
        is_refused = self._taken >= self._config.connections_max
        if is_refused and self._refused >= _REFUSALS_MAX:
            connected.close()
            return
        self._count(is_refused, 1)
        peer_address = address_of(connected, self._address)
        if self._context is None:
            self._link(SocketWire(self._loop, connected), Peer(peer_address), is_refused)
            return
        shaking = self._shake_hands(connected, self._context, peer_address, is_refused)
        task = self._loop.create_task(shaking, context=Context())
        self._shaking.add(task)
        task.add_done_callback(self._shaking.discard)

    async def _shake_hands(
        self, connected: socket.socket, context: ssl.SSLContext, peer_address: str, is_refused: bool
    ) -> None:
        wire = TlsWire(self._loop, connected, context, None)
        try:
            async with asyncio.timeout(self._config.hello_timeout_s):
                await shake_hands(wire)
        except OSError:
            self._count(is_refused, -1)
            return
        self._link(wire, peer_of(wire.certificate, peer_address), is_refused)

    def _link(self, wire: Wire, peer: Peer, is_refused: bool) -> None:
        def forget(link: Link) -> None:
            self._links.discard(link)
            self._count(is_refused, -1)
            self._empty.set()

        accept = self._refuse if is_refused else self._accept
        try:
            link = link_over(wire, peer, accept, side="server", config=self._config, budget=self._budget, forget=forget)
        except BaseException:
            self._count(is_refused, -1)
            raise
        self._links.add(link)

    def _count(self, is_refused: bool, step: int) -> None:
        self._refused += step * is_refused
        self._taken += step * (not is_refused)

    def _refuse(self, link: Link) -> Owner:
        limit = self._config.connections_max
        link.send(Notice("overloaded", f"this server has {limit} connections, and takes no more"))
        link.close("no room")
        return _Nobody()


class _Nobody:
    """Owns a link that is about to end."""

    def received(self, link: Link, arrivals: Sequence[Arrival]) -> None: ...

    def lost(self, link: Link, reason: str) -> None: ...
