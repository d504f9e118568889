"""gRPC over HTTP/2: calls in callback style, for handlers that answer now or later and never block.

    head of a request   :path says the method; timeout, encoding and metadata come with it       grpc_head.py
    call                messages in, messages and a status out                                   grpc_call.py

The idea: a unary handler is called inside the callback that has read the request, and what it answers there leaves in
the same write as the answers to all other requests of that read. The head comes from a cache, the message is one slice.

The rule: a handler's error ends its call, nobody else's. Source: the gRPC protocol over HTTP/2 (PROTOCOL-HTTP2.md).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from onerack.config import KIB, KvConfig
from onerack.kv.server.grpc_call import HEADERS_BLOCK, Call, StreamReceiver, from_bytes
from onerack.kv.server.grpc_head import Head, Kind, Refusal, head_reader
from onerack.kv.server.grpc_status import INTERNAL
from onerack.kv.server.http2.limits import Limits
from onerack.kv.server.http2.listener import Listener, listen
from onerack.kv.server.http2.streams import Application, Carrier
from onerack.rpc.transports.address import Address

OVERHEAD_BYTES: Final = 512 * KIB
"""A message may be longer than a request by this: it has other fields, too."""


class Unary(msgspec.Struct, frozen=True):
    """One message in, one out. Called inside the read callback; answers now or later."""

    handler: Callable[[Call, bytes], None]


class Stream(msgspec.Struct, frozen=True):
    """Any number of messages, both ways. Called when the call begins."""

    handler: Callable[[Call], StreamReceiver]


class UnaryCall(Call):
    """Keeps the message until the client has ended its side."""

    __slots__ = ("_body",)

    def __init__(self, connection: Carrier, stream_id: int, head: Head) -> None:
        Call.__init__(self, connection, stream_id, head)
        self._body: bytes | None = None

    def take(self, buffer: bytes, start: int, stop: int, is_last: bool) -> None:
        if (
            is_last
            and self.partial is None
            and self._body is None
            and stop - start >= 5
            and not buffer[start]
            and from_bytes(buffer[start + 1 : start + 5], "big") == stop - start - 5 <= self.head.message_bytes_max
        ):
            body = buffer[start + 5 : stop]
        else:
            whole = self._take_slowly(buffer, start, stop, is_last)
            if whole is None:
                return
            body = whole
        self.connection.note_message()
        try:
            self.head.handler(self, body)
        except Exception as error:
            self.report(error)

    def _take_slowly(self, buffer: bytes, start: int, stop: int, is_last: bool) -> bytes | None:
        if not self.is_open:
            return None
        try:
            found = self.messages(buffer, start, stop, len(self._body) if self._body is not None else 0)
        except Refusal as refusal:
            self.fail(refusal.code, refusal.text)
            return None
        if found and self._body is None:
            self._body = found.pop(0)
            self.hold(len(self._body) + self.held_bytes)
        if found or (is_last and (self._body is None or self.partial is not None)):
            self.fail(INTERNAL, f"{self.path} takes one message, whole")
            return None
        if not is_last:
            return None
        body = self._body
        self.drop_partial()
        return body

    def drop_partial(self) -> None:
        Call.drop_partial(self)
        self._body = None


class StreamCall(Call):
    """Gives each message to its receiver."""

    __slots__ = ("_receiver",)

    _receiver: StreamReceiver | None

    def begin(self) -> None:
        self._receiver = None
        self._receiver = self.guard(self.head.handler, self)  # type: ignore[assignment]

    def take(self, buffer: bytes, start: int, stop: int, is_last: bool) -> None:
        receiver = self._receiver
        if receiver is None or not self.is_open:
            return
        try:
            for body in self.messages(buffer, start, stop):
                if self._is_over():
                    return
                self.connection.note_message()
                receiver.message(body)
            if is_last and not self._is_over():
                if self.partial is not None:
                    raise Refusal(INTERNAL, "the stream has ended inside a message")
                receiver.half_closed()
        except Refusal as refusal:
            self.fail(refusal.code, refusal.text)
            self.guard(receiver.cancelled)
        except Exception as error:
            self.report(error)

    def _is_over(self) -> bool:
        """The receiver may have ended it meanwhile."""
        return not self.is_open

    def cancelled(self) -> None:
        Call.cancelled(self)
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            self.guard(receiver.cancelled)


class RefusedCall(Call):
    """Nobody here answers it."""

    __slots__ = ()

    def begin(self) -> None:
        refusal = self.head.refusal
        assert refusal is not None
        self.end(refusal)


_CALLS: Final[dict[Kind, type[Call]]] = {"unary": UnaryCall, "stream": StreamCall, "refused": RefusedCall}


class _Service:
    """The application on our HTTP/2 connections."""

    def __init__(self, handlers: Mapping[str, Unary | Stream], message_bytes_max: int) -> None:
        routes: dict[str, tuple[Kind, Callable[..., Any]]] = {
            path: ("unary" if isinstance(entry, Unary) else "stream", entry.handler) for path, entry in handlers.items()
        }
        self.head_of = head_reader(routes, message_bytes_max, HEADERS_BLOCK)

    def open(self, connection: Carrier, stream_id: int, head: Head) -> Call:
        return _CALLS[head.kind](connection, stream_id, head)


def service_of(handlers: Mapping[str, Unary | Stream], message_bytes_max: int) -> Application:
    """The application on HTTP/2 connections that serves these."""
    return _Service(handlers, message_bytes_max)


async def serve(
    handlers: Mapping[str, Unary | Stream],
    address: Address | str,
    *,
    tls: ssl.SSLContext | None = None,
    config: KvConfig,
    insecure: bool = False,
    limits: Limits | None = None,
) -> Listener:
    """Serves calls by their paths (`/etcdserverpb.KV/Range`) at tcp://host:port or tls://host:port.

    The listener's `close(drain_s)` lets what was begun go on for so long.
    Raises: UsageError: the address cannot be listened at, or not like this.
    """
    return await listen(
        address,
        service_of(handlers, config.request_bytes_max + OVERHEAD_BYTES),
        limits=limits or Limits(),
        connections_max=config.connections_max,
        streams_max=config.streams_max,
        tls=tls,
        insecure=insecure,
    )


__all__ = ["OVERHEAD_BYTES", "Call", "Limits", "Listener", "Stream", "StreamReceiver", "Unary", "serve", "service_of"]
