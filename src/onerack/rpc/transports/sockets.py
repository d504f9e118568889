"""Sockets: tcp, tls and unix addresses, and sockets that are connected already.

The idea: whatever the address, in the end there is a connected stream socket and a connection on it.

The rules: what a wire shows to everybody stays on this machine, unless the caller writes insecure=True. A connection
that cannot be made is a ConnectionError that names the address and the reason.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from onerack.config import RpcConfig
from onerack.errors import UsageError
from onerack.rpc.link import Accept, Link, Owner, Peer
from onerack.rpc.transports.address import Address, host_and_port
from onerack.rpc.transports.budget import Budget
from onerack.rpc.transports.connection import Connection
from onerack.rpc.transports.frames import Side
from onerack.rpc.transports.tls import check_context, peer_of
from onerack.rpc.transports.tls_wire import TlsWire
from onerack.rpc.transports.wire import SocketWire, Wire, words_of

BACKLOG: Final = 1024
"""Connections that the kernel may hold until they are accepted."""
_QUEUE_PAUSE_S: Final = 0.01
_NUMBERS: Final = itertools.count(1)


def attach(
    connected: socket.socket,
    accept: Accept,
    *,
    side: Side,
    config: RpcConfig,
    budget: Budget | None = None,
    identity: str = "",
) -> Link:
    """A link over a connected stream socket, for instance one end of a socketpair between parent and child.

    The socket belongs to the link from now on. `side`: which end this is. `identity`: the peer's, which the caller
    knows. The peer may be silent at first for as long as it answers Pings, or reads nothing because it has not started
    yet: then the keepalive decides.
    """
    wire = SocketWire(asyncio.get_running_loop(), connected)
    peer = Peer("socket", identity)
    return link_over(
        wire, peer, accept, side=side, config=config, budget=budget or Budget(config), must_introduce=False
    )


def link_over(
    wire: Wire,
    peer: Peer,
    accept: Accept,
    *,
    side: Side,
    config: RpcConfig,
    budget: Budget,
    must_introduce: bool = True,
    forget: Callable[[Link], None] | None = None,
    name: str = "",
) -> Link:
    """A connection over a wire that nobody else uses. `forget` is called when the link is lost."""
    try:
        name = name or f"{peer.address}#{next(_NUMBERS)}"
        link = Connection(name, peer, side, config=config, budget=budget, must_introduce=must_introduce)
        link.start(wire, accept(link), forget)
    except BaseException:
        wire.abort()
        raise
    return link


async def dial(
    address: Address,
    owner: Owner,
    *,
    config: RpcConfig,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
    budget: Budget | None = None,
) -> Link:
    """Connects. `owner` may hear of the link as soon as this coroutine's caller goes on.

    Raises: UsageError: nothing was tried. ConnectionError: it was, and the link does not exist.
    """
    context = check_context(tls, str(address), is_server=False) if address.scheme == "tls" else None
    check_exposure(address, insecure)
    try:
        async with asyncio.timeout(config.connect_timeout_s):
            connected = await _connect(address)
            peer_address = address_of(connected, address)
            if context is None:
                wire: Wire = SocketWire(asyncio.get_running_loop(), connected)
                peer = Peer(peer_address)
            else:
                wire = tls_wire = TlsWire(asyncio.get_running_loop(), connected, context, address.host)
                await shake_hands(tls_wire)
                peer = peer_of(tls_wire.certificate, peer_address)
        return link_over(wire, peer, lambda _link: owner, side="client", config=config, budget=budget or Budget(config))
    except TimeoutError:
        raise ConnectionError(f"{address}: no connection within {config.connect_timeout_s:g} s") from None
    except OSError as error:
        raise ConnectionError(f"{address}: {words_of(error)}") from error


async def _connect(address: Address) -> socket.socket:
    if address.scheme == "unix":
        return await _connect_to_file(address.path)
    failure: OSError = OSError("the name has no address")
    for family, _, _, _, where in await resolve(address):
        try:
            return await _connect_to(family, where)
        except OSError as error:
            failure = error
    raise failure


async def _connect_to_file(path: str) -> socket.socket:
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        while True:
            try:
                connecting.connect(path)
            except BlockingIOError:
                # The listener's queue is full. An event loop would take this for "soon", and then for "connected".
                await asyncio.sleep(_QUEUE_PAUSE_S)
            else:
                return connecting
    except BaseException:
        connecting.close()
        raise


async def _connect_to(family: int, where: Any) -> socket.socket:
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connecting, where)
    except BaseException:
        connecting.close()
        raise
    return connecting


async def bind(address: Address) -> socket.socket:
    """A socket that listens there. Raises: UsageError: it cannot be."""
    try:
        family, _, _, _, where = (await resolve(address))[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"{address}: {error.strerror or error}") from error
    try:
        # A server that was restarted need not wait until the last connections of its former life are forgotten.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise UsageError(f"{address}: cannot listen there: {error.strerror or error}") from error
    return listening


async def resolve(address: Address) -> list[tuple[Any, ...]]:
    """Where a name leads; an IP address without asking anybody."""
    try:
        return list(
            socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        )
    except socket.gaierror:
        loop = asyncio.get_running_loop()
        return list(await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))


async def shake_hands(wire: TlsWire) -> None:
    """Raises: OSError: it has failed, and the socket is closed."""
    try:
        await wire.shake_hands()
    except BaseException:
        wire.abort()
        raise


def check_exposure(address: Address, insecure: bool) -> None:
    """Raises: UsageError: plain tcp that leaves this machine, and nobody has said that this is meant."""
    if address.scheme == "tcp" and not address.is_loopback and not insecure:
        raise UsageError(
            f"{address} leaves this machine, and tcp:// neither encrypts nor knows its peers: "
            f"use tls://{host_and_port(address.host, address.port)} with tls=, or write insecure=True"
        )


def address_of(connected: socket.socket, address: Address) -> str:
    """The other end's address, for people."""
    if address.scheme == "unix":
        return f"unix:{address.path}"
    try:
        host, port = connected.getpeername()[:2]
    except OSError:
        return str(address)  # It is gone already; reading will say so.
    return host_and_port(host, port)
