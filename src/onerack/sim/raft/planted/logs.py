"""Planted bugs of replication: what is committed, what is removed, what is acknowledged."""

from __future__ import annotations

from onerack.raft.core.following import Following
from onerack.raft.core.log import Log
from onerack.raft.core.peer import RaftCore as Peer
from onerack.raft.core.progress import Progress
from onerack.raft.core.proposals import Proposals
from onerack.raft.core.quorum import reached
from onerack.raft.core.replication import Replication
from onerack.raft.core.state import PeerState
from onerack.raft.messages import Append, Appended, Configuration, Entry, SnapshotMark
from onerack.runtime.seam import NodeId
from onerack.sim.raft.planted.kits import WrongPart, WrongPeer, plant


class _Counting(Replication):
    """Commits what it likes."""

    def _counted(self) -> int:
        raise NotImplementedError

    def count(self) -> bool:
        state = self._state
        index = min(self._counted(), state.log.last_index)
        if index <= state.commit:
            return False
        self.uncommitted_bytes -= sum(len(entry.payload) for entry in state.log.between(state.commit + 1, index))
        state.commit_to(index)
        return True

    def _own_term(self, index: int) -> int:
        return index if self._state.log.term_at(index) == self._state.term else 0


@plant
class EntriesOfOldTermsAreCounted(WrongPart):
    """Figure 8: what a majority has is committed, of whatever term."""

    part = "_replication"

    class Wrong(_Counting):
        def _counted(self) -> int:
            return reached(self._state.configuration, self.match_of, 0)


