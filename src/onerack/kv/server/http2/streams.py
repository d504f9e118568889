"""Streams: one request each, as the connection sees it; what it means is for the application to say.

The idea: what arrives on a stream is given to it as positions in the buffer of the read, so that nothing is copied
before somebody knows what it is. What leaves goes through the stream's queue as far as the peer's windows are shut.

The rule: DATA leaves in the order of `write`, and the trailers behind it. After `forget` the application hears nothing.
Source: RFC 9113, section 5.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from onerack.kv.server.http2.frames import CANCEL, END_STREAM, NO_ERROR, header_frames, rst_stream
from onerack.kv.server.http2.headers import Field
from onerack.kv.server.http2.limits import Limits
from onerack.rpc.link import Peer


class Carrier(Protocol):
    """The connection, as its streams see it."""

    peer: Peer
    limits: Limits
    loop: asyncio.AbstractEventLoop
    timed: dict[int, tuple[float, Stream]]
    """Streams that expire, and when."""
    is_smooth: bool
    """Nothing stands in the way of an answer but the windows: it may go into the output as it is."""
    send_room: int
    """The connection's window."""
    initial_window: int
    """Of each stream."""

    def put(self, content: bytes) -> None:
        """Frames that are to leave with the next flush."""

    def debt(self) -> bytes:
        """What the next header block must begin with."""

    def enqueue(self, stream: Stream, size: int) -> None:
        """The stream's queue has got so many bytes more."""

    def drop_queue(self, stream: Stream) -> None: ...

    def forget(self, stream: Stream) -> None:
        """It is over. Requires: it is live."""

    def note_message(self) -> None:
        """Something useful has come or gone."""

    def keep(self, size: int) -> bool:
        """So many bytes more (or fewer) of messages that have not come whole. False: there is no room for them."""


class Application(Protocol):
    """Who gives the requests a meaning."""

    def head_of(self, fields: Sequence[Field]) -> Any:
        """What a request's header list means. It is remembered: it must depend on nothing else, and not change.

        Raises: StreamFailure: it is malformed.
        """

    def open(self, connection: Carrier, stream_id: int, head: Any) -> Stream:
        """A request has come with this head. `begin` of the stream follows at once."""


class Stream:
    """One request and its answer. Subclasses say what happens to what arrives."""

    __slots__ = (
        "connection",
        "credit",
        "end_block",
        "held_bytes",
        "id",
        "is_half_closed",
        "is_live",
        "kept_bytes",
        "queue",
        "receive_room",
        "stalled_at",
        "waiting_bytes",
    )

    def __init__(self, connection: Carrier, stream_id: int) -> None:
        self.connection = connection
        self.id = stream_id
        self.is_live = True
        """Until both sides have ended it, or one has reset it."""
        self.is_half_closed = False
        """The peer has said all it wants to say."""
        self.credit = 0
        """The send window, less the initial window: so a change of that one changes all."""
        self.receive_room = connection.limits.stream_window_bytes
        self.held_bytes = 0
        """Of messages that have not come whole, or are not given out yet."""
        self.kept_bytes = 0
        """Of its header list, if that is long."""
        self.queue: deque[bytes | memoryview] | None = None
        self.waiting_bytes = 0
        """Of DATA in the queue."""
        self.end_block: bytes | None = None
        """Trailers that leave when the queue is empty."""
        self.stalled_at = 0.0
        """When some of the queue left last."""

    # ------------------------------------------------------------------------------------------------ arriving

    def begin(self) -> None:
        """It is open now, and may be answered."""

    def take(self, buffer: bytes, start: int, stop: int, is_last: bool) -> None:
        """DATA has come. `is_last`: the peer says nothing more, and this may be nothing."""

    def cancelled(self) -> None:
        """The peer has reset it, or is lost. The stream is not live any more."""

    def expired(self) -> None:
        """Its time is over (see `Carrier.timed`)."""

    def drained(self) -> None:
        """The queue was long, and is empty now."""

    # ------------------------------------------------------------------------------------------------ leaving

    def write_headers(self, block: bytes) -> None:
        if self.is_live:
            connection = self.connection
            connection.put(header_frames(self.id, connection.debt() + block, 0))

    def write(self, payload: bytes) -> None:
        """DATA. It waits if a window is shut or the socket is full."""
        if self.is_live and self.end_block is None and payload:
            if self.queue is None:
                self.queue = deque()
            self.queue.append(payload)
            self.waiting_bytes += len(payload)
            self.connection.enqueue(self, len(payload))

    def end(self, block: bytes) -> None:
        """Trailers, or a whole header list if nothing was written before."""
        if self.is_live and self.end_block is None:
            self.end_block = block
            if not self.queue:
                self.write_end()

    def write_end(self) -> None:
        """Requires: the queue is empty, and `end` was called."""
        assert self.end_block is not None
        connection = self.connection
        connection.put(header_frames(self.id, connection.debt() + self.end_block, END_STREAM))
        if not self.is_half_closed:
            # Who has been answered need not go on asking. (RFC 9113, 8.1)
            connection.put(rst_stream(self.id, NO_ERROR))
        connection.forget(self)

    def reset(self, code: int = CANCEL) -> None:
        """Ends it without an answer."""
        if self.is_live:
            self.connection.put(rst_stream(self.id, code))
            self.connection.forget(self)
