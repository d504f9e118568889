"""Roles: how a peer becomes follower, candidate and leader, and what the commit index sets in motion.

    follower --timeout--> precandidate --a quorum would--> candidate --a quorum has--> leader
        ^                      |                               |                         |
        +---- a newer term, a leader of this term, or (leader) no quorum within T -------+

The rules: at most one leader speaks in a term, and any node that hears it follows; a leader begins with an empty entry,
and ends when a newer term, silence or its own removal says so; whoever waits for it is told then.

Source: Ongaro & Ousterhout 2014, Figure 4; Ongaro's dissertation 2014, sections 4.2.2, 4.3 and 6.2.
"""

from __future__ import annotations

from random import Random
from typing import Any

from onerack.config import RaftConfig
from onerack.errors import check
from onerack.raft.core.election import Election
from onerack.raft.core.proposals import Proposals
from onerack.raft.core.reads import FollowerReads, LeaderReads
from onerack.raft.core.replication import Replication
from onerack.raft.core.state import PeerState
from onerack.raft.core.view import PeerView
from onerack.raft.messages import NOBODY, Kind, Recovered
from onerack.runtime.seam import NodeId


class Roles(PeerView):
    """A peer without its handlers: its parts, and the changes that concern several of them."""

    def __init__(self, node: NodeId, recovered: Recovered, config: RaftConfig, random: Random, now: float) -> None:
        self._state = state = PeerState(node, recovered, config, random, now)
        self._replication = Replication(state)
        self._config = config
        self._election = Election(state)
        self._reads = LeaderReads(state, self._replication)
        self._asked_reads = FollowerReads(state)
        self._proposals = Proposals(state, self._replication, self._reads)
        self._heartbeat_at = 0.0

    # ------------------------------------------------------------------------------------------ terms and roles

    def _is_current(self, message: Any, sender: NodeId) -> bool:
        """Of this term? A newer one is entered first. Not for what only a leader says, which names the leader too."""
        if message.term > self._state.term:
            if self._is_stranger(sender):
                return False
            self._become_follower(message.term, NOBODY)
        return bool(message.term == self._state.term)

    def _is_stranger(self, sender: NodeId) -> bool:
        """Somebody of whom this node knows nothing, while it knows who leads, has no say about terms and leaders.

        It may be of a group to come, whose configuration is not here yet: then it is heard as soon as nobody leads.
        """
        return self._election.leader_is_near and not self._knows(sender)

    def _knows(self, node: NodeId) -> bool:
        return node in self._state.memberships.taking_part(self._state.commit)

    def _hear_leader(self, term: int, leader: NodeId) -> bool:
        """A leader of this or a newer term has spoken. False: a stranger, to whom nobody listens.

        Requires: `term` is not older.
        """
        state = self._state
        if term > state.term or state.role != "follower" or state.leader != leader:
            if self._is_stranger(leader):
                state.event("ignores_stranger", term=term, stranger=leader)
                return False
            is_newer = term > state.term
            is_first = state.leader in (NOBODY, leader) or not self._knows(state.leader)
            check(state.role != "leader" or is_newer, f"{leader} and {state.node} both lead term {term}")
            check(is_first or is_newer, f"{leader} and {state.leader} lead term {term}")
            self._become_follower(term, leader)
        state.heard_at = state.now
        self._election.rearm()
        return True

    def _become_follower(self, term: int, leader: NodeId) -> None:
        state = self._state
        led = state.role == "leader"
        if term > state.term:
            state.enter_term(term)
        if leader != state.leader or state.role != "follower":
            state.event("follows", term=term, leader=leader or "nobody")
        state.role = "follower"
        state.leader = leader
        self._asked_reads.forget()
        if led:
            self._replication.end()
            self._proposals.end()
            self._reads.end()
            self._election.rearm()

    def _become_leader(self) -> None:
        """Its first entry is empty: with it, all that earlier leaders left is committed; and it is the first sign."""
        state = self._state
        check(state.may_lead, f"{state.node} may not lead")
        state.role = "leader"
        state.leader = state.node
        state.event("becomes_leader", term=state.term, last_index=state.log.last_index)
        self._reads.begin()
        self._replication.begin()
        self._replication.append(Kind.EMPTY, b"")
        self._heartbeat_at = state.now + self._config.heartbeat_interval_s

    def _follow_verdict(self, verdict: bool | None) -> None:
        if verdict is False:
            self._become_follower(self.term, NOBODY)
        elif verdict and self.role == "precandidate":
            self._follow_verdict(self._election.ask())
        elif verdict:
            self._become_leader()

    # -------------------------------------------------------------------------------------------------- commit

    def _count(self) -> None:
        """What a quorum has is committed; a change of the configuration then takes its next step."""
        state = self._state
        before = state.commit
        if self._replication.count() and (state.memberships.index > before or state.configuration.is_joint):
            self._take_next_step()

    def _take_next_step(self) -> None:
        self._proposals.end_joint_phase()
        if self._proposals.is_removed:
            self._retire()
        elif not self._state.configuration.is_joint:
            self._dismiss_removed()

    def _dismiss_removed(self) -> None:
        """Whoever was removed hears of it, and then nothing more."""
        taking_part = self._state.memberships.taking_part(self.commit)
        if any(node not in taking_part for node in self._replication.progress):
            self._replication.send_appends()
            self._replication.follow_configuration()

    def _retire(self) -> None:
        """This leader is no voter any more: everybody hears that this is committed, and the best of them leads."""
        heir = self._proposals.most_advanced()
        self._state.event("retires", term=self.term, heir=heir or "nobody")
        self._replication.send_appends()
        if heir:
            self._proposals.hand_over(heir)
        self._become_follower(self.term, NOBODY)
