"""State: what all parts of a peer share: its term and vote, its role, its log, and what must leave it.

The idea: a peer is split by noun (elections, following, replication, reads ...), and each part needs the same few facts
of Figure 2. They are here, with the only ways to change them that more than one part uses.

The rules: the term never falls; a vote never changes within its term; the commit index never falls; what is in the
outbox is not changed any more.

Source: Ongaro & Ousterhout 2014, Figure 2, "State".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Any, Literal

from onerack.config import RaftConfig
from onerack.errors import check
from onerack.raft.core.log import Log
from onerack.raft.core.membership import Memberships
from onerack.raft.messages import (
    NOBODY,
    Configuration,
    Entry,
    HardState,
    Recovered,
    Refused,
    Restore,
    SnapshotMark,
)
from onerack.runtime.seam import Envelope, Event, NodeId, Output

Role = Literal["follower", "precandidate", "candidate", "leader"]


class PeerState:
    """Of one node, in one run."""

    def __init__(self, node: NodeId, recovered: Recovered, config: RaftConfig, random: Random, now: float) -> None:
        self.node = node
        self.config = config
        self.random = random
        self.now = now
        """The moment of the last step."""
        self.term = recovered.hard_state.term
        self.vote = recovered.hard_state.vote
        self.mark = recovered.mark
        """Of the newest durable snapshot that this node stands on."""
        self.log = Log(recovered.mark, recovered.entries)
        kept = self.log.between(self.log.first_index, self.log.last_index)
        self.memberships = Memberships(self.mark.index, self.mark.configuration, kept)
        self.role: Role = "follower"
        self.leader: NodeId = NOBODY
        self.heard_at = -math.inf
        """When a leader was last heard; whoever asks for a vote soon after is not answered."""
        self.commit = self.applied = self.mark.index
        self.output = Output()

    # ----------------------------------------------------------------------------------------------- who we are

    @property
    def hard_state(self) -> HardState:
        return HardState(self.term, self.vote)

    @property
    def configuration(self) -> Configuration:
        return self.memberships.configuration

    @property
    def is_witness(self) -> bool:
        return self.node in self.memberships.configuration.witnesses

    @property
    def may_lead(self) -> bool:
        return self.memberships.may_lead(self.node, self.commit)

    def outline(self) -> tuple[Any, ...]:
        """All that the safety properties speak of, but for the entries before the last: equal to the one before, if
        nothing has happened that could break them."""
        log = self.log
        return (
            self.term, self.vote, self.role, self.commit, self.applied, log.last_index, log.last_term, log.durable,
            log.first_index, self.memberships.configuration,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------- changes

    def enter_term(self, term: int) -> None:
        check(term > self.term, f"term {term} cannot follow {self.term}")
        self.term = term
        self.vote = NOBODY
        self.leader = NOBODY

    def vote_for(self, candidate: NodeId) -> None:
        check(self.vote in (NOBODY, candidate), f"{self.vote} has the vote of term {self.term}, so not {candidate}")
        self.vote = candidate

    def append(self, entries: Sequence[Entry]) -> bool:
        """Appends to the log; True when that changed the configuration."""
        self.log.append(entries)
        changed = False
        for entry in entries:
            changed |= self.memberships.note(entry)
        return changed

    def truncate_from(self, index: int) -> None:
        self.log.truncate_from(index, self.commit)
        self.memberships.truncate_from(index)

    def commit_to(self, index: int) -> None:
        if index > self.log.last_index:
            check(False, f"entry {index} is committed, but the log ends at {self.log.last_index}")
        self.commit = max(self.commit, index)

    def restore(self, mark: SnapshotMark) -> None:
        """The state machine becomes a snapshot, and the log begins behind it."""
        check(mark.index > self.commit, f"a snapshot of {mark.index} would undo the commitment of {self.commit}")
        self.log.reset(mark)
        self.memberships.reset(mark.index, mark.configuration)
        self.mark = mark
        self.commit = self.applied = mark.index
        self.output.applied.append(Restore(mark))

    # ---------------------------------------------------------------------------------------------- the outbox

    def send(self, to: NodeId, message: Any) -> None:
        """Leaves when all that has been written so far is durable."""
        self.output.sends.append(Envelope(to, message))

    def send_early(self, to: NodeId, message: Any) -> None:
        """Follows from no entry: need not wait for the disk, unless the term itself is new to it."""
        self.output.early.append(Envelope(to, message))

    def tell(self, decision: Any) -> None:
        """To the host."""
        self.output.applied.append(decision)

    def refuse(self, number: int, cause: str) -> None:
        self.output.applied.append(Refused(number, cause, self.leader))

    def event(self, name: str, **fields: Any) -> None:
        self.output.events.append(Event(name, fields))

    def take_output(self) -> Output:
        output, self.output = self.output, Output()
        return output
