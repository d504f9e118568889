"""Lanes: the client's side of a session. One for volatile sessions, one for durable ones.

The idea: a lane gives sequence numbers to calls and keeps the acknowledgement mark: the highest number such that the
client is done with it and with all below. The mark rides on every request, so that acknowledging costs no message.

The rules: a number is never given twice in a session; no more than `window` calls are beyond the mark (the others wait
here, because the server must never have to forget a reply to make room); the mark never goes back.
"""

from __future__ import annotations

from collections import deque

from onerack.rpc.messages import NO_SESSION


class Lane:
    """Sequence numbers of one session at a time. Calls are named by the client's own numbers."""

    __slots__ = (
        "_done",
        "ack",
        "durable",
        "heard_at",
        "lease_s",
        "limit",
        "next_seq",
        "opening",
        "session",
        "waiting",
        "window",
    )

    def __init__(self, *, durable: bool) -> None:
        self.durable = durable
        self.waiting: deque[int] = deque()
        """Calls without a number yet."""
        self.opening: int | None = None
        """The number under which a session was asked for."""
        self.heard_at = 0.0
        """When the session was last spoken of to the server."""
        self.reset()

    def reset(self) -> None:
        """The session is lost, or there was none."""
        self.session = NO_SESSION
        self.window = 0
        self.lease_s = 0.0
        self.ack = 0
        self.limit = 0
        """The last number that may be given now."""
        self.next_seq = 1
        self._done: set[int] = set()

    def opened(self, session: int, window: int, lease_s: float, now: float) -> None:
        self.session = session
        self.window = window
        self.limit = self.ack + window
        self.lease_s = lease_s
        self.heard_at = now
        self.opening = None

    @property
    def has_room(self) -> bool:
        return self.next_seq <= self.limit

    @property
    def is_idle(self) -> bool:
        """Nothing is unacknowledged."""
        return self.ack == self.next_seq - 1

    def take_seq(self) -> int:
        """Requires: `has_room`."""
        seq = self.next_seq
        self.next_seq = seq + 1
        return seq

    def finish(self, seq: int) -> None:
        """The client is done with this call, however it ended."""
        if seq != self.ack + 1:
            self._done.add(seq)
            return
        ack = seq
        done = self._done
        while done and ack + 1 in done:
            ack += 1
            done.remove(ack)
        self.ack = ack
        self.limit = ack + self.window
