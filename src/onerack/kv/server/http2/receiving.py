"""Receiving: the half of a connection that reads frames and gives them to streams.

The idea: all frames of one read are parsed in one loop over one buffer, and streams are given positions in it. After
every 32 requests what was answered leaves, so that client and server work at the same time.

The rule: what the peer does wrong ends the stream or the connection with the code that RFC 9113 names for it. Whatever
it makes us keep is counted before it is kept, and frames that move nothing are counted, too.
Source: RFC 9113, sections 4 to 6 and 10.5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

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
    PADDED,
    PING,
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

GOODBYE: Final = b"goodbye!"
"""The PING after the first GOAWAY: when it comes back, so has everything that was sent before the peer knew."""
_SETTINGS_NOISE: Final = 10
"""They may make us look at every stream."""
_SMALL_LIST_BYTES: Final = 1024


class ServerBudget:
    """What all connections of a server keep together."""

    def __init__(self) -> None:
        self.unfinished_bytes = 0


class Receiving(Sending):
    """See above. What ends the connection is in connection.py."""

    def __init__(
        self,
        wire: Wire,
        peer: Peer,
        application: Application,
        *,
        limits: Limits,
        streams_max: int,
        budget: ServerBudget,
    ) -> None:
        super().__init__(wire, limits, asyncio.get_running_loop())
        self.peer = peer
        self.timed: dict[int, tuple[float, Stream]] = {}
        self.last_stream = 0
        """The newest request."""
        self.unfinished_bytes = 0
        self.has_grown = False
        """Something has come of a message that is not whole."""
        self.resets = 0
        """Requests that the peer gave up, lately."""
        self.is_draining = False
        """It ends when the streams have."""
        self.may_open = True
        """False: the last GOAWAY has named the last request."""
        self.headers: HeaderReader[object] = HeaderReader(application.head_of, limits.header_list_bytes_max)
        self.streams_max = streams_max
        self._application = application
        self._budget = budget
        self._kept_bytes = 0
        """Long header lists of open requests."""
        self._receive_room = limits.connection_window_bytes
        self._receive_room_low = limits.connection_window_bytes // 2
        self._block_stream = 0
        """Whose header block goes on in the next frame; 0: nobody's."""
        self._block = bytearray()
        self._block_flags = 0
        self._continuations = 0
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

    def name_last(self) -> None:
        """Everything that the peer sent before it knew of our end has come."""
        raise NotImplementedError

    def end_if_done(self) -> None:
        raise NotImplementedError

    def parse(self, buffer: bytes, position: int) -> int:
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
        head = self.headers.cache.get(block)
        if head is None:
            head = self.headers.read(block)
            kept_bytes = self.headers.list_bytes
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
            self.may_open
            and len(self.streams) < self.streams_max
            and self._kept_bytes + list_bytes <= self.limits.unfinished_bytes_max
        )

    def _on_trailers(self, stream_id: int, block: bytes, flags: int) -> None:
        stream = self.streams.get(stream_id)
        if not stream_id or not stream_id & 1:
            raise ConnectionFailure(PROTOCOL_ERROR, f"HEADERS on stream {stream_id}")
        is_request = True
        try:
            self.headers.read(block)
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
        self.resets += 1
        if self.resets > self.limits.resets_max:
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
        elif buffer[start:stop] == GOODBYE and self.is_draining:
            self.name_last()

    def _on_goaway(self, flags: int, stream_id: int, buffer: bytes, start: int, stop: int) -> None:
        if stream_id:
            raise ConnectionFailure(PROTOCOL_ERROR, "GOAWAY belongs to no stream")
        if stop - start < 8:
            raise ConnectionFailure(FRAME_SIZE_ERROR, "GOAWAY has 8 bytes at least")
        self._note_noise()
        self.is_draining = True  # It opens no more; what is open goes on.
        self.may_open = False
        self.end_if_done()

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
        self.has_grown = True
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
        if self.is_draining and not self.streams:
            self.end_if_done()


def _without_padding(buffer: bytes, start: int, stop: int) -> tuple[int, int]:
    if start == stop:
        raise ConnectionFailure(FRAME_SIZE_ERROR, "a padded frame without the length of its padding")
    padding = buffer[start]
    if start + 1 + padding > stop:
        raise ConnectionFailure(PROTOCOL_ERROR, "more padding than frame")
    return start + 1, stop - padding
