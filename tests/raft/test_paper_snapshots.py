"""The paper's sentences about log compaction: section 7, Figure 13."""

from __future__ import annotations

from random import Random

import pytest

from onerack.raft.core import RaftCore
from onerack.raft.messages import (
    Append,
    Appended,
    Committed,
    Configuration,
    HardState,
    HeartbeatReply,
    LogReset,
    Recovered,
    Restore,
    SendSnapshot,
    SnapshotArrived,
    SnapshotMark,
    SnapshotSent,
    SnapshotTaken,
)
from tests.raft.network import CONFIG, Network
from tests.raft.single import T, accept, answers, flush, lead, log_of, messages_of, peer

NOW = 2 * T
THREE = Configuration(voters=("n1", "n2", "n3"))
MARK = SnapshotMark(5, 2, THREE)


def behind() -> Network:
    """n3 was cut off; meanwhile the others have cut their logs."""
    network = Network(3)
    network.elect("n1")
    network.isolate("n3")
    for number in range(5):
        network.propose("n1", b"%d" % number)
    network.settle()
    network.take_snapshot("n1")
    network.heal()
    return network


def test_only_applied_state_is_snapshotted() -> None:
    core = peer(1, 1)
    with pytest.raises(AssertionError, match="applied"):
        core.step(SnapshotTaken(1), "n1", 0.0)


def test_a_snapshot_is_marked_with_its_last_index_its_term_and_the_configuration() -> None:
    network = behind()
    core = network["n1"]
    assert core.mark == SnapshotMark(core.commit, core.term, THREE)


def test_the_log_is_cut_up_to_the_snapshot_but_for_what_is_kept() -> None:
    network = Network(3)
    core = network.elect("n1")
    for _ in range(9):
        network.propose("n1")
    network.settle()
    network.take_snapshot("n1", keep=3)
    assert (core.first_index, core.last_index, core.mark.index) == (8, 10, 10)
    network.take_snapshot("n1", keep=3)
    assert core.first_index == 8
    assert core.term_at(7) == core.term
    assert core.entry_at(7) is None


def test_a_follower_behind_the_log_gets_a_snapshot_and_then_the_rest() -> None:
    network = behind()
    network.pass_time(0.3)
    assert network.nodes["n1"].snapshots_wanted == [SendSnapshot("n3", network["n1"].term)]
    network.carry_snapshots()
    network.propose("n1", b"more")
    network.settle()
    assert network.nodes["n3"].restored == [network["n1"].mark]
    assert network.nodes["n3"].commands == [b"more"]
    assert network["n3"].last_index == network["n1"].last_index


def test_a_follower_that_is_kept_for_gets_entries_not_a_snapshot() -> None:
    network = Network(3)
    network.elect("n1")
    network.isolate("n3")
    for _ in range(5):
        network.propose("n1")
    network.settle()
    network.take_snapshot("n1", keep=5)
    network.heal()
    network.pass_time(T)
    assert network.nodes["n1"].snapshots_wanted == []
    assert network["n3"].last_index == network["n1"].last_index


def test_nothing_is_sent_to_a_follower_while_its_snapshot_is_under_way() -> None:
    network = behind()
    network.pass_time(0.3)
    network.sent.clear()
    network.propose("n1", b"more")
    network.pass_time(5 * T)
    appends = [each for _, each in network.sent if each.to == "n3" and isinstance(each.message, Append)]
    assert appends == []
    assert len(network.nodes["n1"].snapshots_wanted) == 1


def test_a_snapshot_that_failed_is_sent_again() -> None:
    network = behind()
    network.pass_time(0.3)
    network.nodes["n1"].snapshots_wanted.clear()
    network.step("n1", SnapshotSent("n3", network["n1"].mark.index, False))
    assert network.nodes["n1"].snapshots_wanted == [], "not at once"
    network.pass_time(0.3)
    assert len(network.nodes["n1"].snapshots_wanted) == 1


def test_a_snapshot_of_which_nobody_speaks_any_more_is_sent_again() -> None:
    network = behind()
    network.pass_time(0.3)
    network.nodes["n1"].snapshots_wanted.clear()
    network.pass_time(201 * T)
    assert len(network.nodes["n1"].snapshots_wanted) == 1


