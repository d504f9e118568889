"""The connection: HTTP/2 on a wire, from the server's end.

    wire -> space, arrived -> frames -> stream.take -> the application
    the application -> stream.write, end -> put -> flush -> wire

The idea: all frames of one read are parsed in one loop, and what is answered meanwhile leaves in one write after it, or
after every 32 requests, so that client and server work at the same time. What is answered at other times leaves at the
end of the loop's turn, so that a thousand answers share a write.

The life of a connection: shy (no preface yet); open; draining (no new requests); closing (we have said GOAWAY and wait
for the peer to end it, but not long); lost.

The rule: what the peer does wrong ends the stream or the connection with the code that RFC 9113 names for it, and
never raises out of here. Whatever it makes us keep is counted before it is kept. Windows and queues are in sending.py.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final

from onerack.config import KIB
from onerack.kv.server.http2 import frames
from onerack.kv.server.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_BYTES_MAX,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEAD,
    HEAD_BYTES,
    HEADERS,
    INTERNAL_ERROR,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    STREAM_MAX,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    ConnectionFailure,
    StreamFailure,
)
from onerack.kv.server.http2.headers import HeaderReader
from onerack.kv.server.http2.limits import Limits
from onerack.kv.server.http2.sending import Sending
from onerack.kv.server.http2.streams import Application, Stream
from onerack.rpc.link import TOGETHER, Peer
from onerack.rpc.transports.wire import Wire

_GOODBYE: Final = b"goodbye!"
"""The PING after the first GOAWAY: when it comes back, so has everything that was sent before the peer knew."""
_SETTINGS_NOISE: Final = 10
"""They may make us look at every stream."""
_SMALL_LIST_BYTES: Final = 1024
_WORDS: Final = b"This port speaks gRPC, over HTTP/2 and nothing else.\n"
_OTHER_PROTOCOL: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
    % (len(_WORDS), _WORDS)
)
_METHODS_OF_HTTP_1: Final = (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ")


class _Space(threading.local):
    """Where the thread's connections read to, one after the other."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(256 * KIB))


_SPACE: Final = _Space()


class ServerBudget:
    """What all connections of a server keep together."""

    def __init__(self) -> None:
        self.unfinished_bytes = 0


