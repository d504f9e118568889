"""Replication: the leader brings every log to its own, and counts what a quorum has.

The idea: nothing is sent while messages come in. When the host drains, each follower gets what its window allows: so
one turn's proposals and answers become one message per follower, however many there were. The news that the commit
index has moved waits a moment for the next entries to travel with, unless somebody there waits for it; then, if none
come, it goes in an empty Append.

The rules: a leader counts its own entries only when they are durable, like anybody's; it commits by counting only an
entry of its own term, and with it everything before (Figure 8); it never changes its own log except by appending. A
witness gets entries without their payloads, but the same places, and only what its leader cannot lose any more.

Source: Ongaro & Ousterhout 2014, sections 5.3 and 5.4.2; Ongaro's dissertation 2014, sections 10.2 and 11.7.2.
"""

from __future__ import annotations

import math

from onerack.raft.core.progress import Progress
from onerack.raft.core.quorum import reached
from onerack.raft.core.state import PeerState
from onerack.raft.messages import (
    Append,
    Appended,
    Entry,
    Heartbeat,
    HeartbeatReply,
    Kind,
    SendSnapshot,
    SnapshotSent,
)
from onerack.runtime.seam import NodeId

SNAPSHOT_PATIENCE = 200
"""A snapshot under way is given up after so many election timeouts without a word from the host."""