def test_a_node_that_is_silent_is_not_sent_a_snapshot() -> None:
    core = lead(peer(1, 1))
    flush(core)
    accept(core, "n2")
    flush(core)
    core.step(SnapshotTaken(3), "n1", NOW)
    core.step(HeartbeatReply(2), "n2", NOW + 1.1)
    assert answers(flush(core), SendSnapshot) == []
    core.step(Appended(2, 2, False), "n3", NOW + 1.2)
    assert answers(flush(core), SendSnapshot) == [SendSnapshot("n3", 2)]


# ---------------------------------------------------------------------------------------------------- the follower


def test_a_snapshot_of_a_stale_term_is_refused() -> None:
    core = peer(term=3)
    core.step(SnapshotArrived(2, MARK), "n2", 0.0)
    output = flush(core)
    assert (output.writes, output.applied, core.commit) == ([], [], 0)


def test_a_snapshot_replaces_a_log_that_does_not_have_its_last_entry() -> None:
    core = peer(1, 1)
    core.step(SnapshotArrived(2, MARK), "n2", 0.0)
    output = flush(core)
    assert output.writes == [HardState(2), LogReset(MARK)]
    assert answers(output, Restore) == [Restore(MARK)]
    assert (core.first_index, core.last_index, core.commit, core.applied) == (6, 5, 5, 5)
    assert core.configuration == THREE


def test_a_snapshot_replaces_a_log_whose_entry_there_is_of_another_term() -> None:
    core = peer(1, 1, 1, 1, 1, 1, 1)
    core.step(SnapshotArrived(2, MARK), "n2", 0.0)
    assert (core.last_index, core.commit) == (5, 5)
    core.step(Append(2, 5, 2, 6, log_of(2, 2, 2, 2, 2, 2)[5:]), "n2", 0.0)
    output = flush(core)
    assert output.writes == [HardState(2), LogReset(MARK), log_of(2, 2, 2, 2, 2, 2)[5]]
    assert output.applied == [Restore(MARK), Committed((log_of(2, 2, 2, 2, 2, 2)[5],))]


def test_a_log_that_has_the_snapshots_last_entry_is_kept() -> None:
    log = log_of(1, 1, 1, 1, 2, 2, 2)
    core = peer(1, 1, 1, 1, 2, 2, 2)
    core.step(SnapshotArrived(2, MARK), "n2", 0.0)
    output = flush(core)
    assert output.writes == []
    assert output.applied == [Committed(log[:5])]
    assert core.last_index == 7


def test_an_old_snapshot_is_ignored() -> None:
    core = peer(term=2)
    core.step(Append(2, 0, 0, 6, log_of(1, 1, 1, 1, 2, 2)), "n2", 0.0)
    flush(core)
    core.step(SnapshotArrived(2, MARK), "n2", 0.0)
    output = flush(core)
    assert (output.writes, output.applied, core.commit) == ([], [], 6)


def test_a_restored_follower_tells_its_leader_what_it_has() -> None:
    core = peer(term=2)
    core.step(Append(2, 9, 2, 0), "n2", 0.0)
    flush(core)
    core.step(SnapshotArrived(2, MARK), "n2", 0.0)
    assert messages_of(flush(core), Appended) == [("n2", Appended(2, 5, True))]


def test_a_restart_goes_on_behind_the_snapshot() -> None:
    network = behind()
    network.pass_time(0.3)
    network.carry_snapshots()
    network.propose("n1", b"more")
    network.settle()
    network.pass_time(0.3)
    for name in network.alive:
        network.restart(name)
    leader = network[network.wait_for_leader()]
    network.propose(leader.node, b"again")
    network.settle()
    assert network.nodes["n3"].commands == [b"more", b"again"]


def test_a_crash_between_the_snapshot_and_the_reset_of_the_log_is_made_good() -> None:
    """The disk has the leader's snapshot, and still the old log, which does not have the snapshot's last entry."""
    core = RaftCore("n1", Recovered(HardState(2), MARK, log_of(1, 1)), CONFIG, Random(1), 0.0)
    assert (core.first_index, core.last_index) == (6, 5)
    assert core.drain().writes == [LogReset(MARK)]
