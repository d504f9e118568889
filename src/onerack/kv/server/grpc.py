"""gRPC over HTTP/2: calls in callback style, for handlers that answer now or later and never block.

    head of a request   :path says the method; grpc-timeout, grpc-encoding and the metadata come with it
    message             u8 compressed | u32 length | body; any number of them on a stream, cut into DATA anyhow
    trailers            grpc-status, and grpc-message in percent encoding

The idea: the usual call is two frames in (HEADERS, DATA that ends the stream) and three out. For that one everything is
prepared: the head comes from a cache, the message is one slice, the answer is two `pack`s around the body. Everything
else takes the longer way, and may.

The rule: a handler's error ends its call, nobody else's. Whatever is refused is refused before it is kept.
Source: the gRPC protocol over HTTP/2 (PROTOCOL-HTTP2.md); texts and codes as the Go server gives them.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from struct import Struct
from typing import Any, Final, Protocol

import msgspec

from onerack.config import KIB, KvConfig
from onerack.kv.server.grpc_head import Head, Kind, Refusal, head_reader, trailers
from onerack.kv.server.grpc_status import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    INTERNAL,
    OK,
    RESOURCE_EXHAUSTED,
    UNIMPLEMENTED,
)
from onerack.kv.server.http2 import frames
from onerack.kv.server.http2.headers import STATUS_200, literal
from onerack.kv.server.http2.limits import Limits
from onerack.kv.server.http2.listener import Listener, listen
from onerack.kv.server.http2.streams import Application, Carrier
from onerack.kv.server.http2.streams import Stream as Http2Stream
from onerack.rpc.link import Peer
from onerack.rpc.transports.address import Address

OVERHEAD_BYTES: Final = 512 * KIB
"""A message may be longer than a request by this: it has other fields, too."""

_HEADERS_BLOCK: Final = STATUS_200 + literal(b"content-type", b"application/grpc")
_OK_BLOCK: Final = trailers(OK, "")
_ANSWER: Final = Struct(f">IBI{len(_HEADERS_BLOCK)}sIBIBI")
"""HEADERS, the head of DATA and the head of the message."""
_ANSWER_WORD: Final = len(_HEADERS_BLOCK) << 8 | frames.HEADERS
_TRAILERS: Final = Struct(f">IBI{len(_OK_BLOCK)}s")
_TRAILERS_WORD: Final = len(_OK_BLOCK) << 8 | frames.HEADERS
_TRAILERS_FLAGS: Final = frames.END_STREAM | frames.END_HEADERS
_SMALL_BYTES: Final = frames.FRAME_BYTES_MAX - 5
_MESSAGE: Final = Struct(">BI")
_pack_data: Final = Struct(">IBIBI").pack
_pack_answer: Final = _ANSWER.pack
_pack_trailers: Final = _TRAILERS.pack
_from_bytes: Final = int.from_bytes


class StreamReceiver(Protocol):
    """Who is told what comes on a streaming call."""

    def message(self, body: bytes) -> None: ...

    def half_closed(self) -> None:
        """The client has said all it wants to say."""

    def cancelled(self) -> None:
        """The client does not want the answer any more, its time is over, or it is lost. The call is not open."""


class Unary(msgspec.Struct, frozen=True):
    """One message in, one out. Called inside the read callback; answers now or later."""

    handler: Callable[[Call, bytes], None]


class Stream(msgspec.Struct, frozen=True):
    """Any number of messages, both ways. Called when the call begins."""

    handler: Callable[[Call], StreamReceiver]


class Call(Http2Stream):
    """One request. `reply` or `fail`, or any number of `send` and one `finish`; after that nothing has any effect."""

    __slots__ = ("_has_begun", "_head", "_partial", "deadline_at", "on_cancelled", "on_drained")

    def __init__(self, connection: Carrier, stream_id: int, head: Head) -> None:
        Http2Stream.__init__(self, connection, stream_id)
        self._head = head
        self._has_begun = False
        """Headers have left."""
        self._partial: bytearray | None = None
        """What has come of a message that has not come whole."""
        self.on_cancelled: Callable[[], None] | None = None
        """Unary: the client does not want the answer any more. Nothing need happen."""
        self.on_drained: Callable[[], None] | None = None
        """`waiting_bytes` was more than 0, and is 0 again."""
        self.deadline_at: float | None = None
        """By the event loop's clock. Behind it the call ends by itself."""
        if head.timeout_s is not None:
            self.deadline_at = connection.loop.time() + head.timeout_s
            connection.timed[stream_id] = (self.deadline_at, self)

    # ------------------------------------------------------------------------------------------------ for handlers

    @property
    def path(self) -> str:
        return self._head.path

    @property
    def metadata(self) -> Mapping[str, str]:
        """Names in lower case; several values of one name joined by commas. Names in -bin: see `binary_metadata`."""
        return self._head.metadata

    @property
    def binary_metadata(self) -> Mapping[str, bytes]:
        """The values of names that end in -bin, decoded."""
        return self._head.binary_metadata

    @property
    def token(self) -> str:
        """Who asks, by etcd's authentication; empty: nobody has said."""
        return self._head.token

    @property
    def peer(self) -> Peer:
        return self.connection.peer

    @property
    def is_open(self) -> bool:
        """It can still be answered."""
        return self.is_live and self.end_block is None

    def reply(self, body: bytes) -> None:
        """The one answer of a unary call."""
        connection = self.connection
        size = len(body)
        room = connection.send_room - size - 5
        if (
            connection.is_smooth
            and size <= _SMALL_BYTES
            and room >= 0
            and connection.initial_window + self.credit >= size + 5
            and self.is_half_closed
            and self.is_live
            and not self._has_begun
            and self.end_block is None
        ):
            connection.send_room = room
            stream_id = self.id
            connection.put(
                _pack_answer(_ANSWER_WORD, 4, stream_id, _HEADERS_BLOCK, size + 5 << 8, 0, stream_id, 0, size)
                + body
                + _pack_trailers(_TRAILERS_WORD, _TRAILERS_FLAGS, stream_id, _OK_BLOCK)
            )
            connection.forget(self)
            return
        self.send(body)
        self.finish()

    def send(self, body: bytes) -> None:
        """One message of several. If the client does not take it, it waits: see `waiting_bytes` and `on_drained`."""
        if not self.is_open:
            return
        if not self._has_begun:
            self._begin_answer()
        connection = self.connection
        connection.note_message()
        size = len(body) + 5
        if (
            connection.is_smooth
            and not self.queue
            and size <= frames.FRAME_BYTES_MAX
            and connection.send_room >= size
            and connection.initial_window + self.credit >= size
        ):
            connection.send_room -= size
            self.credit -= size
            connection.put(_pack_data(size << 8 | frames.DATA, 0, self.id, 0, size - 5) + body)
            return
        self.write(_MESSAGE.pack(0, size - 5) + body)

    def begin_answer(self) -> None:
        """Lets the client know that the call is taken, before there is anything to send."""
        if self.is_open:
            self._begin_answer()

    def finish(self, code: int = OK, text: str = "") -> None:
        """The end, and how it went."""
        if self.is_open:
            if self.held_bytes:
                self._drop_partial()
            self.end(trailers(code, text) if self._has_begun else _HEADERS_BLOCK + trailers(code, text))

    def fail(self, code: int, text: str) -> None:
        self.finish(code, text)

    def _begin_answer(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self.write_headers(_HEADERS_BLOCK)

    # ------------------------------------------------------------------------------------------------ arriving

    def expired(self) -> None:
        self.connection.drop_queue(self)
        self.fail(DEADLINE_EXCEEDED, "context deadline exceeded")
        self.cancelled()

    def cancelled(self) -> None:
        self._drop_partial()
        if self.on_cancelled is not None:
            self._guard(self.on_cancelled)

    def drained(self) -> None:
        if self.on_drained is not None:
            self._guard(self.on_drained)

    def _guard(self, function: Callable[..., object], *arguments: object) -> object:
        """Calls what is not ours. What it raises ends this call."""
        try:
            return function(*arguments)
        except Exception as error:
            self._report(error)
            return None

    def _report(self, error: Exception) -> None:
        self.connection.loop.call_exception_handler(
            {"message": f"the handler of {self.path} has raised", "exception": error}
        )
        self.fail(INTERNAL, "internal error")

    def _messages(self, buffer: bytes, start: int, stop: int, kept_bytes: int = 0) -> list[bytes]:
        """The messages that are whole now, when so many bytes are kept of earlier ones.

        Raises: Refusal: one cannot be taken.
        """
        partial = self._partial
        if partial is not None:
            partial += buffer[start:stop]
            buffer, start, stop = partial, 0, len(partial)  # type: ignore[assignment]
        found: list[bytes] = []
        while stop - start >= 5:
            size = _from_bytes(buffer[start + 1 : start + 5], "big")
            if buffer[start] or size > self._head.message_bytes_max:
                raise _refusal_of(buffer[start], size, self._head)
            if stop - start - 5 < size:
                break
            found.append(bytes(buffer[start + 5 : start + 5 + size]))
            start += 5 + size
        if partial is not None:
            del partial[:start]
        elif start < stop:
            partial = bytearray(buffer[start:stop])
        self._partial = partial or None
        if not self._hold(kept_bytes + (len(partial) if partial else 0)):
            raise Refusal(RESOURCE_EXHAUSTED, "grpc: too many messages have not come whole")
        return found

    def _hold(self, size: int) -> bool:
        """So many bytes are kept now. False: there is no room for them."""
        change, self.held_bytes = size - self.held_bytes, size
        return not change or self.connection.keep(change)

    def _drop_partial(self) -> None:
        self._partial = None
        self._hold(0)


class UnaryCall(Call):
    """Keeps the message until the client has ended its side."""

    __slots__ = ("_body",)

    def __init__(self, connection: Carrier, stream_id: int, head: Head) -> None:
        Call.__init__(self, connection, stream_id, head)
        self._body: bytes | None = None

    def take(self, buffer: bytes, start: int, stop: int, is_last: bool) -> None:
        if (
            is_last
            and self._partial is None
            and self._body is None
            and stop - start >= 5
            and not buffer[start]
            and _from_bytes(buffer[start + 1 : start + 5], "big") == stop - start - 5 <= self._head.message_bytes_max
        ):
            body = buffer[start + 5 : stop]
        else:
            whole = self._take_slowly(buffer, start, stop, is_last)
            if whole is None:
                return
            body = whole
        self.connection.note_message()
        try:
            self._head.handler(self, body)
        except Exception as error:
            self._report(error)

    def _take_slowly(self, buffer: bytes, start: int, stop: int, is_last: bool) -> bytes | None:
        if not self.is_open:
            return None
        try:
            found = self._messages(buffer, start, stop, len(self._body) if self._body is not None else 0)
        except Refusal as refusal:
            self.fail(refusal.code, refusal.text)
            return None
        if found and self._body is None:
            self._body = found.pop(0)
            self._hold(len(self._body) + self.held_bytes)
        if found or (is_last and (self._body is None or self._partial is not None)):
            self.fail(INTERNAL, f"{self.path} takes one message, whole")
            return None
        if not is_last:
            return None
        body = self._body
        self._drop_partial()
        return body

    def _drop_partial(self) -> None:
        Call._drop_partial(self)
        self._body = None


class StreamCall(Call):
    """Gives each message to its receiver."""

    __slots__ = ("_receiver",)

    _receiver: StreamReceiver | None

    def begin(self) -> None:
        self._receiver = None
        self._receiver = self._guard(self._head.handler, self)  # type: ignore[assignment]

    def take(self, buffer: bytes, start: int, stop: int, is_last: bool) -> None:
        receiver = self._receiver
        if receiver is None or not self.is_open:
            return
        try:
            for body in self._messages(buffer, start, stop):
                if self._is_over():
                    return
                self.connection.note_message()
                receiver.message(body)
            if is_last and not self._is_over():
                if self._partial is not None:
                    raise Refusal(INTERNAL, "the stream has ended inside a message")
                receiver.half_closed()
        except Refusal as refusal:
            self.fail(refusal.code, refusal.text)
            self._guard(receiver.cancelled)
        except Exception as error:
            self._report(error)

    def _is_over(self) -> bool:
        """The receiver may have ended it meanwhile."""
        return not self.is_open

    def cancelled(self) -> None:
        Call.cancelled(self)
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            self._guard(receiver.cancelled)


class RefusedCall(Call):
    """Nobody here answers it."""

    __slots__ = ()

    def begin(self) -> None:
        refusal = self._head.refusal
        assert refusal is not None
        self.end(refusal)


_CALLS: Final[dict[Kind, type[Call]]] = {"unary": UnaryCall, "stream": StreamCall, "refused": RefusedCall}


def _refusal_of(flag: int, size: int, head: Head) -> Refusal:
    if flag > 1:
        return Refusal(INTERNAL, f"grpc: received unexpected payload format {flag}")
    if flag and head.encoding not in ("", "identity"):
        return Refusal(UNIMPLEMENTED, f'grpc: Decompressor is not installed for grpc-encoding "{head.encoding}"')
    if flag:
        return Refusal(INTERNAL, "grpc: compressed flag set with identity or empty encoding")
    return Refusal(RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({size} vs. {head.message_bytes_max})")


class _Service:
    """The application on our HTTP/2 connections."""

    def __init__(self, handlers: Mapping[str, Unary | Stream], message_bytes_max: int) -> None:
        routes: dict[str, tuple[Kind, Callable[..., Any]]] = {
            path: ("unary" if isinstance(entry, Unary) else "stream", entry.handler) for path, entry in handlers.items()
        }
        self.head_of = head_reader(routes, message_bytes_max, _HEADERS_BLOCK)

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


__all__ = ["CANCELLED", "Call", "Listener", "Stream", "StreamReceiver", "Unary", "serve"]
