"""The connection: HTTP/2 on a wire, from the server's end.

    wire -> space, arrived -> frames -> stream.take -> the application       receiving.py
    the application -> stream.write, end -> put -> flush -> wire             sending.py

The idea: what is answered while a read is parsed leaves in one write after it, or after every 32 requests. What is
answered at other times leaves at the end of the loop's turn, so that a thousand answers share a write.

The life of a connection: shy (no preface yet); open; draining (no new requests); closing (we have said GOAWAY and wait
for the peer to end it, but not long); lost.

The rule: nothing that the peer says raises out of here, and nothing that it does not say is waited for without end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from onerack.config import KIB
from onerack.kv.server.http2 import frames
from onerack.kv.server.http2.frames import (
    ACK,
    ENHANCE_YOUR_CALM,
    HEAD_BYTES,
    INTERNAL_ERROR,
    NO_ERROR,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    SETTINGS,
    STREAM_MAX,
    ConnectionFailure,
)
from onerack.kv.server.http2.limits import Limits
from onerack.kv.server.http2.receiving import GOODBYE, Receiving, ServerBudget
from onerack.kv.server.http2.streams import Application
from onerack.rpc.link import Peer
from onerack.rpc.transports.wire import Wire

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


class Connection(Receiving):
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
        super().__init__(wire, peer, application, limits=limits, streams_max=streams_max, budget=budget)
        self._forget_me = forget_me
        self._rest = b""
        """Of the last read: a frame that has not come whole."""
        self._is_shy = True
        now = self.loop.time()
        self._born_at = self._heard_at = self._grown_at = self._ticked_at = now
        self._has_heard = False
        self._asked_at: float | None = None
        """When the keepalive PING left that is on its way."""
        self._linger_until = 0.0

    def start(self) -> None:
        """Begins. We say nothing before the client has: it may speak another protocol."""
        self.wire.start(self)

    def _introduce(self) -> None:
        self._is_shy = False
        self.put(
            frames.settings(
                {
                    frames.MAX_CONCURRENT_STREAMS: self.streams_max,
                    frames.INITIAL_WINDOW_SIZE: self.limits.stream_window_bytes,
                    frames.MAX_HEADER_LIST_SIZE: self.limits.header_list_bytes_max,
                }
            )
        )
        more = self.limits.connection_window_bytes - frames.INITIAL_WINDOW_DEFAULT
        assert more >= 0, "SETTINGS cannot make the connection's window smaller"
        if more:
            self.put(frames.window_update(0, more))

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
            self._rest = buffer[self.parse(buffer, start) :] if not self._is_shy else buffer[start:]
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
        self.end_if_done()

    def ended(self, error: Exception | None) -> None:
        self.is_lost = True
        self._close()
        self._forget_me(self)

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

    # ------------------------------------------------------------------------------------------------ the end

    def drain(self) -> None:
        """Lets the client know that it should go elsewhere; what it has begun, or is about to begin, is served."""
        if not self.is_open:
            return
        if self._is_shy:
            self._close_after_output()
        elif not self.is_draining:
            self.is_draining = True
            self.put(frames.goaway(STREAM_MAX, NO_ERROR) + frames.frame(PING, 0, 0, GOODBYE))
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

    def name_last(self) -> None:
        if self.may_open:
            self.may_open = False
            self.put(frames.goaway(self.last_stream, NO_ERROR))
            self.end_if_done()

    def end_if_done(self) -> None:
        if self.is_open and self.is_draining and not self.may_open and not self.streams:
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
        self._rest = b""
        self.headers.cache.clear()
        for stream in list(self.streams.values()):
            self.forget(stream)
            stream.cancelled()

    # ------------------------------------------------------------------------------------------------ the clock

    def tick(self, now: float) -> None:
        """From the listener, a few times a second."""
        if not self.is_open:
            if now >= self._linger_until:
                self.wire.abort()
            return
        self._forgive(now)
        for expires_at, stream in list(self.timed.values()):
            if expires_at <= now and stream.is_live:
                self.timed.pop(stream.id, None)
                stream.expired()
        self._look_for_silence(now)
        if self.is_draining and self.may_open and now >= self._linger_until:
            self.name_last()  # A peer that does not answer PING has had its time.
        self.end_stalled(now)
        self.flush()

    def _look_for_silence(self, now: float) -> None:
        limits = self.limits
        if self._has_heard:
            self._has_heard, self._asked_at, self._heard_at = False, None, now
        if self.has_grown or not self.unfinished_bytes:
            self.has_grown, self._grown_at = False, now
        if self._is_shy and now - self._born_at > limits.preface_timeout_s:
            self.fail(PROTOCOL_ERROR, f"no preface within {limits.preface_timeout_s:g} s")
        elif now - self._grown_at > limits.stall_timeout_s:
            self.fail(ENHANCE_YOUR_CALM, f"a request has not gone on for {limits.stall_timeout_s:g} s")
        elif self._asked_at is not None:
            # Counted from the question: if this process has stood still, it has not heard anybody.
            if now - self._asked_at > limits.keepalive_timeout_s:
                self._close()
                self.wire.abort()
        elif now - self._heard_at > limits.keepalive_s:
            self._asked_at = now
            self.put(frames.frame(PING, 0, 0, b"are you?"))

    def _forgive(self, now: float) -> None:
        passed, self._ticked_at = now - self._ticked_at, now
        self.noise = max(0, self.noise - int(passed * self.limits.noise_forgiven_per_s + 0.5))
        self.resets = max(0, self.resets - int(passed * self.limits.resets_forgiven_per_s + 0.5))
