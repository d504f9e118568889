"""Planted bugs of elections: terms, votes, and who may lead."""

from __future__ import annotations

from typing import Any

from onerack.raft.core.election import Election
from onerack.raft.core.log import Log
from onerack.raft.core.peer import RaftCore as Peer
from onerack.raft.core.state import PeerState
from onerack.raft.messages import NOBODY, Append, RequestVote, TimeoutNow, Vote
from onerack.runtime.seam import NodeId
from onerack.sim.raft.planted.kits import WrongPart, WrongPeer, plant


@plant
class LogsAreComparedByLength(WrongPart):
    """A voter looks at how long a log is, not at its last term."""

    part = "_state.log"

    class Wrong(Log):
        def is_at_least(self, last_index: int, last_term: int) -> bool:
            return last_index >= self.last_index


@plant
class LogsAreNotCompared(WrongPart):
    """Anybody may be elected."""

    part = "_state.log"

    class Wrong(Log):
        def is_at_least(self, last_index: int, last_term: int) -> bool:
            return True


@plant
class VotesAreGivenTwice(WrongPart):
    """Whoever asks in a term gets the vote, whoever had it before."""

    part = "_election"

    class Wrong(Election):
        def answer(self, request: RequestVote, candidate: NodeId) -> None:
            if not request.pre and request.term == self._state.term:
                self._state.vote = NOBODY
            super().answer(request, candidate)


@plant
class VotesOfEarlierTermsCount(WrongPart):
    """A granted vote is a granted vote, whichever election it was for."""

    part = "_election"

    class Wrong(Election):
        def count(self, vote: Vote, voter: NodeId) -> bool | None:
            if vote.granted and self._state.role == "candidate":
                vote = Vote(self._state.term, True)
            return super().count(vote, voter)


@plant
class HalfOfAnEvenClusterElects(WrongPart):
    """Two of four are taken for a majority."""

    part = "_election"

    class Wrong(Election):
        def count(self, vote: Vote, voter: NodeId) -> bool | None:
            verdict = super().count(vote, voter)
            voters = self._state.configuration.voters
            granted = sum(self._votes.get(each, False) for each in voters)
            asked = self._state.role in ("candidate", "precandidate")
            return True if asked and granted * 2 >= len(voters) else verdict


@plant
class LearnersElect(WrongPart):
    """Every answer counts, also of those who have no vote."""

    part = "_election"

    class Wrong(Election):
        def _ask(self, request: RequestVote) -> bool | None:
            verdict = super()._ask(request)
            for learner in self._state.configuration.learners:
                self._state.send(learner, request)
            return verdict

        def count(self, vote: Vote, voter: NodeId) -> bool | None:
            verdict = super().count(vote, voter)
            asked = self._state.role in ("candidate", "precandidate")
            needed = len(self._state.configuration.voters) // 2 + 1
            return True if asked and sum(self._votes.values()) >= needed else verdict


@plant
class TheNewMajorityElects(WrongPart):
    """In the joint phase the majority of the old configuration is not asked."""

    part = "_election"

    class Wrong(Election):
        def count(self, vote: Vote, voter: NodeId) -> bool | None:
            verdict = super().count(vote, voter)
            configuration = self._state.configuration
            granted = sum(self._votes.get(each, False) for each in configuration.voters)
            asked = self._state.role in ("candidate", "precandidate") and configuration.is_joint
            return True if asked and granted > len(configuration.voters) // 2 else verdict


@plant
class NewTermsKeepTheVote(WrongPart):
    """A newer term does not make the vote free again."""

    part = "_state"

    class Wrong(PeerState):
        def enter_term(self, term: int) -> None:
            vote = self.vote
            super().enter_term(term)
            self.vote = vote

        def vote_for(self, candidate: NodeId) -> None:
            self.vote = candidate


@plant
class WitnessesLead(WrongPart):
    """A witness is a voter like any other."""

    part = "_state"

    class Wrong(PeerState):
        @property
        def may_lead(self) -> bool:
            return self.node in self.configuration.voters


@plant
class LeadersOfEarlierTermsAreHeard(WrongPeer):
    """An Append is taken whatever its term is."""

    class Wrong(Peer):
        def on_append(self, message: Append, sender: NodeId, now: float) -> None:
            if message.term < self.term and self.role == "follower":
                self._following.append(message, sender)
            else:
                super().on_append(message, sender, now)


@plant
class NewerTermsAreNotNoticed(WrongPeer):
    """A leader that is asked for a vote of a newer term leads on, and gives it."""

    class Wrong(Peer):
        def on_request_vote(self, message: RequestVote, sender: NodeId, now: float) -> None:
            if self.role == "leader" and message.term > self.term and not message.pre:
                if self._state.log.is_at_least(message.last_index, message.last_term):
                    self._state.send(sender, Vote(message.term, True))
            else:
                super().on_request_vote(message, sender, now)


@plant
class HeirsAreLeadersAtOnce(WrongPeer):
    """Who is told to take over does, without asking anybody."""

    class Wrong(Peer):
        def on_timeout_now(self, message: TimeoutNow, sender: NodeId, now: float) -> None:
            if message.term == self.term and self.role == "follower" and self._state.may_lead:
                self._election.ask(transfer=True)
                self._become_leader()


@plant
class NobodyRises(WrongPeer):
    """The election timer is never looked at."""

    class Wrong(Peer):
        def on_tick(self, message: Any, sender: NodeId, now: float) -> None:
            if self.role == "leader":
                super().on_tick(message, sender, now)