class Connection(Sending):
    """One client. `forget_me` is called once, when it is lost."""

    def __init__(
        self,
        wire: Wire,
        peer: Peer,
        application: Application,
        *,
        limits: Limits,
        streams_max: int,
        budget: ServerBudget,
        forget_me: Callable[[Connection], None],
    ) -> None:
        super().__init__(wire, limits, asyncio.get_running_loop())
        self.peer = peer
        self.timed: dict[int, tuple[float, Stream]] = {}
        """Streams that expire, and when."""
        self.last_stream = 0
        """The newest request."""
        self.unfinished_bytes = 0
        self._application = application
        self._streams_max = streams_max
        self._budget = budget
        self._forget_me = forget_me
        self._headers: HeaderReader[object] = HeaderReader(application.head_of, limits.header_list_bytes_max)
        self._rest = b""
        """Of the last read: a frame that has not come whole."""
        self._is_shy = True
        self._receive_room = limits.connection_window_bytes
        self._receive_room_low = limits.connection_window_bytes // 2
        self._block_stream = 0
        """Whose header block goes on in the next frame; 0: nobody's."""
        self._block = bytearray()
        self._block_flags = 0
        self._continuations = 0
        self._is_draining = False
        self._may_open = True
        """False: the last GOAWAY has named the last request."""
        self._kept_bytes = 0
        """Long header lists of open requests."""
        self._resets = 0
        now = self.loop.time()
        self._born_at = self._heard_at = self._grown_at = self._ticked_at = now
        self._has_heard = self._has_grown = False
        self._is_asked = False
        """A keepalive PING is on its way."""
        self._linger_until = 0.0
        self._on_frame: dict[int, Callable[[int, int, bytes, int, int], None]] = {
            DATA: self._on_data,
            HEADERS: self._on_headers,
            PRIORITY: self._on_priority,
            RST_STREAM: self._on_rst_stream,
            SETTINGS: self._on_settings,
            PUSH_PROMISE: self._on_push_promise,
            PING: self._on_ping,
            GOAWAY: self._on_goaway,
            WINDOW_UPDATE: self._on_window_update,
            CONTINUATION: self._on_continuation,
        }

    def start(self) -> None:
        """Begins. We say nothing before the client has: it may speak another protocol."""
        self.wire.start(self)

    def _introduce(self) -> None:
        self._is_shy = False
        self.put(
            frames.settings(
                {
                    frames.MAX_CONCURRENT_STREAMS: self._streams_max,
                    frames.INITIAL_WINDOW_SIZE: self.limits.stream_window_bytes,
                    frames.MAX_HEADER_LIST_SIZE: self.limits.header_list_bytes_max,
                }
            )
            + frames.window_update(0, self.limits.connection_window_bytes - frames.INITIAL_WINDOW_DEFAULT)
        )

    # ------------------------------------------------------------------------------------------------ for the wire

    def space(self) -> memoryview:
        return _SPACE.view

    def arrived(self, size: int) -> int:
        if not self.is_open:
            return 1
        self._has_heard = True
        buffer = self._rest + _SPACE.view[:size]
        self.is_in_batch = True
        try:
            start = self._greet(buffer) if self._is_shy else 0
            self._rest = buffer[self._parse(buffer, start) :] if not self._is_shy else buffer[start:]
        except ConnectionFailure as failure:
            self.fail(failure.code, str(failure))
        except Exception:
            self.fail(INTERNAL_ERROR, "internal error")
            raise
        finally:
            self.is_in_batch = False
        self.flush()
        self.hear_or_not()
        return 1

    def writable(self) -> None:
        self._has_heard = True  # The peer has taken something, so it is there.
        self.unblock()
        self.hear_or_not()
        self._end_if_done()

    def ended(self, error: Exception | None) -> None:
        self.is_lost = True
        self._close()
        self._forget_me(self)

    # ------------------------------------------------------------------------------------------------ the frames

    def _greet(self, buffer: bytes) -> int:
        """Behind the preface, when it and the head of the SETTINGS are there. Raises: ConnectionFailure."""
        if not buffer.startswith(PREFACE):
            if any(first.startswith(buffer) for first in (PREFACE, *_METHODS_OF_HTTP_1)):
                return 0  # It can still become one of these.
            if buffer.startswith(_METHODS_OF_HTTP_1):
                self.put(_OTHER_PROTOCOL)
                self._close_after_output()
                return len(buffer)
            raise ConnectionFailure(PROTOCOL_ERROR, "this port speaks HTTP/2, which begins with a preface")
        start = len(PREFACE)
        if len(buffer) < start + HEAD_BYTES:
            return 0
        if buffer[start + 3] != SETTINGS or buffer[start + 4] & ACK:
            raise ConnectionFailure(PROTOCOL_ERROR, "behind the preface come SETTINGS")
        self._introduce()
        return start

    def _parse(self, buffer: bytes, position: int) -> int:
        """Takes all whole frames; returns where the rest begins."""
        end, unpack, on_frame = len(buffer), HEAD.unpack_from, self._on_frame
        together = 0
        while end - position >= HEAD_BYTES:
            word, flags, stream_id = unpack(buffer, position)
            start = position + HEAD_BYTES
            stop = start + (word >> 8)
            if stop - start > FRAME_BYTES_MAX:
                raise ConnectionFailure(FRAME_SIZE_ERROR, f"a frame of {stop - start} bytes; at most {FRAME_BYTES_MAX}")
            if stop > end:
                break
            position = stop
            kind = word & 0xFF
            stream_id &= STREAM_MAX  # The highest bit is reserved, and to be ignored.
            if self._block_stream and (kind != CONTINUATION or stream_id != self._block_stream):
                raise ConnectionFailure(PROTOCOL_ERROR, "a header block must go on without anything between")
            handler = on_frame.get(kind)
            if handler is None:
                self._note_noise()
                continue
            try:
                handler(flags, stream_id, buffer, start, stop)
            except StreamFailure as failure:
                self._reset(stream_id, failure)
            if not self.is_open:
                return end
            if kind == DATA:
                together += 1
                if together == TOGETHER:
                    together = 0
                    self.flush()
        return position

    def _on_data(self, flags: int, stream_id: int, buffer: bytes, start: int, stop: int) -> None:
        size = stop - start
        room = self._receive_room - size
        if room < self._receive_room_low:
            if room < 0:
                raise ConnectionFailure(FLOW_CONTROL_ERROR, "more DATA than the connection's window allows")
            self.put(frames.window_update(0, self.limits.connection_window_bytes - room))
            room = self.limits.connection_window_bytes
        self._receive_room = room
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_known(stream_id, "DATA")
            if not size:
                self._note_noise()
            return
        if flags & PADDED:
            start, stop = _without_padding(buffer, start, stop)
        if stream.is_half_closed:
            raise StreamFailure(STREAM_CLOSED, "DATA behind the end of the stream")
        stream.receive_room -= size
        if flags & END_STREAM:
            if stream.receive_room < 0:
                raise StreamFailure(FLOW_CONTROL_ERROR, "more DATA than the stream's window allows")
            stream.is_half_closed = True
            stream.take(buffer, start, stop, True)
            return
        if stream.receive_room < self.limits.stream_window_bytes // 2:
            self._widen(stream)
        if start == stop:
            self._note_noise()
        stream.take(buffer, start, stop, False)

    def _widen(self, stream: Stream) -> None:
        if stream.receive_room < 0:
            raise StreamFailure(FLOW_CONTROL_ERROR, "more DATA than the stream's window allows")
        full = self.limits.stream_window_bytes
        self.put(frames.window_update(stream.id, full - stream.receive_room))
        stream.receive_room = full

    def _on_headers(self, flags: int, stream_id: int, buffer: bytes, start: int, stop: int) -> None:
        if flags & PADDED:
            start, stop = _without_padding(buffer, start, stop)
        if flags & WITH_PRIORITY:
            start += 5  # It names what is more urgent, which is a suggestion.
            if start > stop:
                raise ConnectionFailure(FRAME_SIZE_ERROR, "HEADERS too short for its priority")
        if flags & END_HEADERS:
            self._on_block(stream_id, buffer[start:stop], flags)
            return
        if not stream_id:
            raise ConnectionFailure(PROTOCOL_ERROR, "HEADERS on stream 0")
        self._block_stream, self._block_flags, self._continuations = stream_id, flags, 0
        self._block = bytearray(buffer[start:stop])

    def _on_continuation(self, flags: int, stream_id: int, buffer: bytes, start: int, stop: int) -> None:
        if not self._block_stream:
            raise ConnectionFailure(PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._continuations += 1
        limits = self.limits
        size = len(self._block) + stop - start
        if self._continuations > limits.continuations_max or size > limits.header_block_bytes_max:
            raise ConnectionFailure(ENHANCE_YOUR_CALM, "a header block without end")
        self._block += buffer[start:stop]
        if flags & END_HEADERS:
            block, self._block = bytes(self._block), bytearray()
            self._block_stream = 0
            self._on_block(stream_id, block, self._block_flags)

    def _on_block(self, stream_id: int, block: bytes, flags: int) -> None:
        """A whole header block: it must be read whatever comes of it, since it may change the dynamic table."""
        if stream_id <= self.last_stream:
            self._on_trailers(stream_id, block, flags)
            return
        if not stream_id & 1:
            raise ConnectionFailure(PROTOCOL_ERROR, f"a client opens odd streams, not {stream_id}")
        self.last_stream = stream_id
        kept_bytes = 0
        head = self._headers.cache.get(block)
        if head is None:
            head = self._headers.read(block)
            kept_bytes = self._headers.list_bytes
        if not self._has_room_for(kept_bytes):
            self._note_noise()
            self.put(frames.rst_stream(stream_id, REFUSED_STREAM))
            return
        stream = self._application.open(self, stream_id, head)
        self.streams[stream_id] = stream
        if kept_bytes > _SMALL_LIST_BYTES:
            stream.kept_bytes = kept_bytes
            self._kept_bytes += kept_bytes
        if flags & END_STREAM:
            stream.is_half_closed = True
            stream.begin()
            if stream.is_live:
                stream.take(b"", 0, 0, True)
            return
        stream.begin()

    def _has_room_for(self, list_bytes: int) -> bool:
        """Another request, with a header list of so many bytes."""
        return (
            self._may_open
            and len(self.streams) < self._streams_max
            and self._kept_bytes + list_bytes <= self.limits.unfinished_bytes_max
        )

    def _on_trailers(self, stream_id: int, block: bytes, flags: int) -> None:
        stream = self.streams.get(stream_id)
        if not stream_id or not stream_id & 1:
            raise ConnectionFailure(PROTOCOL_ERROR, f"HEADERS on stream {stream_id}")
        is_request = True
        try:
            self._headers.read(block)
        except StreamFailure:
            is_request = False  # As trailers should be; nobody reads them.
        if stream is None:
            if is_request:
                raise ConnectionFailure(PROTOCOL_ERROR, f"a request on stream {stream_id}, behind {self.last_stream}")
            # We may have ended it while this was on its way.
            self._note_noise()
            return
        if stream.is_half_closed:
            raise StreamFailure(STREAM_CLOSED, "HEADERS behind the end of the stream")
        if is_request or not flags & END_STREAM:
            raise StreamFailure(PROTOCOL_ERROR, "trailers end the stream, and have no pseudo fields")
        stream.is_half_closed = True
        stream.take(b"", 0, 0, True)

    def _on_priority(self, flags: int, stream_id: int, buffer: bytes, start: int, stop: int) -> None:
        self._note_noise()
        if not stream_id:
            raise ConnectionFailure(PROTOCOL_ERROR, "PRIORITY on stream 0")
        if stop - start != 5:
            raise ConnectionFailure(FRAME_SIZE_ERROR, "PRIORITY has 5 bytes")

    def _on_rst_stream(self, flags: int, stream_id: int, buffer: bytes, start: int, stop: int) -> None:
        if stop - start != 4:
            raise ConnectionFailure(FRAME_SIZE_ERROR, "RST_STREAM has 4 bytes")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_known(stream_id, "RST_STREAM")
        self._resets += 1
        if self._resets > self.limits.resets_max:
            raise ConnectionFailure(ENHANCE_YOUR_CALM, "too many requests begun and given up")
        if stream is None:
            return
        self.forget(stream)
        stream.cancelled()

    def _on_settings(self, flags: int, stream_id: int, buffer: bytes, start: int, stop: int) -> None:
        self._note_noise(_SETTINGS_NOISE)
        if stream_id:
            raise ConnectionFailure(PROTOCOL_ERROR, "SETTINGS belong to no stream")
        if flags & ACK:
            if stop != start:
                raise ConnectionFailure(FRAME_SIZE_ERROR, "SETTINGS with ACK are empty")
            return
        if (stop - start) % 6:
            raise ConnectionFailure(FRAME_SIZE_ERROR, "SETTINGS have 6 bytes each")
        # Of a setting that comes twice the last counts.
        for name, value in dict(frames.settings_in(buffer[start:stop])).items():
            self.set(name, value)
        self.put(frames.frame(SETTINGS, ACK, 0))
        self.pump()

    def _on_push_promise(self, flags: int, stream_id: int, buffer: bytes, start: int, stop: int) -> None:
        raise ConnectionFailure(PROTOCOL_ERROR, "clients cannot push")

    def _on_ping(self, flags: int, stream_id: int, buffer: bytes, start: int, stop: int) -> None:
        if stream_id:
            raise ConnectionFailure(PROTOCOL_ERROR, "PING belongs to no stream")
        if stop - start != 8:
            raise ConnectionFailure(FRAME_SIZE_ERROR, "PING has 8 bytes")
        self._note_noise()
        if not flags & ACK:
            self.put(frames.frame(PING, ACK, 0, buffer[start:stop]))
        elif buffer[start:stop] == _GOODBYE and self._is_draining:
            self._name_last()

    def _on_goaway(self, flags: int, stream_id: int, buffer: bytes, start: int, stop: int) -> None:
        if stream_id:
            raise ConnectionFailure(PROTOCOL_ERROR, "GOAWAY belongs to no stream")
        if stop - start < 8:
            raise ConnectionFailure(FRAME_SIZE_ERROR, "GOAWAY has 8 bytes at least")
        self._note_noise()
        self._is_draining = True  # It opens no more; what is open goes on.
        self._may_open = False
        self._end_if_done()

    def _on_window_update(self, flags: int, stream_id: int, buffer: bytes, start: int, stop: int) -> None:
        if stop - start != 4:
            raise ConnectionFailure(FRAME_SIZE_ERROR, "WINDOW_UPDATE has 4 bytes")
        self._note_noise()
        increment = int.from_bytes(buffer[start:stop], "big") & frames.WINDOW_MAX
        if not stream_id:
            self.widen_connection(increment)
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_known(stream_id, "WINDOW_UPDATE")
        else:
            self.widen_stream(stream, increment)

    def _check_known(self, stream_id: int, what: str) -> None:
        """Frames of streams that are closed may still be on their way; those of idle ones are wrong."""
        if stream_id > self.last_stream or not stream_id & 1:
            raise ConnectionFailure(PROTOCOL_ERROR, f"{what} on stream {stream_id}, which is not open")

    def _reset(self, stream_id: int, failure: StreamFailure) -> None:
        self._note_noise()
        self.put(frames.rst_stream(stream_id, failure.code))
        stream = self.streams.get(stream_id)
        if stream is not None:
            self.forget(stream)
            stream.cancelled()

    def _note_noise(self, weight: int = 1) -> None:
        self.noise = max(self.noise, 0) + weight
        if self.noise > self.limits.noise_max:
            raise ConnectionFailure(ENHANCE_YOUR_CALM, "too many frames that move nothing")

    # ------------------------------------------------------------------------------------------------ for streams

    def note_message(self) -> None:
        """Something useful has come."""
        self.noise -= 4

    def keep(self, size: int) -> bool:
        """So many bytes more (or fewer) of messages that have not come whole. False: there is no room for them."""
        self._has_grown = True
        self.unfinished_bytes += size
        self._budget.unfinished_bytes += size
        return size <= 0 or (
            self.unfinished_bytes <= self.limits.unfinished_bytes_max
            and self._budget.unfinished_bytes <= self.limits.unfinished_server_bytes_max
        )

    def forget(self, stream: Stream) -> None:
        stream.is_live = False
        del self.streams[stream.id]
        if self.timed:
            self.timed.pop(stream.id, None)
        if stream.held_bytes:
            self.keep(-stream.held_bytes)
            stream.held_bytes = 0
        if stream.kept_bytes:
            self._kept_bytes -= stream.kept_bytes
        if stream.queue:
            self.drop_queue(stream)
        if self._is_draining and not self.streams:
            self._end_if_done()

    # ------------------------------------------------------------------------------------------------ the end

    def drain(self) -> None:
        """Lets the client know that it should go elsewhere; what it has begun, or is about to begin, is served."""
        if not self.is_open:
            return
        if self._is_shy:
            self._close_after_output()
        elif not self._is_draining:
            self._is_draining = True
            self.put(frames.goaway(STREAM_MAX, NO_ERROR) + frames.frame(PING, 0, 0, _GOODBYE))
            self._linger_until = self.loop.time() + self.limits.linger_s
            self.flush()

    def close(self) -> None:
        """Ends it now: what is open is answered by nobody any more."""
        if self.is_open:
            self.fail(NO_ERROR, "the server has stopped")
            self.flush()

    def fail(self, code: int, text: str) -> None:
        """GOAWAY, and the end."""
        if self.is_open:
            if self._is_shy:
                self._introduce()  # Nothing may come before the SETTINGS.
            self.put(frames.goaway(self.last_stream, code, text))
            self._close_after_output()

    def _name_last(self) -> None:
        if self._may_open:
            self._may_open = False
            self.put(frames.goaway(self.last_stream, NO_ERROR))
            self._end_if_done()

    def _end_if_done(self) -> None:
        if self.is_open and self._is_draining and not self._may_open and not self.streams:
            self._close_after_output()
        if not self.is_open:
            self.finish_output()

    def _close_after_output(self) -> None:
        self._close()
        self._linger_until = self.loop.time() + self.limits.linger_s
        self.flush_soon()

    def _close(self) -> None:
        if not self.is_open:
            return
        self.is_open = False
        self._rest, self._block = b"", bytearray()
        self._headers.cache.clear()
        for stream in list(self.streams.values()):
            self.forget(stream)
            stream.cancelled()

    # ------------------------------------------------------------------------------------------------ the clock

    def tick(self, now: float) -> None:
        """From the listener, a few times a second."""
        limits = self.limits
        if not self.is_open:
            if now >= self._linger_until:
                self.wire.abort()
            return
        self._forgive(now)
        if self._has_heard:
            self._has_heard, self._is_asked, self._heard_at = False, False, now
        if self._has_grown or not self.unfinished_bytes:
            self._has_grown, self._grown_at = False, now
        if self.timed:
            for expires_at, stream in list(self.timed.values()):
                if expires_at <= now and stream.is_live:
                    self.timed.pop(stream.id, None)
                    stream.expired()
        if self._is_shy and now - self._born_at > limits.preface_timeout_s:
            self.fail(PROTOCOL_ERROR, f"no preface within {limits.preface_timeout_s:g} s")
        elif now - self._grown_at > limits.stall_timeout_s:
            self.fail(ENHANCE_YOUR_CALM, f"a request has not gone on for {limits.stall_timeout_s:g} s")
        elif now - self._heard_at > limits.keepalive_s + limits.keepalive_timeout_s:
            self._close()
            self.wire.abort()
        elif now - self._heard_at > limits.keepalive_s and not self._is_asked:
            self._is_asked = True
            self.put(frames.frame(PING, 0, 0, b"are you?"))
        if self._is_draining and self._may_open and now >= self._linger_until:
            self._name_last()  # A peer that does not answer PING has had its time.
        self.end_stalled(now)
        self.flush()

    def _forgive(self, now: float) -> None:
        passed, self._ticked_at = now - self._ticked_at, now
        self.noise = max(0, self.noise - int(passed * self.limits.noise_forgiven_per_s + 0.5))
        self._resets = max(0, self._resets - int(passed * self.limits.resets_forgiven_per_s + 0.5))


def _without_padding(buffer: bytes, start: int, stop: int) -> tuple[int, int]:
    if start == stop:
        raise ConnectionFailure(FRAME_SIZE_ERROR, "a padded frame without the length of its padding")
    padding = buffer[start]
    if start + 1 + padding > stop:
        raise ConnectionFailure(PROTOCOL_ERROR, "more padding than frame")
    return start + 1, stop - padding
