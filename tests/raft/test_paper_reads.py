"""The paper's sentences about clients and reads: section 8, and section 6.4 of the dissertation."""

from __future__ import annotations

import pytest

from onerack.config import RaftConfig
from onerack.raft.core import RaftCore
from onerack.raft.messages import (
    Configuration,
    FindReadIndex,
    FoundReadIndex,
    Heartbeat,
    HeartbeatReply,
    Propose,
    Read,
    ReadReady,
    Refused,
    RequestVote,
    TimeoutNow,
    Transfer,
)
from onerack.runtime.seam import Tick
from tests.raft.network import CONFIG, Network
from tests.raft.single import T, accept, answers, flush, lead, messages_of, peer

NOW = 2 * T
LEASES = RaftConfig(heartbeat_interval_s=0.1, election_timeout_s=1.0, lease_reads=True, clock_drift=0.1)


def test_a_node_that_does_not_lead_points_to_the_leader() -> None:
    core = peer()
    core.step(Heartbeat(1, 0), "n3", 0.0)
    core.step(Propose(5, b"x"), "n1", 0.0)
    assert answers(flush(core), Refused) == [Refused(5, "not_leader", "n3")]


def test_a_leader_that_has_committed_nothing_in_its_term_answers_no_read() -> None:
    core = lead(peer(1))
    core.step(Read(5), "n1", NOW)
    core.step(FindReadIndex(2, 6), "n2", NOW)
    output = flush(core)
    assert answers(output, Refused) == [Refused(5, "not_ready", "n1")]
    assert messages_of(output, FoundReadIndex) == [("n2", FoundReadIndex(2, 6, 0))]


def test_a_read_is_answered_when_a_majority_has_answered_a_heartbeat_sent_after_it_came() -> None:
    core = lead(peer(size=5))
    flush(core)
    accept(core, "n2", "n3")
    flush(core)
    core.step(Read(5), "n1", NOW)
    (_, beat), *_ = messages_of(flush(core), Heartbeat)
    core.step(HeartbeatReply(1, beat.round - 1), "n2", NOW)
    core.step(HeartbeatReply(1, beat.round), "n2", NOW)
    assert answers(flush(core), ReadReady) == []
    core.step(HeartbeatReply(1, beat.round), "n3", NOW)
    assert answers(flush(core), ReadReady) == [ReadReady(5, core.commit)]


def test_one_round_serves_all_reads_that_wait_at_its_start() -> None:
    core = lead(peer())
    flush(core)
    accept(core, "n2")
    flush(core)
    for number in range(100):
        core.step(Read(number), "n1", NOW)
    beats = messages_of(flush(core), Heartbeat)
    assert [to for to, _ in beats] == ["n2", "n3"]
    core.step(Read(100), "n1", NOW)
    assert messages_of(flush(core), Heartbeat) == [], "it waits until the round is over"
    core.step(HeartbeatReply(1, beats[0][1].round), "n2", NOW)
    output = flush(core)
    assert [ready.number for ready in answers(output, ReadReady)] == list(range(100))
    assert len(messages_of(output, Heartbeat)) == 2, "the next round, for the one that came later"


def test_a_round_that_is_lost_is_made_good_by_the_next_heartbeat() -> None:
    core = lead(peer())
    flush(core)
    accept(core, "n2")
    flush(core)
    core.step(Read(5), "n1", NOW)
    flush(core)
    core.step(Tick(), "n1", NOW + 0.1)
    (_, beat), *_ = messages_of(flush(core), Heartbeat)
    core.step(HeartbeatReply(1, beat.round), "n3", NOW + 0.1)
    assert answers(flush(core), ReadReady) == [ReadReady(5, core.commit)]


def test_a_leader_that_was_deposed_answers_no_read() -> None:
    network = Network(3)
    network.elect("n1")
    network.isolate("n1")
    number = network.read("n1")
    network.settle()
    network.elect("n2")
    network.propose("n2", b"new")
    network.settle()
    assert network.answer("n1", number) is None
    network.heal()
    network.pass_time(T)
    assert isinstance(network.answer("n1", number), Refused)


def test_a_single_node_reads_at_once() -> None:
    network = Network(1)
    network.elect("n1")
    number = network.read("n1")
    assert network.answer("n1", number) == ReadReady(number, network["n1"].commit)


def test_a_follower_asks_the_leader_for_the_index_and_reads_its_own_state() -> None:
    network = Network(3)
    leader = network.elect("n1")
    network.propose("n1", b"a")
    network.settle()
    number = network.read("n3")
    network.settle()
    assert network.answer("n3", number) == ReadReady(number, leader.commit)


