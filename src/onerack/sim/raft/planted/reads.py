"""Planted bugs of reads and leases."""

from __future__ import annotations

from onerack.raft.core import RaftCore
from onerack.raft.core.proposals import Proposals
from onerack.raft.core.reads import FollowerReads, LeaderReads, Reader
from onerack.raft.messages import ReadReady
from onerack.sim.raft.kit import Boot
from onerack.sim.raft.planted.kits import WrongPart, plant


@plant
class LeadersAnswerReadsAtOnce(WrongPart):
    """A leader that believes that it leads is believed."""

    part = "_reads"

    class Wrong(LeaderReads):
        def take(self, reader: Reader) -> None:
            self._answer(reader, self._state.commit)


@plant
class FollowersAnswerReadsAtOnce(WrongPart):
    """A follower reads what it has."""

    part = "_asked_reads"

    class Wrong(FollowerReads):
        def ask(self, number: int) -> None:
            self._state.tell(ReadReady(number, self._state.applied))


@plant
class ReadsJoinTheRoundUnderWay(WrongPart):
    """A read that comes while a round is under way is answered with it."""

    part = "_reads"

    class Wrong(LeaderReads):
        def take(self, reader: Reader) -> None:
            if self._rounds and not self.has_lease:
                self._open += 1
                self._rounds[-1].readers.append(reader)
            else:
                super().take(reader)


@plant
class ReadsBeforeTheFirstCommit(WrongPart):
    """A new leader answers reads before it has committed an entry of its term."""

    part = "_proposals"

    class Wrong(Proposals):
        @property
        def term_is_committed(self) -> bool:
            return True


@plant
class LeasesBeginWithTheAnswer(WrongPart):
    """A lease runs from the moment in which the last answer comes, not from that of the question."""

    part = "_reads"

    class Wrong(LeaderReads):
        def count(self) -> None:
            before = self.lease_until
            super().count()
            if self.lease_until != before:
                timeout = self._state.config.election_timeout_s
                self.lease_until = max(before, self._state.now + 3 * timeout)


@plant
class LeasesSurviveATransfer(WrongPart):
    """A leader that has told another one to campaign answers by its lease all the same."""

    part = "_reads"

    class Wrong(LeaderReads):
        @property
        def has_lease(self) -> bool:
            return self._state.config.lease_reads and self._state.now < self.lease_until


@plant
class RestartsForgetTheLease(WrongPart):
    """A node that has just started votes at once, though a leader may count on it."""

    part = "_reads"
    Wrong = LeaderReads

    def boot(self, boot: Boot) -> RaftCore:
        core = super().boot(boot)
        core._state.heard_at = -1e9
        return core