@plant
class HalfOfAnEvenClusterCommits(WrongPart):
    """Two of four are taken for a majority."""

    part = "_replication"

    class Wrong(_Counting):
        def _counted(self) -> int:
            voters = self._state.configuration.voters
            values = sorted((self.match_of(voter) for voter in voters), reverse=True)
            return self._own_term(values[(len(voters) - 1) // 2])


@plant
class TheNewMajorityCommits(WrongPart):
    """In the joint phase the majority of the old configuration is not waited for."""

    part = "_replication"

    class Wrong(_Counting):
        def _counted(self) -> int:
            voters = self._state.configuration.voters
            return self._own_term(reached(Configuration(voters=voters), self.match_of, 0))


@plant
class LearnersCommit(WrongPart):
    """Everybody who has the log counts."""

    part = "_replication"

    class Wrong(_Counting):
        def _counted(self) -> int:
            voters, learners = self._state.configuration.voters, self._state.configuration.learners
            values = sorted((self.match_of(node) for node in (*voters, *learners)), reverse=True)
            return self._own_term(values[len(voters) // 2])


@plant
class LeadersCountWhatTheyHaveNotWritten(WrongPart):
    """The leader counts its own entries as soon as they are in its memory."""

    part = "_replication"

    class Wrong(Replication):
        def match_of(self, node: NodeId) -> int:
            return self._state.log.last_index if node == self._state.node else super().match_of(node)


@plant
class LateAppendsShortenTheLog(WrongPart):
    """Everything behind an Append's entries is removed, though nothing in it differs."""

    part = "_following"

    class Wrong(Following):
        def _take(self, entries: tuple[Entry, ...]) -> None:
            super()._take(entries)
            state = self._state
            behind = entries[-1].index + 1 if entries else 0
            if state.commit < behind <= state.log.last_index:
                state.truncate_from(behind)


@plant
class ConflictsAreKept(WrongPart):
    """An entry that is there is not compared with the one that comes."""

    part = "_following"

    class Wrong(Following):
        def _take(self, entries: tuple[Entry, ...]) -> None:
            last = self._state.log.last_index
            super()._take(tuple(entry for entry in entries if entry.index > last))


@plant
class PlacesAreNotCompared(WrongPart):
    """Entries go wherever their index fits, whatever the term of the entry before them is."""

    part = "_following"

    class Wrong(Following):
        def append(self, message: Append, leader: NodeId) -> None:
            known = self._state.log.term_at(message.prev_index)
            entries = message.entries
            if known is not None and known != message.prev_term and message.prev_index > self._state.commit:
                fits = all(entry.term >= known for entry in entries)
                message = Append(message.term, message.prev_index, known if fits else 0, message.commit, entries)
            super().append(message, leader)


@plant
class TheCommitIndexIsBelieved(WrongPart):
    """A follower takes the leader's commit index for its own log, also behind what the message covers."""

    part = "_following"

    class Wrong(Following):
        def append(self, message: Append, leader: NodeId) -> None:
            super().append(message, leader)
            state = self._state
            state.commit_to(max(state.commit, min(message.commit, state.log.last_index)))


@plant
class AcknowledgesTheWholeLog(WrongPart):
    """The answer to an Append names the end of the log, not the last entry that the message covered."""

    part = "_state"

    class Wrong(PeerState):
        def send(self, to: NodeId, message: object) -> None:
            if isinstance(message, Appended) and message.accepted:
                message = Appended(message.term, self.log.last_index, True)
            super().send(to, message)


@plant
class LateSyncsCountForWhatTheyDidNotWrite(WrongPart):
    """When a sync ends everything in the log is durable, also what came, or was changed, since it began."""

    part = "_state.log"

    class Wrong(Log):
        def note_durable(self, last_index: int) -> None:
            self.durable = self.last_index


@plant
class AnswersOfEarlierTermsCount(WrongPeer):
    """An Appended is taken whatever its term is."""

    class Wrong(Peer):
        def on_appended(self, message: Appended, sender: NodeId, now: float) -> None:
            if message.term < self.term and self.role == "leader":
                message = Appended(self.term, message.index, message.accepted, message.hint_index, message.hint_term)
            super().on_appended(message, sender, now)


@plant
class RefusalsAreNotHeard(WrongPart):
    """A follower whose log does not fit is sent the same again."""

    part = "_replication"

    class Wrong(Replication):
        def take_appended(self, message: Appended, follower: NodeId) -> bool:
            return super().take_appended(message, follower) if message.accepted else False


@plant
class EntriesAreAppliedBeforeTheyAreCommitted(WrongPeer):
    """The host is given whatever is in the log."""

    class Wrong(Peer):
        def _hand_out(self) -> None:
            commit, self._state.commit = self._state.commit, self._state.log.last_index
            super()._hand_out()
            self._state.commit = commit


@plant
class SnapshotsKeepTheWrongLog(WrongPart):
    """A snapshot that reaches into the log leaves it there, though its entry is another one."""

    part = "_following"

    class Wrong(Following):
        def snapshot(self, mark: SnapshotMark) -> None:
            if self._state.commit < mark.index <= self._state.log.last_index:
                self._state.commit_to(mark.index)
            else:
                super().snapshot(mark)


@plant
class LeadersDoNotStepBack(WrongPart):
    """A follower that has lost its place is told the next entries again and again: `next` never falls."""

    part = "_replication"

    class Wrong(Replication):
        def follow_configuration(self) -> None:
            super().follow_configuration()
            for progress in self.progress.values():
                progress.__class__ = _Stubborn


class _Stubborn(Progress):
    __slots__ = ()

    def refuse(self, index: int, agreeable: int) -> None:
        self.become_probe()
        self.next = index + 1


@plant
class TwoChangesAtOnce(WrongPart):
    """A change of the configuration is taken while another one is under way."""

    part = "_proposals"

    class Wrong(Proposals):
        def _cause_against(self, wanted: Configuration) -> str:
            cause = super()._cause_against(wanted)
            return "" if cause == "pending" and not self._state.configuration.is_joint else cause


@plant
class ChangesBeforeTheFirstCommit(WrongPart):
    """A new leader takes a change before it has committed an entry of its term."""

    part = "_proposals"

    class Wrong(Proposals):
        def _cause_against(self, wanted: Configuration) -> str:
            cause = super()._cause_against(wanted)
            current = self._state.configuration
            return "" if cause == "not_ready" and not current.is_joint and wanted.voters else cause


@plant
class TheJointPhaseEndsAtOnce(WrongPart):
    """The new configuration holds before the joint one is committed."""

    part = "_proposals"

    class Wrong(Proposals):
        def _tell_of_configuration(self) -> None:
            super()._tell_of_configuration()
            commit = self._state.commit
            if self._state.configuration.is_joint:
                self._state.commit = self._state.memberships.index
                self.end_joint_phase()
                self._state.commit = commit
