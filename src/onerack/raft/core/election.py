"""Election: when this node asks to be leader, whom it asks, and whom it gives its vote.

The idea: a node that has heard no leader for a time drawn from [T, 2T) first asks whether it would be elected (a
pre-vote, by which nobody's term changes), and only then raises the term. So a node that was cut off for a while comes
back without disturbing anybody.

The rules: one vote in a term, and durable before it is told; a vote goes only to a log that is at least as new as one's
own; who has heard a leader within T answers nobody, except in a transfer, which is the leader's own wish. A learner
answers, too: it may have been made a voter by an entry that it does not have yet. It is for the candidate to count only
the voters of its own configuration.

Source: Ongaro & Ousterhout 2014, sections 5.2, 5.4.1 and 6; Ongaro's dissertation 2014, sections 4.2.3 and 9.6.
"""

from __future__ import annotations

from onerack.raft.core.quorum import all_voters, verdict
from onerack.raft.core.state import PeerState
from onerack.raft.messages import NOBODY, RequestVote, Vote
from onerack.runtime.seam import NodeId


class Election:
    """The timer, and the votes of the election under way."""

    def __init__(self, state: PeerState) -> None:
        self._state = state
        self._votes: dict[NodeId, bool] = {}
        self.deadline = 0.0
        """When the next election begins, unless a leader is heard."""
        self.rearm()

    def rearm(self) -> None:
        """Draws the time of the next election anew, so that nobody loses against the same rival for ever."""
        timeout = self._state.config.election_timeout_s
        self.deadline = self._state.now + timeout * (1 + self._state.random.random())

    @property
    def leader_is_near(self) -> bool:
        """Has a leader been heard within the shortest election timeout? The leader itself hears itself."""
        state = self._state
        return state.role == "leader" or state.now - state.heard_at < state.config.election_timeout_s

    # ---------------------------------------------------------------------------------------------- candidates

    def ask_whether(self) -> bool | None:
        """Begins the pre-vote. The verdict is known at once where this node decides alone."""
        state = self._state
        state.role, state.leader = "precandidate", NOBODY
        state.event("becomes_precandidate", term=state.term)
        return self._ask(RequestVote(state.term + 1, state.log.last_index, state.log.last_term, pre=True))

    def ask(self, *, transfer: bool = False) -> bool | None:
        """Begins an election: a new term, and the first vote is its own."""
        state = self._state
        state.enter_term(state.term + 1)
        state.vote_for(state.node)
        state.role = "candidate"
        state.event("becomes_candidate", term=state.term)
        return self._ask(RequestVote(state.term, state.log.last_index, state.log.last_term, transfer=transfer))

    def _ask(self, request: RequestVote) -> bool | None:
        self.rearm()
        self._votes = {self._state.node: True}
        for voter in all_voters(self._state.configuration):
            if voter != self._state.node:
                self._state.send(voter, request)
        return verdict(self._state.configuration, self._votes)

    def count(self, vote: Vote, voter: NodeId) -> bool | None:
        """One more answer; the first one of each voter counts. A vote for another election changes nothing."""
        state = self._state
        if state.role != ("precandidate" if vote.pre else "candidate"):
            return None
        if vote.pre:
            # Who would not vote says its own term, which may be an older one.
            fits = vote.term == state.term + 1 if vote.granted else vote.term <= state.term
        else:
            fits = vote.term == state.term
        if not fits:
            return None
        self._votes.setdefault(voter, vote.granted)
        return verdict(state.configuration, self._votes)

    # -------------------------------------------------------------------------------------------------- voters

    def ignores(self, request: RequestVote) -> bool:
        """A removed or isolated node must not depose a leader whom everybody else hears."""
        return request.term > self._state.term and not request.transfer and self.leader_is_near

    def answer(self, request: RequestVote, candidate: NodeId) -> None:
        """Requires: the term of a real request is not above this node's any more."""
        state = self._state
        is_new_enough = state.log.is_at_least(request.last_index, request.last_term)
        if request.pre:
            granted = is_new_enough and request.term > state.term
            state.send_early(candidate, Vote(request.term if granted else state.term, granted, pre=True))
            return
        granted = is_new_enough and request.term == state.term and state.vote in (NOBODY, candidate)
        if granted:
            state.vote_for(candidate)
            self.rearm()
        state.send(candidate, Vote(state.term, granted))
