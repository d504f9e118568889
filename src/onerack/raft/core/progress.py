"""Progress: what the leader knows of one follower, and what it may send it.

The idea: three states, as a leader learns more or less about the follower's log.

    probe       where the logs agree is a guess: one Append is outstanding, and its answer decides
    replicate   it is known: Appends follow each other without waiting, within a window of messages and bytes
    snapshot    the entries that it needs are gone: nothing is sent until the host has carried a snapshot over

Whatever is lost leads back to probe: a refusal does, and each answered heartbeat of a follower that lags asks for one.

The rules: `match` never falls; `match < next`; the window is only ever left by one single entry that is longer.

Source: Ongaro & Ousterhout 2014, section 5.3; Ongaro's dissertation 2014, section 10.2.1 (pipelining).
"""

from __future__ import annotations

from collections import deque
from typing import Literal

ProgressState = Literal["probe", "replicate", "snapshot"]


class Progress:
    """One follower, as its leader sees it."""

    __slots__ = (
        "acked_round", "asks", "heard_at", "hurry_until", "in_flight", "in_flight_bytes", "match", "next",
        "snapshot_until", "state", "told_commit", "waits",
    )  # fmt: skip

    def __init__(self, next_index: int, now: float) -> None:
        self.state: ProgressState = "probe"
        self.match = 0
        """Up to here its log surely equals the leader's, on its disk."""
        self.next = next_index
        """The next entry to send."""
        self.told_commit = 0
        """The commit index in the last Append; it may have been lost, which the next heartbeat makes good."""
        self.hurry_until = 0
        """Somebody there waits to hear that everything up to this index is committed."""
        self.waits = False
        """In probe: the answer is outstanding."""
        self.asks = False
        """Send an Append even if there is nothing in it, to find out what has been lost."""
        self.in_flight: deque[tuple[int, int]] = deque()
        """In replicate: the last index and the bytes of each Append that is not answered."""
        self.in_flight_bytes = 0
        self.heard_at = now
        """When it last said something in this term; it begins with a pardon."""
        self.acked_round = 0
        """The last round of heartbeats that it has answered."""
        self.snapshot_until = 0.0
        """In snapshot: after this moment the host's silence means failure."""

    # -------------------------------------------------------------------------------------------------- sending

    def may_send(self, messages_max: int, bytes_max: int) -> bool:
        if self.state == "probe":
            return not self.waits
        if self.state == "snapshot":
            return False
        return self.asks or (len(self.in_flight) < messages_max and self.in_flight_bytes < bytes_max)

    def hurry(self, index: int) -> None:
        self.hurry_until = max(self.hurry_until, index)

    def note_sent(self, last_index: int, size: int, commit: int) -> None:
        """An Append has gone whose last entry is `last_index`; if it is empty, `last_index` is before `next`."""
        self.told_commit = max(self.told_commit, commit)
        self.asks = False
        if self.state == "probe":
            self.waits = True
        elif last_index >= self.next:
            self.in_flight.append((last_index, size))
            self.in_flight_bytes += size
            self.next = last_index + 1

    # -------------------------------------------------------------------------------------------------- answers

    def accept(self, index: int) -> None:
        """Its log equals the leader's up to `index`."""
        self.match = max(self.match, index)
        while self.in_flight and self.in_flight[0][0] <= index:
            self.in_flight_bytes -= self.in_flight.popleft()[1]
        if self.state == "probe":
            self.become_replicate()
        self.next = max(self.next, self.match + 1)

    def is_stale_refusal(self, index: int) -> bool:
        """A refusal that speaks of what has been settled since."""
        if self.state == "probe":
            return index != self.next - 1 or index <= self.match
        return self.state == "snapshot" or index <= self.match or index >= self.next

    def refuse(self, index: int, agreeable: int) -> None:
        """It has not what lies at `index`; further back, at `agreeable`, it may agree."""
        self._leave()
        self.state = "probe"
        self.next = max(min(index, agreeable + 1), self.match + 1)

    # --------------------------------------------------------------------------------------------------- states

    def become_probe(self) -> None:
        self._leave()
        self.state = "probe"
        self.next = self.match + 1

    def become_replicate(self) -> None:
        self._leave()
        self.state = "replicate"
        self.next = self.match + 1

    def become_snapshot(self, until: float) -> None:
        self._leave()
        self.state = "snapshot"
        self.snapshot_until = until

    def _leave(self) -> None:
        self.waits = self.asks = False
        self.in_flight.clear()
        self.in_flight_bytes = 0