def test_a_learner_reads_like_a_follower() -> None:
    network = Network(3)
    network.elect("n1")
    network.start("n4")
    wanted = Configuration(voters=("n1", "n2", "n3"), learners=("n4",))
    network.change("n1", wanted)
    network.settle()
    network.pass_time(T)
    number = network.read("n4")
    network.settle()
    assert network.answer("n4", number) == ReadReady(number, network["n1"].commit)


def test_a_follower_without_a_leader_refuses_a_read() -> None:
    core = peer()
    core.step(Read(5), "n1", 0.0)
    assert answers(flush(core), Refused) == [Refused(5, "not_leader")]


def test_a_follower_believes_only_an_answer_to_what_it_has_asked() -> None:
    core = peer(term=1)
    core.step(Heartbeat(1, 0), "n2", 0.0)
    core.step(Read(5), "n1", 0.0)
    ((_, asked),) = messages_of(flush(core), FindReadIndex)
    core.step(FoundReadIndex(1, asked.number + 1, 9), "n2", 0.0)
    assert answers(flush(core), ReadReady) == []
    for _ in range(2):
        core.step(FoundReadIndex(1, asked.number, 9), "n2", 0.0)
    assert answers(flush(core), ReadReady) == [ReadReady(5, 9)]


def test_an_answer_to_an_earlier_run_of_a_follower_answers_nothing() -> None:
    asked = []
    for seed in (1, 2):
        core = peer(term=1, seed=seed)
        core.step(Heartbeat(1, 0), "n2", 0.0)
        core.step(Read(5), "n1", 0.0)
        asked += [message.number for _, message in messages_of(flush(core), FindReadIndex)]
    assert abs(asked[0] - asked[1]) > 1_000_000


def test_a_read_of_a_follower_whose_leader_is_gone_is_refused() -> None:
    core = peer(term=1)
    core.step(Heartbeat(1, 0), "n2", 0.0)
    core.step(Read(5), "n1", 0.0)
    core.step(Heartbeat(2, 0), "n3", 0.0)
    assert answers(flush(core), Refused) == [Refused(5, "not_leader", "n3")]


def test_more_reads_than_may_wait_are_refused_as_overloaded() -> None:
    config = RaftConfig(reads_max=2)
    core = lead(peer(config=config))
    flush(core)
    accept(core, "n2")
    for number in range(3):
        core.step(Read(number), "n1", NOW)
    assert answers(flush(core), Refused) == [Refused(2, "overloaded", "n1")]


# ---------------------------------------------------------------------------------------------------------- leases


def leased(config: RaftConfig = LEASES) -> tuple[RaftCore, float]:
    """A leader, and the moment at which it sent the round that a quorum has answered."""
    core = lead(peer(config=config))
    flush(core)
    accept(core, "n2")
    core.step(Tick(), "n1", NOW + 0.1)
    (_, beat), *_ = messages_of(flush(core), Heartbeat)
    core.step(HeartbeatReply(1, beat.round), "n2", NOW + 0.3)
    flush(core)
    return core, NOW + 0.1


def test_with_a_lease_a_read_is_answered_at_once() -> None:
    core, _ = leased()
    core.step(Read(5), "n1", NOW + 0.4)
    output = flush(core)
    assert answers(output, ReadReady) == [ReadReady(5, core.commit)]
    assert messages_of(output, Heartbeat) == []


@pytest.mark.parametrize(("after", "at_once"), [(0.89, True), (0.91, False)])
def test_a_lease_counts_from_the_sending_of_the_round_less_the_drift_of_clocks(after: float, at_once: bool) -> None:
    core, sent_at = leased()
    core.step(Read(5), "n1", sent_at + after * T)
    assert bool(answers(flush(core), ReadReady)) is at_once


def test_leases_are_off_unless_asked_for() -> None:
    core, _ = leased(CONFIG)
    core.step(Read(5), "n1", NOW + 0.31)
    assert answers(flush(core), ReadReady) == []


def test_a_transfer_ends_the_lease_for_the_rest_of_the_term() -> None:
    core, _ = leased()
    core.step(Transfer(1, "n2"), "n1", NOW + 0.3)
    assert messages_of(flush(core), TimeoutNow)
    core.step(HeartbeatReply(1, 1), "n2", NOW + 0.35)
    core.step(Read(5), "n1", NOW + 0.35)
    assert answers(flush(core), ReadReady) == []


def test_with_leases_a_node_that_restarts_keeps_what_it_may_have_promised() -> None:
    core = peer(term=3, config=LEASES)
    assert core.role == "follower"
    core.step(RequestVote(4, 9, 9), "n2", 0.9 * T)
    assert core.term == 3
    core.step(RequestVote(4, 9, 9), "n2", 1.0 * T)
    assert core.hard_state.vote == "n2"
