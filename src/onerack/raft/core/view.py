"""The view: what may be looked at in a peer, by its host, by the invariants, and by people.

The rule: nothing here changes anything, and what it shows may not be durable yet.
"""

from __future__ import annotations

from onerack.raft.core.progress import Progress
from onerack.raft.core.replication import Replication
from onerack.raft.core.state import PeerState, Role
from onerack.raft.messages import Configuration, Entry, HardState, SnapshotMark
from onerack.runtime.seam import NodeId


class PeerView:
    """The read-only side of a RaftCore."""

    _state: PeerState
    _replication: Replication

    @property
    def node(self) -> NodeId:
        return self._state.node

    @property
    def term(self) -> int:
        return self._state.term

    @property
    def role(self) -> Role:
        return self._state.role

    @property
    def leader(self) -> NodeId:
        """Of this term; NOBODY if unknown."""
        return self._state.leader

    @property
    def is_learner(self) -> bool:
        configuration = self._state.configuration
        return self.node in configuration.learners or self.node in configuration.learners_next

    @property
    def is_witness(self) -> bool:
        return self._state.is_witness

    @property
    def hard_state(self) -> HardState:
        return self._state.hard_state

    @property
    def commit(self) -> int:
        return self._state.commit

    @property
    def applied(self) -> int:
        """The last index that was handed out."""
        return self._state.applied

    @property
    def durable(self) -> int:
        """Up to here the log is on this node's disk."""
        return self._state.log.durable

    @property
    def first_index(self) -> int:
        return self._state.log.first_index

    @property
    def last_index(self) -> int:
        return self._state.log.last_index

    @property
    def mark(self) -> SnapshotMark:
        return self._state.mark

    @property
    def configuration(self) -> Configuration:
        return self._state.configuration

    def configuration_at(self, index: int) -> Configuration:
        """The one that held at `index`. Requires: not before the mark."""
        return self._state.memberships.at(index)

    def entry_at(self, index: int) -> Entry | None:
        """None where this node has none, or none any more."""
        return self._state.log.entry_at(index)

    def term_at(self, index: int) -> int | None:
        """As `entry_at`, and also known for the place before `first_index`."""
        return self._state.log.term_at(index)

    @property
    def progress(self) -> dict[NodeId, Progress]:
        """Of each follower, while this node leads."""
        return self._replication.progress
