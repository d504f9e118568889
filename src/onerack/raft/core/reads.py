"""Reads: at which log index a linearizable read may be answered, without writing to the log.

The idea: a leader notes its commit index and asks everybody whether it still leads; when a quorum has answered, no
newer leader had committed anything when it asked. One round of heartbeats serves all reads that were waiting when it
began. Any other node asks the leader for the index, and reads its own state machine once that is applied.

With `lease_reads` a leader answers at once, for a while after the *sending* of a round that a quorum has answered:
until then nobody elects another, if clocks run alike. A transfer of leadership ends that for the rest of the term,
because the one who is told to campaign may do so at any later time.

The rules: only in a term in which this leader has committed an entry (else its commit index may lag behind its own
predecessor's); only an answer to a round that began after the read came counts; a follower believes only an answer to
what it has asked in this run and this term.

Source: Ongaro's dissertation 2014, sections 6.4 and 6.4.1.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from onerack.raft.core.quorum import reached
from onerack.raft.core.replication import Replication
from onerack.raft.core.state import PeerState
from onerack.raft.messages import NOBODY, FindReadIndex, FoundReadIndex, ReadReady
from onerack.runtime.seam import NodeId


class Reader(NamedTuple):
    """Who wants to read: the host of this node (NOBODY), or another node."""

    node: NodeId
    number: int


class Round(NamedTuple):
    """Heartbeats that ask whether this node leads."""

    number: int
    commit: int
    sent_at: float
    readers: list[Reader]


class LeaderReads:
    """Of a leader. Requires: an entry of its term is committed, wherever a read is taken."""

    def __init__(self, state: PeerState, replication: Replication) -> None:
        self._state = state
        self._replication = replication
        self.round = 0
        """The last one that has begun; they are counted anew by each leadership."""
        self._rounds: deque[Round] = deque()
        """Not yet confirmed."""
        self._waiting: list[Reader] = []
        self._open = 0
        """Reads not answered yet, waiting or in a round."""
        self.lease_until = -math.inf
        self.lease_is_void = False
        """Somebody was told to campaign in this term."""

    def begin(self) -> None:
        self.round = 0
        self.lease_until = -math.inf
        self.lease_is_void = False

    def end(self) -> None:
        """This node does not lead any more. Requires: the state names the new leader, if it is known."""
        readers = [reader for each in self._rounds for reader in each.readers] + self._waiting
        self._rounds.clear()
        self._waiting = []
        self._open = 0
        for reader in readers:
            if reader.node == NOBODY:
                self._state.refuse(reader.number, "not_leader")
            else:
                self._state.send_early(reader.node, FoundReadIndex(self._state.term, reader.number, 0))

    @property
    def is_full(self) -> bool:
        return self._open >= self._state.config.reads_max

    @property
    def has_lease(self) -> bool:
        return self._state.config.lease_reads and not self.lease_is_void and self._state.now < self.lease_until

    def take(self, reader: Reader) -> None:
        """Requires: not `is_full`."""
        if self.has_lease:
            self._answer(reader, self._state.commit)
        else:
            self._open += 1
            self._waiting.append(reader)

    # -------------------------------------------------------------------------------------------------- rounds

    def begin_round(self) -> None:
        """Asks everybody, for all who wait now."""
        state = self._state
        self.round += 1
        self._rounds.append(Round(self.round, state.commit, state.now, self._waiting))
        self._waiting = []
        self._replication.send_heartbeats(self.round)
        self.count()

    @property
    def wants_round(self) -> bool:
        return bool(self._waiting) and not self._rounds

    def begin_round_if_wanted(self) -> None:
        """Who comes while a round is under way waits for the next one."""
        if self._rounds and not self._replication.progress:
            self.count()  # Everybody who was asked has been removed since: nobody's answer will do it.
        if self.wants_round:
            self.begin_round()

    def count(self) -> None:
        """Answers the readers of all rounds that a quorum has confirmed."""
        state = self._state
        confirmed = reached(state.configuration, self._acked_round, 0)
        while self._rounds and self._rounds[0].number <= confirmed:
            done = self._rounds.popleft()
            self.lease_until = done.sent_at + state.config.election_timeout_s * (1 - state.config.clock_drift)
            self._open -= len(done.readers)
            for reader in done.readers:
                self._answer(reader, done.commit)

    def _acked_round(self, node: NodeId) -> int:
        if node == self._state.node:
            return self.round
        progress = self._replication.progress.get(node)
        return progress.acked_round if progress is not None else 0

    def _answer(self, reader: Reader, index: int) -> None:
        if reader.node == NOBODY:
            self._state.tell(ReadReady(reader.number, index))
            return
        self._state.send_early(reader.node, FoundReadIndex(self._state.term, reader.number, index))
        progress = self._replication.progress.get(reader.node)
        if progress is not None:
            progress.hurry(index)  # It has to apply that much before it may answer.


class FollowerReads:
    """Of any other node."""

    def __init__(self, state: PeerState) -> None:
        self._state = state
        self._asked: dict[int, tuple[int, float]] = {}
        """By the number on the wire: the host's number, and when it was asked."""
        self._next_number = state.random.getrandbits(48)
        """Begins anywhere, so that an answer to an earlier run of this node answers nothing."""

    def ask(self, number: int) -> None:
        """Requires: a leader is known, and it is another node."""
        state = self._state
        self._give_up_old()
        if len(self._asked) >= state.config.reads_max:
            state.refuse(number, "overloaded")
            return
        self._next_number += 1
        self._asked[self._next_number] = (number, state.now)
        state.send_early(state.leader, FindReadIndex(state.term, self._next_number))

    def take_found(self, message: FoundReadIndex) -> None:
        number, _ = self._asked.pop(message.number, (None, 0.0))
        if number is None:
            return
        if message.index:
            self._state.tell(ReadReady(number, message.index))
        else:
            self._state.refuse(number, "not_ready")

    def forget(self) -> None:
        """The leader or the term has changed: the answers would be of another time."""
        for number, _ in self._asked.values():
            self._state.refuse(number, "not_leader")
        self._asked.clear()

    def _give_up_old(self) -> None:
        """The question or its answer was lost."""
        oldest = self._state.now - 2 * self._state.config.election_timeout_s
        while self._asked:
            wire_number, (number, asked_at) = next(iter(self._asked.items()))
            if asked_at > oldest:
                return
            del self._asked[wire_number]
            self._state.refuse(number, "not_ready")
