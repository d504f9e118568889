"""The peer: one node of a raft cluster; takes every message, and says what must happen outside.

The idea: one method per message, in the order of the protocol. Each looks at the role and hands over to the part that
knows: `election`, `following`, `replication`, `reads`, `proposals`; how roles follow each other is in `roles`.

The rules: a message of an older term changes nothing, and is answered with the term, so that its sender cannot be
stuck; one of a newer term makes any node a follower of that term, except a request for a vote that is ignored, and
what belongs to a pre-vote. The disk works while messages come in: `Synced` answers the one Output under way, and only
what has not been changed since counts as durable.

Source: Ongaro & Ousterhout 2014, Figure 2 and Figure 4; Ongaro's dissertation 2014, chapters 3, 4, 6, 9 and 10.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from onerack.config import RaftConfig
from onerack.errors import check
from onerack.raft.core.following import Following
from onerack.raft.core.reads import Reader
from onerack.raft.core.roles import Roles
from onerack.raft.messages import (
    NOBODY,
    Append,
    Appended,
    Change,
    Committed,
    FindReadIndex,
    FoundReadIndex,
    Heartbeat,
    HeartbeatReply,
    Kind,
    Propose,
    Read,
    Recovered,
    RequestVote,
    SnapshotArrived,
    SnapshotMark,
    SnapshotSent,
    SnapshotTaken,
    Synced,
    TimeoutNow,
    Transfer,
    Vote,
)
from onerack.runtime.seam import NodeId, Output, Tick


class RaftCore(Roles):
    """The pure core of one node."""

    def __init__(self, node: NodeId, recovered: Recovered, config: RaftConfig, random: Random, now: float) -> None:
        super().__init__(node, recovered, config, random, now)
        self._following = Following(self._state)
        self._saved = recovered.hard_state
        """What the disk has, or was given."""
        self._writing: int | None = None
        """The last index of the Output whose writes are under way."""
        if config.lease_reads:
            # Before this run it may have heard a leader whose lease counts on it.
            self._state.heard_at = now
        self._handlers: dict[type, Callable[[Any, NodeId, float], None]] = {
            RequestVote: self.on_request_vote,
            Vote: self.on_vote,
            Append: self.on_append,
            Appended: self.on_appended,
            Heartbeat: self.on_heartbeat,
            HeartbeatReply: self.on_heartbeat_reply,
            TimeoutNow: self.on_timeout_now,
            FindReadIndex: self.on_find_read_index,
            FoundReadIndex: self.on_found_read_index,
            Propose: self.on_propose,
            Read: self.on_read,
            Change: self.on_change,
            Transfer: self.on_transfer,
            Synced: self.on_synced,
            SnapshotTaken: self.on_snapshot_taken,
            SnapshotSent: self.on_snapshot_sent,
            SnapshotArrived: self.on_snapshot_arrived,
            Tick: self.on_tick,
        }

    # ------------------------------------------------------------------------------------------------ the seam

    def step(self, message: Any, sender: NodeId, now: float) -> None:
        self._state.now = now
        self._handlers[type(message)](message, sender, now)

    @property
    def has_work(self) -> bool:
        """Whether a drain would give anything. If not it may wait: what was stepped has only been noted."""
        state, output = self._state, self._state.output
        return bool(
            output.sends
            or output.early
            or output.applied
            or output.events
            or state.applied < state.commit
            or state.log.unwritten <= state.log.last_index
            or state.term != self._saved.term
            or state.vote != self._saved.vote
            or (state.role == "leader" and (self._reads.wants_round or self._replication.wants_to_send))
        )

    def drain(self) -> Output:
        check(self._writing is None, "drained while the writes of the last Output are under way")
        state = self._state
        if state.role == "leader":
            self._reads.begin_round_if_wanted()
            self._replication.send_appends()
        self._hand_out()
        output = state.take_output()
        if state.term != self._saved.term or state.vote != self._saved.vote:
            self._saved = state.hard_state
            output.writes.append(self._saved)
            # Nothing may be said in a term that could be forgotten.
            output.sends, output.early = output.early + output.sends, []
        output.writes += state.log.take_writes()
        if output.writes:
            self._writing = state.log.last_index
        output.wake_at = self._wake_at()
        return output

    def _hand_out(self) -> None:
        state = self._state
        if state.applied < state.commit and not state.memberships.was_witness(state.node):
            entries = tuple(state.log.between(state.applied + 1, state.commit))
            for entry in entries:
                if entry.kind == Kind.COMMANDS and not entry.payload:
                    check(False, f"entry {entry.index} has no payload: this log was a witness's, and must not be used")
            state.tell(Committed(entries))
        elif state.applied < state.commit and not state.is_witness:
            # It was removed, and needs no more; or it was added again, and would apply to nothing what comes now.
            is_back = state.node in state.configuration.members
            check(not is_back, "this log was a witness's, and must not be used: add an empty node under another name")
        state.applied = state.commit

    def _wake_at(self) -> float | None:
        if self._state.role == "leader":
            return min(self._heartbeat_at, self._replication.notice_at) if self._replication.progress else None
        return self._election.deadline if self._state.may_lead else None

    # ----------------------------------------------------------------------------------------------- elections

    def on_request_vote(self, message: RequestVote, sender: NodeId, now: float) -> None:
        if self._election.ignores(message) or (message.transfer and self._is_stranger(sender)):
            return
        if message.term > self.term and not message.pre:
            self._become_follower(message.term, NOBODY)
        self._election.answer(message, sender)

    def on_vote(self, message: Vote, sender: NodeId, now: float) -> None:
        is_promise = message.pre and message.granted
        if message.term > self.term and not is_promise:
            if not self._is_stranger(sender):
                self._become_follower(message.term, NOBODY)
            return
        self._follow_verdict(self._election.count(message, sender))

    def on_timeout_now(self, message: TimeoutNow, sender: NodeId, now: float) -> None:
        if self._is_current(message, sender) and self.role != "leader" and self._state.may_lead:
            self._follow_verdict(self._election.ask(transfer=True))

    # --------------------------------------------------------------------------------------------- replication

    def on_append(self, message: Append, sender: NodeId, now: float) -> None:
        if message.term < self._state.term:
            self._state.send(sender, Appended(self._state.term, message.prev_index, False))
            return
        if self._hear_leader(message.term, sender):
            self._following.append(message, sender)

    def on_appended(self, message: Appended, sender: NodeId, now: float) -> None:
        if not self._is_current(message, sender) or self._state.role != "leader":
            return
        if self._replication.take_appended(message, sender):
            self._count()
            self._proposals.hand_over_if_ready(sender)

    def on_heartbeat(self, message: Heartbeat, sender: NodeId, now: float) -> None:
        if message.term < self._state.term:
            self._state.send(sender, HeartbeatReply(self._state.term))
            return
        if self._hear_leader(message.term, sender):
            self._following.heartbeat(message, sender)

    def on_heartbeat_reply(self, message: HeartbeatReply, sender: NodeId, now: float) -> None:
        if not self._is_current(message, sender) or self._state.role != "leader":
            return
        if self._replication.take_heartbeat_reply(message, sender):
            self._reads.count()

    # --------------------------------------------------------------------------------------------------- reads

    def on_read(self, message: Read, sender: NodeId, now: float) -> None:
        state = self._state
        if state.is_witness:
            state.refuse(message.number, "invalid")
        elif self.role != "leader" and state.leader == NOBODY:
            state.refuse(message.number, "not_leader")
        elif self.role != "leader":
            self._asked_reads.ask(message.number)
        elif not self._proposals.term_is_committed:
            state.refuse(message.number, "not_ready")
        elif self._reads.is_full:
            state.refuse(message.number, "overloaded")
        else:
            self._reads.take(Reader(NOBODY, message.number))

    def on_find_read_index(self, message: FindReadIndex, sender: NodeId, now: float) -> None:
        is_current = self._is_current(message, sender)
        leads = is_current and self.role == "leader" and self._proposals.term_is_committed
        if leads and not self._reads.is_full:
            self._reads.take(Reader(sender, message.number))
        else:
            self._state.send_early(sender, FoundReadIndex(self.term, message.number, 0))

    def on_found_read_index(self, message: FoundReadIndex, sender: NodeId, now: float) -> None:
        if self._is_current(message, sender):
            self._asked_reads.take_found(message)

    # ----------------------------------------------------------------------------------------------- proposals

    def on_propose(self, message: Propose, sender: NodeId, now: float) -> None:
        if self._state.role == "leader":
            self._proposals.take_command(message)
        else:
            self._state.refuse(message.number, "not_leader")

    def on_change(self, message: Change, sender: NodeId, now: float) -> None:
        if self.role == "leader":
            self._proposals.take_change(message)
        else:
            self._state.refuse(message.number, "not_leader")

    def on_transfer(self, message: Transfer, sender: NodeId, now: float) -> None:
        if self.role == "leader":
            self._proposals.take_transfer(message)
        else:
            self._state.refuse(message.number, "not_leader")

    # ------------------------------------------------------------------------------------- disk and snapshots

    def on_synced(self, message: Synced, sender: NodeId, now: float) -> None:
        if self._writing is None:
            return
        self._state.log.note_durable(self._writing)
        self._writing = None
        if self._state.role == "leader":
            self._count()

    def on_snapshot_taken(self, message: SnapshotTaken, sender: NodeId, now: float) -> None:
        state = self._state
        check(message.index <= state.applied, f"a snapshot of {message.index}, but {state.applied} is applied")
        term = state.log.term_at(message.index)
        if message.index <= state.mark.index or term is None:
            return
        state.mark = SnapshotMark(message.index, term, state.memberships.at(message.index))
        state.memberships.cut(message.index)
        state.log.cut(message.index - message.keep)

    def on_snapshot_sent(self, message: SnapshotSent, sender: NodeId, now: float) -> None:
        if self.role == "leader":
            self._replication.take_snapshot_sent(message)
            self._count()

    def on_snapshot_arrived(self, message: SnapshotArrived, sender: NodeId, now: float) -> None:
        if message.term < self.term or self.role == "leader":
            self._state.event("snapshot_ignored", index=message.mark.index, term=message.term)
            return
        if message.term > self.term or self.role != "follower":
            self._become_follower(message.term, NOBODY)
        self._following.snapshot(message.mark)

    # -------------------------------------------------------------------------------------------------- timers

    def on_tick(self, message: Tick, sender: NodeId, now: float) -> None:
        if self.role == "leader":
            self._on_heartbeat_timeout(now)
        elif now >= self._election.deadline and self._state.may_lead:
            self._follow_verdict(self._election.ask_whether())

    def _on_heartbeat_timeout(self, now: float) -> None:
        if now < self._heartbeat_at or not self._replication.progress:
            return
        if not self._replication.quorum_is_near():
            self._state.event("misses_quorum", term=self.term)
            self._become_follower(self.term, NOBODY)
            return
        self._proposals.give_up_late_transfer()
        self._reads.begin_round()
        self._heartbeat_at = now + self._config.heartbeat_interval_s
