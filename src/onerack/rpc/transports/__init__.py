"""Transports: links by address, whatever carries them.

    listen, dial     by the address's scheme: tcp, tls, unix, memory, and what is registered
    attach           over a socket that is connected already
    register         a scheme of one's own, for as long as a block lasts: the simulator's sim://

The rule: nothing above this room knows what carries a link, and nothing in it knows what a call is.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from onerack.config import RpcConfig
from onerack.errors import UsageError
from onerack.rpc.link import Accept, Link, Listener, Owner
from onerack.rpc.transports import listener, memory, sockets
from onerack.rpc.transports.address import Address
from onerack.rpc.transports.sockets import attach

__all__ = ["Address", "Transport", "attach", "dial", "listen", "parse_address", "register"]

parse_address = Address.parse


class Transport(Protocol):
    """What serves the addresses of a scheme."""

    async def listen(
        self,
        address: Address,
        accept: Accept,
        *,
        config: RpcConfig,
        tls: ssl.SSLContext | None = None,
        insecure: bool = False,
    ) -> Listener: ...

    async def dial(
        self,
        address: Address,
        owner: Owner,
        *,
        config: RpcConfig,
        tls: ssl.SSLContext | None = None,
        insecure: bool = False,
    ) -> Link: ...


class _Sockets:
    listen = staticmethod(listener.listen)
    dial = staticmethod(sockets.dial)


class _Memory:
    listen = staticmethod(memory.listen)
    dial = staticmethod(memory.dial)


_TRANSPORTS: Final[dict[str, Transport]] = {
    "tcp": _Sockets(), "tls": _Sockets(), "unix": _Sockets(), "memory": _Memory(),
}  # fmt: skip


async def listen(
    address: Address | str,
    accept: Accept,
    *,
    config: RpcConfig,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
) -> Listener:
    """Takes links at an address. Raises: UsageError: one cannot listen there, or not like this."""
    address, transport = _transport_of(address)
    return await transport.listen(address, accept, config=config, tls=tls, insecure=insecure)


async def dial(
    address: Address | str,
    owner: Owner,
    *,
    config: RpcConfig,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
) -> Link:
    """A link to whoever listens at an address.

    Raises: UsageError: nothing was tried. ConnectionError: there is no link, and no owner hears of one.
    """
    address, transport = _transport_of(address)
    return await transport.dial(address, owner, config=config, tls=tls, insecure=insecure)


@contextmanager
def register(scheme: str, transport: Transport) -> Iterator[None]:
    """Addresses of this scheme belong to `transport` while the block lasts, in the whole process."""
    before = _TRANSPORTS.get(scheme)
    _TRANSPORTS[scheme] = transport
    try:
        yield
    finally:
        if before is None:
            del _TRANSPORTS[scheme]
        else:
            _TRANSPORTS[scheme] = before


def _transport_of(address: Address | str) -> tuple[Address, Transport]:
    parsed = Address.parse(address) if isinstance(address, str) else address
    transport = _TRANSPORTS.get(parsed.scheme)
    if transport is None:
        if parsed.scheme == "name":
            raise UsageError(f"{parsed} is a service's name; it must be resolved into an address first")
        raise UsageError(f"{parsed}: nothing serves {parsed.scheme}:// here; it exists only inside a simulation")
    return parsed, transport
