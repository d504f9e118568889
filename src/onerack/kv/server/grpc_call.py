"""One gRPC call, as its handler sees it, and how its messages are cut out of DATA and put into it.

    message             u8 compressed | u32 length | body; any number of them on a stream, cut into DATA anyhow
    trailers            grpc-status, and grpc-message in percent encoding

The idea: the usual call is two frames in (HEADERS, DATA that ends the stream) and three out. For that one everything is
prepared: the answer is two `pack`s around the body. Everything else takes the longer way, and may.

The rule: a message is refused by its length before it is kept, and what is kept of it is counted until the call ends.
Source: PROTOCOL-HTTP2.md of gRPC; texts and codes as the Go server gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct
from typing import Final, Protocol

from onerack.kv.server.grpc_head import Head, Refusal, trailers
from onerack.kv.server.grpc_status import DEADLINE_EXCEEDED, INTERNAL, OK, RESOURCE_EXHAUSTED, UNIMPLEMENTED
from onerack.kv.server.http2 import frames
from onerack.kv.server.http2.headers import STATUS_200, literal
from onerack.kv.server.http2.streams import Carrier
from onerack.kv.server.http2.streams import Stream as Http2Stream
from onerack.rpc.link import Peer

HEADERS_BLOCK: Final = STATUS_200 + literal(b"content-type", b"application/grpc")
_OK_BLOCK: Final = trailers(OK, "")
_ANSWER: Final = Struct(f">IBI{len(HEADERS_BLOCK)}sIBIBI")
"""HEADERS, the head of DATA and the head of the message."""
_ANSWER_WORD: Final = len(HEADERS_BLOCK) << 8 | frames.HEADERS
_TRAILERS: Final = Struct(f">IBI{len(_OK_BLOCK)}s")
_TRAILERS_WORD: Final = len(_OK_BLOCK) << 8 | frames.HEADERS
_TRAILERS_FLAGS: Final = frames.END_STREAM | frames.END_HEADERS
_SMALL_BYTES: Final = frames.FRAME_BYTES_MAX - 5
_MESSAGE: Final = Struct(">BI")
_pack_data: Final = Struct(">IBIBI").pack
_pack_answer: Final = _ANSWER.pack
_pack_trailers: Final = _TRAILERS.pack
from_bytes: Final = int.from_bytes


class StreamReceiver(Protocol):
    """Who is told what comes on a streaming call."""

    def message(self, body: bytes) -> None: ...

    def half_closed(self) -> None:
        """The client has said all it wants to say."""

    def cancelled(self) -> None:
        """The client does not want the answer any more, its time is over, or it is lost. The call is not open."""


class Call(Http2Stream):
    """One request. `reply` or `fail`, or any number of `send` and one `finish`; after that nothing has any effect."""

    __slots__ = ("_has_begun", "deadline_at", "head", "on_cancelled", "on_drained", "partial")

    def __init__(self, connection: Carrier, stream_id: int, head: Head) -> None:
        Http2Stream.__init__(self, connection, stream_id)
        self.head = head
        self._has_begun = False
        """Headers have left."""
        self.partial: bytearray | None = None
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
        return self.head.path

    @property
    def metadata(self) -> Mapping[str, str]:
        """Names in lower case; several values of one name joined by commas. Names in -bin: see `binary_metadata`."""
        return self.head.metadata

    @property
    def binary_metadata(self) -> Mapping[str, bytes]:
        """The values of names that end in -bin, decoded."""
        return self.head.binary_metadata

    @property
    def token(self) -> str:
        """Who asks, by etcd's authentication; empty: nobody has said."""
        return self.head.token

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
                _pack_answer(_ANSWER_WORD, 4, stream_id, HEADERS_BLOCK, size + 5 << 8, 0, stream_id, 0, size)
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
                self.drop_partial()
            self.end(trailers(code, text) if self._has_begun else HEADERS_BLOCK + trailers(code, text))

    def fail(self, code: int, text: str) -> None:
        self.finish(code, text)

    def _begin_answer(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self.write_headers(HEADERS_BLOCK)

    # ------------------------------------------------------------------------------------------------ arriving

    def expired(self) -> None:
        self.connection.drop_queue(self)
        self.fail(DEADLINE_EXCEEDED, "context deadline exceeded")
        self.cancelled()

    def cancelled(self) -> None:
        self.drop_partial()
        if self.on_cancelled is not None:
            self.guard(self.on_cancelled)

    def drained(self) -> None:
        if self.on_drained is not None:
            self.guard(self.on_drained)

    def guard(self, function: Callable[..., object], *arguments: object) -> object:
        """Calls what is not ours. What it raises ends this call."""
        try:
            return function(*arguments)
        except Exception as error:
            self.report(error)
            return None

    def report(self, error: Exception) -> None:
        self.connection.loop.call_exception_handler(
            {"message": f"the handler of {self.path} has raised", "exception": error}
        )
        self.fail(INTERNAL, "internal error")

    def messages(self, buffer: bytes, start: int, stop: int, kept_bytes: int = 0) -> list[bytes]:
        """The messages that are whole now, when so many bytes are kept of earlier ones.

        Raises: Refusal: one cannot be taken.
        """
        partial = self.partial
        if partial is not None:
            partial += buffer[start:stop]
            buffer, start, stop = partial, 0, len(partial)  # type: ignore[assignment]
        found: list[bytes] = []
        while stop - start >= 5:
            size = from_bytes(buffer[start + 1 : start + 5], "big")
            if buffer[start] or size > self.head.message_bytes_max:
                raise _refusal_of(buffer[start], size, self.head)
            if stop - start - 5 < size:
                break
            found.append(bytes(buffer[start + 5 : start + 5 + size]))
            start += 5 + size
        if partial is not None:
            del partial[:start]
        elif start < stop:
            partial = bytearray(buffer[start:stop])
        self.partial = partial or None
        if not self.hold(kept_bytes + (len(partial) if partial else 0)):
            raise Refusal(RESOURCE_EXHAUSTED, "grpc: too many messages have not come whole")
        return found

    def hold(self, size: int) -> bool:
        """So many bytes are kept now. False: there is no room for them."""
        change, self.held_bytes = size - self.held_bytes, size
        return not change or self.connection.keep(change)

    def drop_partial(self) -> None:
        self.partial = None
        self.hold(0)


def _refusal_of(flag: int, size: int, head: Head) -> Refusal:
    if flag > 1:
        return Refusal(INTERNAL, f"grpc: received unexpected payload format {flag}")
    if flag and head.encoding not in ("", "identity"):
        return Refusal(UNIMPLEMENTED, f'grpc: Decompressor is not installed for grpc-encoding "{head.encoding}"')
    if flag:
        return Refusal(INTERNAL, "grpc: compressed flag set with identity or empty encoding")
    return Refusal(RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({size} vs. {head.message_bytes_max})")
