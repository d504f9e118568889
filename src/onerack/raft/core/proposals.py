"""Proposals: what a host asks of its leader: commands, another configuration, another leader.

The idea: each is answered at once. Proposed says where it lies in the log, Refused that nothing was done and nothing
will be; whether it is committed, only commitment tells.

The rules: no proposal while leadership is being handed over, else the heir would never catch up; one change of the
configuration at a time, and only in a term in which the leader has committed an entry; nobody becomes a voter while
waiting for it would stop everybody else.

Source: Ongaro's dissertation 2014, sections 3.10 (transfer), 4.1 to 4.3 (membership), 4.2.1 (catching up).
"""

from __future__ import annotations

from onerack.raft.core.membership import encode_configuration, fault_of, first_step, last_step, promoted
from onerack.raft.core.reads import LeaderReads
from onerack.raft.core.replication import Replication
from onerack.raft.core.state import PeerState
from onerack.raft.messages import NOBODY, Change, Configuration, Kind, Propose, Proposed, TimeoutNow, Transfer
from onerack.runtime.seam import NodeId

CAUGHT_UP_ENTRIES = 64
"""A learner that lacks no more than so many entries of the leader's log is caught up: less than a second's."""


class Proposals:
    """Requires, wherever something is taken: this node leads."""

    def __init__(self, state: PeerState, replication: Replication, reads: LeaderReads) -> None:
        self._state = state
        self._replication = replication
        self._reads = reads
        self.heir: NodeId = NOBODY
        """Who is to lead next; while somebody is, nothing is proposed."""
        self._heir_until = 0.0

    def end(self) -> None:
        """This node does not lead any more."""
        self.heir = NOBODY

    @property
    def term_is_committed(self) -> bool:
        """Has an entry of this term been committed? Before, the commit index may be behind an earlier leader's."""
        return self._state.log.term_at(self._state.commit) == self._state.term

    # ------------------------------------------------------------------------------------------------ commands

    def take_command(self, message: Propose) -> None:
        state, config = self._state, self._state.config
        size = len(message.payload)
        waiting = self._replication.uncommitted_bytes
        if self.heir:
            state.refuse(message.number, "transferring")
        elif not 0 < size <= config.entry_bytes_max:
            # An entry of commands without a payload is what a witness has; nobody may take one for the other.
            state.refuse(message.number, "invalid")
        elif waiting and waiting + size > config.uncommitted_bytes_max:
            state.refuse(message.number, "overloaded")
        else:
            self._propose(message.number, Kind.COMMANDS, message.payload)
            if message.hurry:
                self._replication.hurry(state.log.last_index)

    def _propose(self, number: int, kind: Kind, payload: bytes) -> None:
        entry = self._replication.append(kind, payload)
        self._state.tell(Proposed(number, entry.term, entry.index))

    # ------------------------------------------------------------------------------------------- configurations

    def take_change(self, message: Change) -> None:
        cause = self._cause_against(message.wanted)
        if cause:
            self._state.refuse(message.number, cause)
            return
        step = first_step(self._state.configuration, message.wanted)
        self._propose(message.number, Kind.CONFIGURATION, encode_configuration(step))
        self._tell_of_configuration()

    def _cause_against(self, wanted: Configuration) -> str:
        state, current = self._state, self._state.configuration
        if self.heir:
            return "transferring"
        if not self.term_is_committed:
            return "not_ready"
        if current.is_joint or state.memberships.index > state.commit:
            return "pending"
        if fault_of(current, wanted):
            return "invalid"
        behind = [
            node for node in promoted(current, wanted) if not self._replication.is_caught_up(node, CAUGHT_UP_ENTRIES)
        ]
        return "not_caught_up" if behind else ""

    def end_joint_phase(self) -> None:
        """As soon as the joint configuration is committed; if its leader is gone, the next one does it."""
        state = self._state
        if state.configuration.is_joint and state.memberships.index <= state.commit:
            self._replication.append(Kind.CONFIGURATION, encode_configuration(last_step(state.configuration)))
            self._tell_of_configuration()

    def _tell_of_configuration(self) -> None:
        # Who is removed must hear of it, and hears nothing after that.
        self._replication.hurry(self._state.log.last_index)
        configuration = self._state.configuration
        self._state.event("reconfigures", voters=configuration.voters, outgoing=configuration.outgoing)

    @property
    def is_removed(self) -> bool:
        """It is committed that this node does not vote any more: it has led long enough."""
        state = self._state
        configuration = state.configuration
        votes = state.node in configuration.voters or state.node in configuration.outgoing
        return not votes and state.memberships.index <= state.commit

    # ------------------------------------------------------------------------------------------------ transfer

    def take_transfer(self, message: Transfer) -> None:
        state = self._state
        may_lead = set(state.configuration.voters) - set(state.configuration.witnesses)
        if self.heir and self.heir != message.to:
            state.refuse(message.number, "transferring")
        elif message.to == state.node or message.to not in may_lead:
            state.refuse(message.number, "invalid")
        else:
            self.heir = message.to
            self._heir_until = state.now + state.config.election_timeout_s
            state.event("transfers", to=message.to)
            state.tell(Proposed(message.number, state.term, state.log.last_index))
            self.hand_over_if_ready(message.to)

    def hand_over_if_ready(self, node: NodeId) -> None:
        """Requires: called whenever the log of `node` has grown."""
        state = self._state
        progress = self._replication.progress.get(node)
        if node == self.heir and progress is not None and progress.match == state.log.last_index:
            self.hand_over(node)

    def hand_over(self, node: NodeId) -> None:
        """`node` may campaign at any time from now on, so no lease holds."""
        self._reads.lease_is_void = True
        self._state.send_early(node, TimeoutNow(self._state.term))

    def give_up_late_transfer(self) -> None:
        if self.heir and self._state.now >= self._heir_until:
            self._state.event("transfer_failed", to=self.heir)
            self.heir = NOBODY

    def most_advanced(self) -> NodeId:
        """Who should lead when this node may not any more; NOBODY when there is none."""
        state = self._state
        heirs = sorted(set(state.configuration.voters) - set(state.configuration.witnesses) - {state.node})
        return max(heirs, key=self._replication.match_of, default=NOBODY)
