"""The watch: what a connection's one timer looks at. Pure: time is an argument.

    the peer has not introduced itself      no message at all came within hello_timeout_s
    something stands still halfway          a frame, or a transfer, of which too little came within hello_timeout_s
    silence                                 nothing for keepalive_interval_s: ask; no answer: the peer is gone

The idea: nothing is noted per message. The connection counts what it does anyway, and the watch compares the counts of
now with those of some ticks ago.

The rule: time in which we do not read does not count against the peer. In that time nothing of what it says is heard,
its questions neither, so we say unasked that we are alive. (When we do not read because it takes nothing of what waits
for it, taking some is the sign of life that we wait for.)
"""

from __future__ import annotations

from typing import Final, NamedTuple

from onerack.config import RpcConfig
from onerack.errors import ProtocolError
from onerack.rpc.messages import Ping, Pong
from onerack.rpc.transports.frames import LARGE_BYTES

_TICKS: Final = 4
"""In the shortest of the times: the precision of all of them is a quarter of it."""


class Seen(NamedTuple):
    """What a connection says of itself at a tick."""

    is_reading: bool
    """False: our own side does not want to."""
    is_deaf: bool
    """Nothing is read until the peer has taken some of what waits for it."""
    has_heard: bool
    """Anything came since the last tick, or was taken by the peer after it had not."""
    is_introduced: bool
    half_frame: int | None
    """Where in the stream a small frame begins that is not complete."""
    large_bytes: int | None
    """What has come of large frames and transfers; None: there is none."""
    large_finished: int


class _Standstill:
    """Since when a figure has been the same."""

    def __init__(self) -> None:
        self._figure: object = None
        self._since = 0.0

    def lasts(self, figure: object, now: float) -> float:
        if figure is None or figure != self._figure:
            self._figure = figure
            self._since = now
        return now - self._since


class Watch:
    """Of one connection. `must_introduce`: the peer has to say something soon."""

    def __init__(self, config: RpcConfig, now: float, *, must_introduce: bool) -> None:
        self._config = config
        self._frame = _Standstill()
        self._transfer = _Standstill()
        self._stranger_since: float | None = now if must_introduce else None
        self._heard_at = now
        self._asked_at: float | None = None
        self._pings = 0
        self.period_s = min(config.hello_timeout_s, config.keepalive_interval_s, config.keepalive_timeout_s) / _TICKS

    def tick(self, now: float, seen: Seen) -> Ping | Pong | None:
        """What is to be sent.

        Raises: ProtocolError: the peer stands still. ConnectionError: it is gone.
        """
        if not seen.is_reading:
            self._forget(now)
            return Pong(0)
        if seen.is_deaf:
            self._frame, self._transfer = _Standstill(), _Standstill()
        else:
            self._check_progress(now, seen)
        if seen.has_heard:
            self._heard_at = now
            self._asked_at = None
            return None
        if self._asked_at is not None:
            if now - self._asked_at >= self._config.keepalive_timeout_s:
                raise ConnectionError(f"the peer has said nothing for {now - self._heard_at:.3g} s")
            return None
        if now - self._heard_at < self._config.keepalive_interval_s:
            return None
        self._asked_at = now
        self._pings += 1
        return Ping(self._pings)

    def _check_progress(self, now: float, seen: Seen) -> None:
        patience = self._config.hello_timeout_s
        if self._stranger_since is not None:
            if seen.is_introduced:
                self._stranger_since = None
            elif now - self._stranger_since >= patience:
                raise ProtocolError(f"the peer has not introduced itself within {patience:g} s")
        if self._frame.lasts(seen.half_frame, now) >= patience:
            raise ProtocolError(f"a message stands still halfway for {patience:g} s")
        progress = None if seen.large_bytes is None else (seen.large_bytes // LARGE_BYTES, seen.large_finished)
        if self._transfer.lasts(progress, now) >= patience:
            raise ProtocolError(f"of an attachment less than {LARGE_BYTES} bytes have come within {patience:g} s")

    def _forget(self, now: float) -> None:
        self._heard_at = now
        self._asked_at = None
        self._frame = _Standstill()
        self._transfer = _Standstill()
        if self._stranger_since is not None:
            self._stranger_since = now
