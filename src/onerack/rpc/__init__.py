"""RPC: calls that say what a failure means. Methods declare delivery semantics; outcomes say whether the call ran.

    class Account(Protocol):
        async def charge(self, user: str, cents: int) -> Receipt: ...        # at most once, as long as nothing is said

    server = await serve(Account, Bank(), "tcp://127.0.0.1:7700")
    async with await connect(Account, "tcp://127.0.0.1:7700") as account:
        await account.charge("ann", 5)

The rule: names are looked up when they are first used, because a worker that only calls needs no server, and a command
that only prints its help needs neither.

Source: Birrell & Nelson, "Implementing Remote Procedure Calls", ACM TOCS 1984; Lee et al., RIFL, SOSP 2015.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onerack.errors import (
        ApplicationError,
        BindingRefused,
        CallError,
        NotExecuted,
        Overloaded,
        ProtocolError,
        Unknown,
        UsageError,
    )
    from onerack.rpc.attachment import Attachment
    from onerack.rpc.builtin import Health, Reflection
    from onerack.rpc.client import Client, connect
    from onerack.rpc.context import CurrentCall, current, options
    from onerack.rpc.durable.host import DurableHost, Machine
    from onerack.rpc.durable.log import LocalLog
    from onerack.rpc.link import Peer
    from onerack.rpc.messages import Mode
    from onerack.rpc.modes import at_least_once, at_most_once, exactly_once, readonly, service
    from onerack.rpc.resolver import FileResolver, Resolver, StaticResolver
    from onerack.rpc.server import Server, serve
    from onerack.rpc.stub import OutgoingCall

_ROOMS = {
    "onerack.errors": (
        "ApplicationError", "BindingRefused", "CallError", "NotExecuted", "Overloaded", "ProtocolError", "Unknown",
        "UsageError",
    ),
    "onerack.rpc.attachment": ("Attachment",),
    "onerack.rpc.builtin": ("Health", "Reflection"),
    "onerack.rpc.client": ("Client", "connect"),
    "onerack.rpc.context": ("CurrentCall", "current", "options"),
    "onerack.rpc.durable.host": ("DurableHost", "Machine"),
    "onerack.rpc.durable.log": ("LocalLog",),
    "onerack.rpc.link": ("Peer",),
    "onerack.rpc.messages": ("Mode",),
    "onerack.rpc.modes": ("at_least_once", "at_most_once", "exactly_once", "readonly", "service"),
    "onerack.rpc.resolver": ("FileResolver", "Resolver", "StaticResolver"),
    "onerack.rpc.server": ("Server", "serve"),
    "onerack.rpc.stub": ("OutgoingCall",),
}  # fmt: skip
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "ApplicationError",
    "Attachment",
    "BindingRefused",
    "CallError",
    "Client",
    "CurrentCall",
    "DurableHost",
    "FileResolver",
    "Health",
    "LocalLog",
    "Machine",
    "Mode",
    "NotExecuted",
    "OutgoingCall",
    "Overloaded",
    "Peer",
    "ProtocolError",
    "Reflection",
    "Resolver",
    "Server",
    "StaticResolver",
    "Unknown",
    "UsageError",
    "at_least_once",
    "at_most_once",
    "connect",
    "current",
    "exactly_once",
    "options",
    "readonly",
    "serve",
    "service",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