class Replication:
    """Empty unless this node leads."""

    def __init__(self, state: PeerState) -> None:
        self._state = state
        self.progress: dict[NodeId, Progress] = {}
        """Everybody else who gets the log, by name in sorted order."""
        self.uncommitted_bytes = 0
        self.notice_at = math.inf
        """When those are told of the commit index who have had no entries since it moved."""

    def begin(self) -> None:
        """Requires: this node has just become leader."""
        self.progress = {}
        self.follow_configuration()
        state = self._state
        self.uncommitted_bytes = state.log.bytes_from(state.commit + 1)

    def end(self) -> None:
        self.progress = {}
        self.uncommitted_bytes = 0
        self.notice_at = math.inf

    def follow_configuration(self) -> None:
        """Those who take part now: the known ones as they are, the new ones from the start."""
        state = self._state
        self.progress = {
            node: self.progress.get(node) or Progress(state.log.last_index + 1, state.now)
            for node in state.memberships.taking_part(state.commit)
            if node != state.node
        }

    def append(self, kind: Kind, payload: bytes) -> Entry:
        """The leader's own log grows."""
        state = self._state
        entry = Entry(state.term, state.log.last_index + 1, kind, payload)
        self.uncommitted_bytes += len(payload)
        if state.append((entry,)):
            self.follow_configuration()
        return entry

    # ------------------------------------------------------------------------------------------------- counting

    def match_of(self, node: NodeId) -> int:
        if node == self._state.node:
            return self._state.log.durable
        progress = self.progress.get(node)
        return progress.match if progress is not None else 0

    def hurry(self, index: int) -> None:
        """Somebody waits, at any node, to hear that this entry is committed."""
        for progress in self.progress.values():
            progress.hurry(index)

    def heard_at(self, node: NodeId) -> float:
        if node == self._state.node:
            return self._state.now
        progress = self.progress.get(node)
        return progress.heard_at if progress is not None else 0.0

    def count(self) -> bool:
        """Commits what a quorum has. True when the commit index moved."""
        state = self._state
        index = reached(state.configuration, self.match_of, 0)
        if index <= state.commit or state.log.term_at(index) != state.term:
            return False
        committed = state.log.between(state.commit + 1, index)
        self.uncommitted_bytes -= sum(len(entry.payload) for entry in committed)
        state.commit_to(index)
        self.notice_at = min(self.notice_at, state.now + state.config.commit_notice_s)
        return True

    def quorum_is_near(self) -> bool:
        """Has a quorum been heard within the election timeout? If not, another leader may exist by now."""
        state = self._state
        heard_at = reached(state.configuration, self.heard_at, 0.0)
        return state.now - heard_at < state.config.election_timeout_s

    def is_caught_up(self, node: NodeId, slack: int) -> bool:
        progress = self.progress.get(node)
        return (
            progress is not None
            and progress.state == "replicate"
            and progress.match + slack >= self._state.log.last_index
        )

    # ------------------------------------------------------------------------------------------------- sending

    @property
    def wants_to_send(self) -> bool:
        """Whether there is anything that a window has room for."""
        return any(self._wants(node, progress) for node, progress in self.progress.items())

    def send_appends(self) -> None:
        """To everybody what the windows allow."""
        state = self._state
        is_told = state.now >= self.notice_at  # Whoever cannot be told now will hear it with a heartbeat.
        for node, progress in self.progress.items():
            while self._wants(node, progress) and self._send_append(node, progress):
                pass
        if is_told or (self.notice_at < math.inf and self._everybody_knows(state.commit)):
            self.notice_at = math.inf

    def _everybody_knows(self, commit: int) -> bool:
        return all(progress.told_commit >= commit for progress in self.progress.values())

    def _wants(self, node: NodeId, progress: Progress) -> bool:
        state, config = self._state, self._state.config
        has_news = progress.next <= state.log.last_index or progress.told_commit < state.commit
        if not (has_news or progress.asks):
            return False
        if not progress.may_send(config.in_flight_max, config.in_flight_bytes_max):
            return False
        if progress.asks or progress.next <= self._last_for(node):
            return True
        is_due = state.now >= self.notice_at or progress.told_commit < progress.hurry_until
        return is_due and progress.told_commit < state.commit

    def _send_append(self, node: NodeId, progress: Progress) -> bool:
        """False when there is nothing to send that would help."""
        state = self._state
        before = progress.next - 1
        term = state.log.term_at(before)
        if term is None:
            return self._send_snapshot(node, progress)
        # One that only asks what was lost goes past the window, so it must not carry anything.
        batch = [] if progress.asks and progress.state != "probe" else self._batch(node, progress.next)
        size = sum(len(entry.payload) for entry in batch)
        quiet = not batch and not progress.asks and progress.state == "replicate"
        state.send_early(node, Append(state.term, before, term, state.commit, tuple(batch), quiet))
        progress.note_sent(before + len(batch), size, state.commit)
        return True

    def _last_for(self, node: NodeId) -> int:
        """A witness can give no payload back. If it had an entry that no electable voter has, or that this node then
        lost in a crash, nobody might be electable any more: so it gets only what is durable at one that votes."""
        state, configuration = self._state, self._state.configuration
        if node not in configuration.witnesses:
            return state.log.last_index
        if state.node in configuration.voters:
            return state.log.durable
        # This node leads a group that it is about to leave: what only it has counts for nothing.
        return max(self.match_of(voter) for voter in configuration.voters if voter not in configuration.witnesses)

    def _batch(self, node: NodeId, first: int) -> list[Entry]:
        batch = self._state.log.batch_from(first, self._state.config.append_bytes_max)
        if node not in self._state.configuration.witnesses:
            return batch
        last = self._last_for(node)
        return [
            Entry(entry.term, entry.index, entry.kind, b"") if entry.kind == Kind.COMMANDS else entry
            for entry in batch
            if entry.index <= last
        ]

    def _send_snapshot(self, node: NodeId, progress: Progress) -> bool:
        """What it needs is gone. A node that is silent is not sent a snapshot: it may be dead."""
        state = self._state
        timeout = state.config.election_timeout_s
        if state.now - progress.heard_at < timeout:
            progress.become_snapshot(state.now + SNAPSHOT_PATIENCE * timeout)
            state.tell(SendSnapshot(node, state.term))
            state.event("sends_snapshot", to=node)
        return False

    def send_heartbeats(self, number: int) -> None:
        """`number`: the round of reads that the answers confirm."""
        state = self._state
        for node, progress in self.progress.items():
            if progress.state == "snapshot" and state.now >= progress.snapshot_until:
                progress.become_probe()
            state.send_early(node, Heartbeat(state.term, min(progress.match, state.commit), number))

    # ------------------------------------------------------------------------------------------------- answers

    def take_appended(self, message: Appended, follower: NodeId) -> bool:
        """True when its match may have moved."""
        state = self._state
        progress = self.progress.get(follower)
        if progress is None:
            return False
        progress.heard_at = state.now
        if message.index > state.log.last_index:
            state.event("malformed_appended", sender=follower, index=message.index)
        elif message.accepted:
            progress.accept(message.index)
            if progress.state == "snapshot" and progress.match >= state.log.first_index - 1:
                progress.become_probe()
            return True
        elif not progress.is_stale_refusal(message.index):
            agreeable, _ = state.log.last_agreeable(message.hint_index, message.hint_term)
            progress.refuse(message.index, agreeable)
        return False

    def take_heartbeat_reply(self, message: HeartbeatReply, follower: NodeId) -> bool:
        """False for a stranger. A follower that lags is asked what it has: its Appends may have been lost."""
        progress = self.progress.get(follower)
        if progress is None:
            return False
        progress.heard_at = self._state.now
        progress.acked_round = max(progress.acked_round, message.round)
        progress.waits = False
        progress.asks = progress.state != "snapshot" and progress.match < self._state.log.last_index
        return True

    def take_snapshot_sent(self, message: SnapshotSent) -> None:
        progress = self.progress.get(message.to)
        if progress is None or message.index > self._state.log.last_index:
            return
        if message.done:
            progress.match = max(progress.match, message.index)
        if progress.state == "snapshot":
            progress.become_probe()
            # After a failure the next answered heartbeat tries again, not this very moment.
            progress.waits = not message.done
        progress.next = max(progress.next, progress.match + 1)
