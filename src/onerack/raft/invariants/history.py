"""The history: what has been seen of each node, and of the cluster as a whole, while the invariants watched.

The idea: a safety property speaks of all moments. So the history remembers, once, what can never become untrue (who led
a term, which entry is committed where, whom a node has told that it votes for it), and of each node what it looked like
at the last look. Each look then costs what has changed, not what there is: entries are immutable, so a log is compared
from its end until the same object is met again.

The rule: the history only looks. It knows the nouns of Figure 2, and nothing of how a core reaches them.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple, Protocol

from onerack.raft.messages import NOBODY, Configuration, Entry, HardState, Kind, SnapshotMark
from onerack.runtime.seam import NodeId


class Observable(Protocol):
    """What a history reads of a core."""

    @property
    def node(self) -> NodeId: ...
    @property
    def term(self) -> int: ...
    @property
    def role(self) -> str: ...
    @property
    def is_witness(self) -> bool: ...
    @property
    def hard_state(self) -> HardState: ...
    @property
    def commit(self) -> int: ...
    @property
    def applied(self) -> int: ...
    @property
    def durable(self) -> int: ...
    @property
    def first_index(self) -> int: ...
    @property
    def last_index(self) -> int: ...
    @property
    def mark(self) -> SnapshotMark: ...
    @property
    def configuration(self) -> Configuration: ...
    def entry_at(self, index: int) -> Entry | None: ...
    def term_at(self, index: int) -> int | None: ...


class Glimpse:
    """A core as it is at one moment: what all properties ask for is asked once."""

    __slots__ = (
        "applied", "commit", "configuration", "durable", "entry_at", "first_index", "hard_state", "is_witness",
        "last_index", "mark", "node", "role", "term", "term_at",
    )  # fmt: skip

    def __init__(self, core: Observable) -> None:
        self.node = core.node
        self.term = core.term
        self.role = core.role
        self.is_witness = core.is_witness
        self.hard_state = core.hard_state
        self.commit = core.commit
        self.applied = core.applied
        self.durable = core.durable
        self.first_index = core.first_index
        self.last_index = core.last_index
        self.mark = core.mark
        self.configuration = core.configuration
        self.entry_at = core.entry_at
        self.term_at = core.term_at


class Commitment(NamedTuple):
    """An entry that is committed, and the term of the leader that was first seen to have committed it."""

    entry: Entry
    term: int


class Place(NamedTuple):
    """An entry, and the term before it. By the log matching property there is one for each (index, term)."""

    entry: Entry
    term_before: int | None


class Portrait:
    """One node at the last look."""

    def __init__(self) -> None:
        self.term = 0
        self.vote = NOBODY
        self.role = "follower"
        self.configuration = Configuration()
        self.commit = 0
        self.applied = 0
        self.durable = 0
        self.first_index = 1
        self.last_index = 0
        self.entries: dict[int, Entry] = {}
        """Those that it had, by index."""
        self.handed_out = 0
        """The last index that its host was given."""
        self.acknowledged = 0
        """The last index that it has told a leader to have, ..."""
        self.acknowledged_term = 0
        """... and the term of that entry."""
        self.is_fresh = True
        """It has just started: what was volatile begins anew."""

    def take(self, core: Observable, changed_from: int) -> None:
        """The next portrait. `changed_from`: where its log differs from this one."""
        if changed_from <= max(self.last_index, core.last_index):
            for index in range(changed_from, self.last_index + 1):
                self.entries.pop(index, None)
            for index in range(max(changed_from, core.first_index), core.last_index + 1):
                entry = core.entry_at(index)
                assert entry is not None
                self.entries[index] = entry
        for index in range(self.first_index, core.first_index):
            self.entries.pop(index, None)
        if changed_from <= self.acknowledged and core.term_at(self.acknowledged) != self.acknowledged_term:
            # It was told by a newer leader to give that up.
            self.acknowledged = min(changed_from - 1, core.last_index)
            term = core.term_at(self.acknowledged)
            if term is None:
                self.acknowledged = 0
            self.acknowledged_term = term or 0
        self.term, self.vote = core.term, core.hard_state.vote
        self.role, self.configuration = core.role, core.configuration
        self.commit, self.applied, self.durable = core.commit, core.applied, core.durable
        self.first_index, self.last_index = core.first_index, core.last_index
        self.is_fresh = False

    def has(self, index: int, term: int) -> bool:
        """Is that entry on its disk, or in the snapshot that it stands on?"""
        if index < self.first_index:
            return True
        entry = self.entries.get(index)
        return index <= self.durable and entry is not None and entry.term == term


class History:
    """Of one cluster, from its start."""

    def __init__(self) -> None:
        self.portraits: defaultdict[NodeId, Portrait] = defaultdict(Portrait)
        self.leaders: dict[int, NodeId] = {}
        """Who led each term."""
        self.places: dict[tuple[int, int], Place] = {}
        """Every entry that was ever in a log, by (index, term)."""
        self.committed: dict[int, Commitment] = {}
        self.last_committed = 0
        self.given: dict[int, int] = {}
        """Snapshots that nodes began with, term by index: committed before the history began."""
        self.votes: dict[tuple[NodeId, int], NodeId] = {}
        """Whom a node has told that it votes for it, by (node, term)."""

    def meet(self, core: Observable) -> None:
        """A node is looked at for the first time: what it begins with is believed."""
        if core.node not in self.portraits:
            self.portraits[core.node].handed_out = core.mark.index
            self.given[core.mark.index] = core.mark.term
            self.last_committed = max(self.last_committed, core.mark.index)

    def leads(self, core: Observable) -> bool:
        """Does it lead, or has it until this very step? (A leader that was removed retires when that is committed.)"""
        before = self.portraits[core.node]
        return core.role == "leader" or (before.role == "leader" and before.term == core.term and not before.is_fresh)

    def committed_term(self, index: int) -> int | None:
        """The term of the committed entry there; None if none is known."""
        known = self.committed.get(index)
        return known.entry.term if known is not None else self.given.get(index)

    def changed_from(self, core: Observable) -> int:
        """The first index at which its log is not what it was: last + 1 if it has not changed."""
        known = self.portraits[core.node].entries
        index = core.last_index
        lowest = core.first_index
        while index >= lowest and core.entry_at(index) is not known.get(index):
            index -= 1
        return index + 1

    def take(self, core: Observable, changed_from: int) -> None:
        """Remembers what a look has found. Requires: it has broken nothing."""
        before = self.portraits[core.node]
        if core.role == "leader":
            self.leaders.setdefault(core.term, core.node)
        for index in range(max(changed_from, core.first_index), core.last_index + 1):
            self._remember_place(core, index)
        if core.commit > self.last_committed:
            for index in range(max(self.last_committed + 1, core.first_index), core.commit + 1):
                committed = core.entry_at(index)
                assert committed is not None
                self.committed[index] = Commitment(committed, core.term)
            self.last_committed = core.commit
        before.take(core, changed_from)

    def forget_terms_behind(self, core: Observable) -> None:
        """A restarted node does not know terms that it led: then it led them alone, before they were durable, nobody
        has heard of them, and it may lead them once more with other entries; or somebody else with its vote."""
        led = [term for term, leader in self.leaders.items() if leader == core.node and term > core.term]
        for place in [place for place in self.places if place[1] in led]:
            del self.places[place]
        if core.configuration.voters == (core.node,):
            for term in led:
                del self.leaders[term]

    def _remember_place(self, core: Observable, index: int) -> None:
        entry = core.entry_at(index)
        assert entry is not None
        known = self.places.get((index, entry.term))
        if known is None or lacks_payload(known.entry) or known.term_before is None:
            if known is not None and not lacks_payload(known.entry):
                entry = known.entry
            self.places[index, entry.term] = Place(entry, core.term_at(index - 1))


def lacks_payload(entry: Entry) -> bool:
    """As a witness has it."""
    return entry.kind == Kind.COMMANDS and not entry.payload


def equal(one: Entry, other: Entry) -> bool:
    """The same entry, except that a witness has no payload."""
    if one is other:
        return True
    same_place = (one.index, one.term, one.kind) == (other.index, other.term, other.kind)
    return same_place and (one.payload == other.payload or lacks_payload(one) or lacks_payload(other))
