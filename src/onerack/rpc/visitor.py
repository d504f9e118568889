"""Visitors: one link of a server, from the greeting to its end.

The idea: until a peer has introduced itself, and its protocol, cluster and interface fit, nothing that it says reaches
the core. The rule: a refusal names both sides' view and the first difference; a peer that says nothing is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from onerack.config import RpcConfig
from onerack.errors import ProtocolError
from onerack.rpc.core.server import ServerCore
from onerack.rpc.interface import Interface
from onerack.rpc.link import Arrival, Link
from onerack.rpc.messages import (
    PROTOCOL_VERSION,
    UNANSWERED,
    Credit,
    Hello,
    Notice,
    Refused,
    Request,
    StreamEnd,
    StreamItem,
    Welcome,
)
from onerack.rpc.schema import decode_schema, first_incompatibility
from onerack.rpc.streams import Reader, Writer


class House(Protocol):
    """What a visitor needs of the server that it visits."""

    config: RpcConfig
    cluster: str
    stopping: bool
    refused: int
    free: frozenset[int]
    interfaces: dict[str, Interface]
    streams: dict[tuple[str, int], tuple[Reader[Any] | None, Writer | None]]
    core: ServerCore

    def welcome(self) -> Welcome: ...

    def hear(self, request: Request, attachment: Any, link: Link) -> bool: ...

    def request(self, request: Request, attachment: Any, link: Link, now: float) -> None: ...

    def turn(self) -> None: ...

    def leave(self, link: Link) -> None: ...


class Visitor:
    """The owner of one link."""

    def __init__(self, server: House, link: Link, lost: Callable[[str], None] | None = None) -> None:
        """`lost`: told why the link has ended, once it has."""
        self.link = link
        self._server = server
        self._lost = lost
        self._welcomed = False
        self.window_bytes = 0
        """How much of a stream the client takes unread."""
        self.open_streams = 0
        self._loop = asyncio.get_running_loop()
        self._patience = self._loop.call_later(server.config.hello_timeout_s, self._no_hello)

    def received(self, link: Link, arrivals: Sequence[Arrival]) -> None:
        server = self._server
        now = self._loop.time()
        # `step` would look up what we know: which handler a Request goes to.
        on_request, name = server.core.on_request, link.name
        free = server.free
        is_turn_due = False
        try:
            for message, attachment in arrivals:
                if type(message) is Request and self._welcomed:
                    if message.call == UNANSWERED and server.hear(message, attachment, link):
                        continue
                    if message.method in free:
                        on_request(message, name, now, attachment)
                    else:
                        server.request(message, attachment, link, now)
                else:
                    self._receive(message, now)
                is_turn_due = True
        except ProtocolError as error:
            self._send_away("contract", str(error))
        if is_turn_due:
            server.turn()

    def lost(self, link: Link, reason: str) -> None:
        self._patience.cancel()
        self._server.leave(link)
        if self._lost is not None:
            self._lost(reason)

    def _receive(self, message: Any, now: float) -> None:
        if not self._welcomed:
            if not isinstance(message, Hello):
                raise ProtocolError(f"the first message must be Hello, not {type(message).__name__}")
            self._greet(message)
            return
        match message:
            case StreamItem(call, item):
                reader, _ = self._server.streams.get((self.link.name, call), (None, None))
                if reader is not None:
                    reader.arrived(item)
            case StreamEnd(call):
                reader, _ = self._server.streams.get((self.link.name, call), (None, None))
                if reader is not None:
                    reader.end()
            case Credit(call, count):
                _, writer = self._server.streams.get((self.link.name, call), (None, None))
                if writer is not None:
                    writer.granted(count)
            case Hello():
                raise ProtocolError("a second Hello on one connection")
            case Notice(cause, words):
                self.link.close(f"the client says {cause}: {words}")
            case _:
                self._server.core.step(message, self.link.name, now)

    # ------------------------------------------------------------------------------------------------ the greeting

    def _greet(self, hello: Hello) -> None:
        self._patience.cancel()
        refused = self._refusal(hello)
        if refused is not None:
            self._server.refused += 1
            self.link.send(refused)
            self.link.flush()
            self.link.close(refused.message)
            return
        self._welcomed = True
        self.window_bytes = hello.stream_window
        self.link.send(self._server.welcome())
        self.link.flush()

    def _refusal(self, hello: Hello) -> Refused | None:
        server = self._server
        if hello.protocol != PROTOCOL_VERSION:
            words = f"the client speaks version {hello.protocol} of the protocol, the server {PROTOCOL_VERSION}"
            return Refused("protocol", words)
        if hello.cluster and hello.cluster != server.cluster:
            return Refused("cluster", f"this server belongs to cluster {server.cluster!r}, not {hello.cluster!r}")
        if server.stopping:
            return Refused("stopping", "the server is stopping")
        if not 0 < hello.stream_window < 1 << 40:
            return Refused("malformed", f"a stream cannot have a window of {hello.stream_window} bytes")
        if not hello.service:
            return None
        interface = server.interfaces.get(hello.service)
        if interface is None:
            served = ", ".join(name for name in server.interfaces if not name.startswith("onerack.")) or "none"
            return Refused("service", f"there is no service {hello.service!r} here; served are: {served}")
        if hello.schema_hash == interface.schema_hash:
            return None
        try:
            difference = first_incompatibility(decode_schema(hello.schema), interface.schema)
        except (msgspec.DecodeError, RecursionError) as error:
            return Refused("malformed", f"the client's schema cannot be read: {error}")
        if difference is None:
            return None
        both = f"client {hello.schema_hash[:64]}, server {interface.schema_hash}"
        return Refused("schema", f"the interfaces do not fit ({both}): {difference}")

    def _no_hello(self) -> None:
        self._send_away("hello", "no Hello came in time")

    def _send_away(self, cause: str, words: str) -> None:
        self._server.refused += 1
        self.link.send(Notice(cause, words))
        self.link.flush()
        self.link.close(words)
