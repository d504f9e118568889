"""Sending: the half of a connection that writes, within the windows that the peer grants.

The idea: headers, trailers and control frames are put into the output at once. DATA goes there only as far as the
peer's windows and the socket allow, and waits in its stream's queue until then. Streams that could send if the
connection could stand in a line and get 64 KiB each in turn; those whose own window is shut stand outside of it.

The rule: `output` is written in one piece. Nothing is written while the wire is blocked.
Source: RFC 9113, sections 5.2 and 6.9.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Final

from onerack.config import KIB
from onerack.kv.server.http2 import frames
from onerack.kv.server.http2.frames import (
    DATA,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_BYTES_MAX,
    HEAD,
    PROTOCOL_ERROR,
    WINDOW_MAX,
    ConnectionFailure,
    StreamFailure,
)
from onerack.kv.server.http2.headers import SIZE_UPDATE
from onerack.kv.server.http2.limits import Limits
from onerack.kv.server.http2.streams import Stream
from onerack.rpc.transports.wire import Wire

_TURN_BYTES: Final = 64 * KIB
"""Of one stream, before the next gets its turn."""
_WRITE_BYTES: Final = 256 * KIB


class Sending:
    """See above. A connection is one of these that can also read."""

    def __init__(self, wire: Wire, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.wire = wire
        self.limits = limits
        self.loop = loop
        self.streams: dict[int, Stream] = {}
        self.output: list[bytes] = []
        self.is_open = True
        self.is_lost = False
        self.is_in_batch = False
        """A flush will follow by itself."""
        self.is_smooth = True
        """Nothing stands in the way of an answer but the windows: it may go into the output as it is."""
        self.send_room = frames.INITIAL_WINDOW_DEFAULT
        """The connection's window."""
        self.initial_window = frames.INITIAL_WINDOW_DEFAULT
        """Of each stream."""
        self.waiting_bytes = 0
        """In the queues of all streams."""
        self.noise = 0
        """Frames that came and moved nothing, less those that did. Below 0 is 0."""
        self._stalled_at = 0.0
        self._context = Context()
        self._is_blocked = False
        self._is_deaf = False
        self._will_flush = False
        self._is_finished = False
        self._owes_size_update = False
        self._line: dict[int, Stream] = {}
        """Have DATA, and room in their own window."""
        self._stalled: dict[int, Stream] = {}
        """Have DATA."""

    # ------------------------------------------------------------------------------------------------ the output

    def put(self, content: bytes) -> None:
        """To leave with the next flush, which is at the end of this turn of the loop at the latest."""
        self.output.append(content)
        if not self.is_in_batch and not self._will_flush:
            self.flush_soon()

    def flush_soon(self) -> None:
        if not self._will_flush:
            self._will_flush = True
            self.loop.call_soon(self._flush_in_turn, context=self._context)

    def flush(self) -> None:
        output = self.output
        if output and not self._is_blocked and not self.is_lost:
            content = output[0] if len(output) == 1 else b"".join(output)
            output.clear()
            if not self.wire.write((content,)):
                self._is_blocked = True
                self.is_smooth = False
        if not self.is_open:
            self.finish_output()

    def unblock(self) -> None:
        """The wire takes more."""
        self._is_blocked = False
        self._smooth_or_not()
        self.flush()
        self.pump()
        self.flush()

    def finish_output(self) -> None:
        """Says that nothing more comes, as soon as that is true."""
        if not self.output and not self._is_blocked and not self._is_finished and not self.is_lost:
            self._is_finished = True
            self.wire.finish()

    def hear_or_not(self) -> None:
        """A client that does not listen is not heard either."""
        if not self.is_open:
            is_deaf = False
        elif self._is_blocked:
            is_deaf = self._is_deaf or sum(map(len, self.output)) + self.waiting_bytes > self.limits.deaf_bytes
        else:
            is_deaf = False
        if is_deaf != self._is_deaf:
            self._is_deaf = is_deaf
            (self.wire.pause_reading if is_deaf else self.wire.resume_reading)()

    def debt(self) -> bytes:
        """What the next header block must begin with."""
        if not self._owes_size_update:
            return b""
        self._owes_size_update = False
        self._smooth_or_not()
        return SIZE_UPDATE

    def _flush_in_turn(self) -> None:
        self._will_flush = False
        self.flush()

    def _smooth_or_not(self) -> None:
        self.is_smooth = not self._is_blocked and not self._owes_size_update and not self._line

    # ------------------------------------------------------------------------------------------------ the windows

    def set(self, name: int, value: int) -> None:
        """A setting of the peer's. Raises: ConnectionFailure: it is out of range."""
        if name == frames.INITIAL_WINDOW_SIZE:
            self._set_initial_window(value)
        elif name == frames.HEADER_TABLE_SIZE and value < frames.HEADER_TABLE_DEFAULT:
            self._owes_size_update = True
            self._smooth_or_not()
        elif name == frames.ENABLE_PUSH and value > 1:
            raise ConnectionFailure(PROTOCOL_ERROR, f"ENABLE_PUSH={value}")
        elif name == frames.MAX_FRAME_SIZE and not FRAME_BYTES_MAX <= value < 1 << 24:
            raise ConnectionFailure(PROTOCOL_ERROR, f"MAX_FRAME_SIZE={value}")

    def _set_initial_window(self, value: int) -> None:
        if value > WINDOW_MAX:
            raise ConnectionFailure(FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE={value}")
        has_grown = value > self.initial_window
        self.initial_window = value
        if has_grown:
            if any(value + stream.credit > WINDOW_MAX for stream in self.streams.values()):
                raise ConnectionFailure(FLOW_CONTROL_ERROR, "a window of more than 2^31-1")
            for stream in self._stalled.values():
                if value + stream.credit > 0:
                    self._line[stream.id] = stream
            self._smooth_or_not()

    def widen_connection(self, increment: int) -> None:
        if not increment:
            raise ConnectionFailure(PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        self.send_room += increment
        if self.send_room > WINDOW_MAX:
            raise ConnectionFailure(FLOW_CONTROL_ERROR, "a window of more than 2^31-1")
        if self._line:
            self.pump()

    def widen_stream(self, stream: Stream, increment: int) -> None:
        if not increment:
            raise StreamFailure(PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        stream.credit += increment
        if stream.credit + self.initial_window > WINDOW_MAX:
            raise StreamFailure(FLOW_CONTROL_ERROR, "a window of more than 2^31-1")
        if stream.queue:
            self._line[stream.id] = stream
            self.pump()

    # ------------------------------------------------------------------------------------------------ the queues

    def enqueue(self, stream: Stream, size: int) -> None:
        """The stream's queue has got so many bytes more."""
        self.waiting_bytes += size
        self._line[stream.id] = stream
        self.pump()
        if stream.queue and stream.id not in self._stalled:
            self._stall(stream)
        if self.waiting_bytes > self.limits.waiting_bytes_max:
            self.fail(ENHANCE_YOUR_CALM, f"{self.waiting_bytes} bytes of answers wait; take them")

    def fail(self, code: int, text: str) -> None:
        raise NotImplementedError

    def drop_queue(self, stream: Stream) -> None:
        if stream.queue:
            self.waiting_bytes -= stream.waiting_bytes
            stream.waiting_bytes = 0
            stream.queue.clear()
        self._line.pop(stream.id, None)
        self._stalled.pop(stream.id, None)
        self._smooth_or_not()

    def pump(self) -> None:
        """Moves DATA from the queues to the output, as much as may leave now."""
        drained: list[Stream] = []
        unwritten = 0
        while self._line and self.send_room > 0 and not self._is_blocked:
            stream = self._line.pop(next(iter(self._line)))
            unwritten += self._pump_one(stream)
            if not stream.queue:
                if self._stalled.pop(stream.id, None) is not None:
                    drained.append(stream)
                if stream.end_block is not None:
                    stream.write_end()
            if unwritten >= _WRITE_BYTES:
                unwritten = 0
                self.flush()
        self._smooth_or_not()
        for stream in drained:
            if stream.is_live:
                stream.drained()

    def _pump_one(self, stream: Stream) -> int:
        """Up to a turn's bytes of one stream. It stands in the line again if it has more, and room for it."""
        queue = stream.queue
        assert queue is not None
        sent = 0
        while queue and sent < _TURN_BYTES:
            room = min(self.send_room, self.initial_window + stream.credit, FRAME_BYTES_MAX)
            if room <= 0:
                break
            payload = queue[0]
            if len(payload) <= room:
                queue.popleft()
            else:
                queue[0] = memoryview(payload)[room:]
                payload = payload[:room]
            size = len(payload)
            self.put(HEAD.pack(size << 8 | DATA, 0, stream.id) + payload)
            stream.credit -= size
            self.send_room -= size
            sent += size
            self.noise -= 4  # The peer may say that it has taken it.
        stream.waiting_bytes -= sent
        self.waiting_bytes -= sent
        if queue:
            if sent:
                self._stall(stream)
            if self.initial_window + stream.credit > 0:
                self._line[stream.id] = stream
        return sent

    def _stall(self, stream: Stream) -> None:
        stream.stalled_at = self.loop.time()
        self._stalled[stream.id] = stream

    def end_stalled(self, now: float) -> None:
        """Answers that are complete, and of which the peer takes nothing, are given up. Streams may be slow."""
        limit = now - self.limits.stall_timeout_s
        if now < self._stalled_at + self.limits.stall_timeout_s / 16:
            return
        self._stalled_at = now
        for stream in [one for one in self._stalled.values() if one.stalled_at < limit and one.end_block is not None]:
            stream.reset(frames.ENHANCE_YOUR_CALM)
            stream.cancelled()
