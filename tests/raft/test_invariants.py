"""Each invariant is planted false, and is reported by its name.

A `Fake` is what a history reads of a core, as plain attributes, so that it can be wrong in any way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from onerack.errors import InvariantBroken
from onerack.raft.core.membership import encode_configuration
from onerack.raft.invariants import Watch
from onerack.raft.invariants.properties import PROPERTIES
from onerack.raft.messages import (
    Appended,
    Committed,
    Configuration,
    Entry,
    HardState,
    Kind,
    Restore,
    SnapshotMark,
    Vote,
)
from onerack.runtime.seam import Envelope

THREE = Configuration(voters=("a", "b", "c"))


class Fake:
    """A core that says what it was told to say."""

    def __init__(self, node: str, *terms: int, **facts: Any) -> None:
        self.node = node
        self.entries = [Entry(term, index, Kind.COMMANDS, b"%d" % term) for index, term in enumerate(terms, 1)]
        self.term = max((1, *terms))
        self.vote = ""
        self.role = "follower"
        self.commit = self.applied = 0
        self.mark = SnapshotMark(configuration=THREE)
        self.configuration = THREE
        self.is_witness = False
        self.durable = len(terms)
        self.first_index = 1
        self.set(**facts)

    def set(self, **facts: Any) -> Fake:
        for name, value in facts.items():
            setattr(self, name, value)
        return self

    def write(self, first: int, *terms: int) -> Fake:
        """Replaces everything from `first` on."""
        del self.entries[first - 1 :]
        self.entries += [Entry(term, index, Kind.COMMANDS, b"%d" % term) for index, term in enumerate(terms, first)]
        self.durable = len(self.entries)
        return self

    @property
    def hard_state(self) -> HardState:
        return HardState(self.term, self.vote)

    @property
    def last_index(self) -> int:
        return len(self.entries)

    def entry_at(self, index: int) -> Entry | None:
        return self.entries[index - 1] if self.first_index <= index <= len(self.entries) else None

    def term_at(self, index: int) -> int | None:
        if index == 0:
            return 0
        return self.entries[index - 1].term if self.first_index - 1 <= index <= len(self.entries) else None


def a_cluster(*terms: int, commit: int = 0) -> tuple[Watch, Fake, Fake, Fake]:
    """a leads, b and c follow; all have the same log."""
    watch = Watch()
    b, c = Fake("b", *terms), Fake("c", *terms)
    a = Fake("a", *terms, role="leader", vote="a")
    for node in (b, c, a):
        watch.look(node)
    for node in (a, b, c):
        watch.look(node.set(commit=commit, applied=commit))
    return watch, a, b, c


def configuration_entry(term: int, index: int) -> Entry:
    return Entry(term, index, Kind.CONFIGURATION, encode_configuration(THREE))


Plant = Callable[[], None]


def two_leaders() -> None:
    watch, _, b, _ = a_cluster(1)
    watch.look(b.set(role="leader"))


def a_leader_that_truncates() -> None:
    watch, a, _, _ = a_cluster(1, 1)
    watch.look(a.write(2))


def a_leader_that_overwrites() -> None:
    watch, a, _, _ = a_cluster(1, 1)
    watch.look(a.write(2, 1, 1))


def another_entry_at_the_same_place() -> None:
    watch, _, b, _ = a_cluster(1)
    b.entries[0] = Entry(1, 1, Kind.COMMANDS, b"other")
    watch.look(b)


def another_term_before_the_same_entry() -> None:
    watch, _, b, _ = a_cluster(1, 3)
    watch.look(b.set(term=3).write(1, 2, 3))


def an_entry_in_the_wrong_place() -> None:
    watch, _, b, _ = a_cluster(1)
    b.entries.append(Entry(1, 7, Kind.COMMANDS, b"x"))
    watch.look(b)


def a_leader_without_a_committed_entry() -> None:
    watch, _, b, _ = a_cluster(1, 1, commit=1)
    b.set(commit=0, applied=0)
    watch.history.portraits["b"].commit = watch.history.portraits["b"].applied = 0
    watch.look(b.write(1, 2).set(term=2))
    watch.look(b.set(role="leader"))


def another_entry_committed() -> None:
    watch, _, b, _ = a_cluster(1, 1, commit=1)
    watch.history.portraits["b"].commit = watch.history.portraits["b"].applied = 0
    watch.look(b.write(1, 2).set(term=2, commit=1, applied=1))


def a_committed_entry_removed() -> None:
    watch, _, b, _ = a_cluster(1, 1, commit=2)
    watch.look(b.write(2, 2).set(term=2, commit=1, applied=1))


def a_commit_that_only_the_leader_has() -> None:
    watch, a, _, _ = a_cluster(1)
    a.write(2, 1)
    watch.look(a)
    watch.look(a.set(commit=2))


def a_commit_that_is_on_no_disk() -> None:
    watch, a, b, _ = a_cluster(1)
    watch.look(b.write(2, 1).set(durable=1))
    watch.look(a.write(2, 1))
    watch.look(a.set(commit=2))


def a_commit_that_one_majority_of_two_has() -> None:
    watch, a, b, _ = a_cluster(1)
    joint = Configuration(voters=("a", "d", "e"), outgoing=("a", "b", "c"))
    watch.look(b.write(2, 1))
    watch.look(a.write(2, 1).set(configuration=joint))
    watch.look(a.set(commit=2, configuration=Configuration(voters=("a", "d", "e"))))


def a_commit_of_an_old_term() -> None:
    watch, a, b, c = a_cluster(1)
    for node in (b, c, a):
        watch.look(node.set(term=2, role="follower", vote=""))
    watch.look(a.set(role="leader"))
    watch.look(a.set(commit=1))


def a_follower_that_commits_first() -> None:
    watch, _, b, _ = a_cluster(1)
    watch.look(b.set(commit=1))


def two_changes_at_once() -> None:
    watch, a, _, _ = a_cluster(1)
    a.entries += [configuration_entry(1, 2)]
    watch.look(a.set(durable=2))
    a.entries += [configuration_entry(1, 3)]
    watch.look(a.set(durable=3))


def a_witness_that_campaigns() -> None:
    watch, _, _, c = a_cluster(1)
    watch.look(c.set(is_witness=True, role="candidate", term=2))


def a_term_that_falls() -> None:
    watch, _, b, _ = a_cluster(1)
    watch.look(b.set(term=5))
    watch.look(b.set(term=4))


def a_term_that_falls_along_the_log() -> None:
    watch, _, b, _ = a_cluster(1)
    watch.look(b.set(term=3).write(2, 3, 2))


def a_log_of_a_later_term() -> None:
    watch, _, b, _ = a_cluster(1)
    watch.look(b.write(2, 9))


def a_vote_that_changes() -> None:
    watch, _, b, _ = a_cluster(1)
    watch.look(b.set(vote="a"))
    watch.look(b.set(vote="c"))


def a_vote_that_is_forgotten_in_a_crash() -> None:
    watch, _, b, _ = a_cluster(1)
    watch.look(b.set(vote="a"))
    watch.sent("b", [Envelope("a", Vote(1, True))])
    watch.restarted(Fake("b", 1))
    watch.look(Fake("b", 1, vote="c"))


def a_vote_that_is_told_twice() -> None:
    watch, _, _, _ = a_cluster(1)
    watch.sent("b", [Envelope("a", Vote(1, True)), Envelope("c", Vote(1, True))])


def a_commit_index_that_falls() -> None:
    watch, _, b, _ = a_cluster(1, 1, commit=2)
    watch.look(b.set(commit=1, applied=1))


def an_applied_index_that_falls() -> None:
    watch, _, b, _ = a_cluster(1, 1, commit=2)
    watch.look(b.set(applied=1))


def more_applied_than_committed() -> None:
    watch, _, b, _ = a_cluster(1)
    watch.look(b.set(applied=1))


def a_cut_of_what_is_not_applied() -> None:
    watch, _, b, _ = a_cluster(1, 1, 1)
    watch.look(b.set(first_index=3))


def a_disk_that_has_more_than_the_log() -> None:
    watch, _, b, _ = a_cluster(1)
    watch.look(b.set(durable=2))


def an_acknowledgement_before_the_disk() -> None:
    watch, _, b, _ = a_cluster(1)
    watch.look(b.write(2, 1).set(durable=1))
    watch.sent("b", [Envelope("a", Appended(1, 2, True))])


def an_acknowledged_entry_lost_in_a_crash() -> None:
    watch, _, _, _ = a_cluster(1, 1)
    watch.sent("b", [Envelope("a", Appended(1, 2, True))])
    watch.restarted(Fake("b", 1))


def an_entry_applied_twice() -> None:
    watch, a, _, _ = a_cluster(1, 1, commit=2)
    watch.handed_out("a", [Committed(tuple(a.entries)), Committed((a.entries[1],))])


def an_entry_left_out() -> None:
    watch, a, _, _ = a_cluster(1, 1, commit=2)
    watch.handed_out("a", [Committed((a.entries[1],))])


def an_entry_applied_that_is_not_committed() -> None:
    watch, a, _, _ = a_cluster(1, 1)
    watch.handed_out("a", [Committed((a.entries[0],))])


def another_entry_applied() -> None:
    watch, _, _, _ = a_cluster(1, 1, commit=2)
    watch.handed_out("a", [Committed((Entry(1, 1, Kind.COMMANDS, b"other"),))])


def a_snapshot_of_something_else() -> None:
    watch, _, _, _ = a_cluster(1, 1, commit=2)
    watch.handed_out("a", [Restore(SnapshotMark(2, 9, THREE))])


def a_snapshot_that_goes_back() -> None:
    watch, a, _, _ = a_cluster(1, 1, commit=2)
    watch.handed_out("a", [Committed(tuple(a.entries)), Restore(SnapshotMark(1, 1, THREE))])


PLANTED: list[tuple[str, Plant]] = [
    ("election_safety", two_leaders),
    ("leader_append_only", a_leader_that_truncates),
    ("leader_append_only", a_leader_that_overwrites),
    ("log_matching", another_entry_at_the_same_place),
    ("log_matching", another_term_before_the_same_entry),
    ("log_matching", an_entry_in_the_wrong_place),
    ("leader_completeness", a_leader_without_a_committed_entry),
    ("state_machine_safety", another_entry_committed),
    ("state_machine_safety", another_entry_applied),
    ("state_machine_safety", a_snapshot_of_something_else),
    ("committed_entries_stay", a_committed_entry_removed),
    ("commits_are_on_a_quorum", a_commit_that_only_the_leader_has),
    ("commits_are_on_a_quorum", a_commit_that_is_on_no_disk),
    ("commits_are_on_a_quorum", a_commit_that_one_majority_of_two_has),
    ("commits_are_on_a_quorum", a_commit_of_an_old_term),
    ("leaders_commit_first", a_follower_that_commits_first),
    ("one_change_at_a_time", two_changes_at_once),
    ("witnesses_never_lead", a_witness_that_campaigns),
    ("terms_never_fall", a_term_that_falls),
    ("terms_never_fall", a_term_that_falls_along_the_log),
    ("terms_never_fall", a_log_of_a_later_term),
    ("votes_never_change", a_vote_that_changes),
    ("votes_never_change", a_vote_that_is_forgotten_in_a_crash),
    ("votes_never_change", a_vote_that_is_told_twice),
    ("commit_never_falls", a_commit_index_that_falls),
    ("commit_never_falls", an_applied_index_that_falls),
    ("bounds_hold", more_applied_than_committed),
    ("bounds_hold", a_cut_of_what_is_not_applied),
    ("bounds_hold", a_disk_that_has_more_than_the_log),
    ("acknowledged_entries_are_durable", an_acknowledgement_before_the_disk),
    ("acknowledged_entries_are_durable", an_acknowledged_entry_lost_in_a_crash),
    ("entries_are_applied_in_order", an_entry_applied_twice),
    ("entries_are_applied_in_order", an_entry_left_out),
    ("entries_are_applied_in_order", a_snapshot_that_goes_back),
    ("only_committed_entries_are_applied", an_entry_applied_that_is_not_committed),
]


@pytest.mark.parametrize(("name", "plant"), PLANTED, ids=[plant.__name__ for _, plant in PLANTED])
def test_what_is_planted_is_reported_by_its_name(name: str, plant: Plant) -> None:
    with pytest.raises(InvariantBroken) as found:
        plant()
    assert found.value.name == name, found.value


def test_every_property_has_been_planted() -> None:
    assert {each.__name__ for each in PROPERTIES} <= {name for name, _ in PLANTED}


def test_a_right_cluster_breaks_nothing() -> None:
    watch, a, b, c = a_cluster(1, 1, commit=2)
    for node in (a, b, c):
        watch.handed_out(node.node, [Committed(tuple(node.entries))])
    watch.look(a.write(3, 1))
    watch.sent("b", [Envelope("a", Appended(1, 2, True))])
    watch.restarted(Fake("b", 1, 1))
    for node in (b, c):
        watch.look(node.write(3, 1).set(commit=2, applied=2))
    watch.look(a.set(commit=3, applied=3))


def test_a_look_at_a_log_that_has_not_changed_costs_one_comparison() -> None:
    watch, a, _, _ = a_cluster(*[1] * 1000)
    looked: list[int] = []
    entry_at = a.entry_at
    a.entry_at = lambda index: (looked.append(index), entry_at(index))[1]  # type: ignore[method-assign, func-returns-value]
    watch.look(a)
    assert len(looked) <= 1
