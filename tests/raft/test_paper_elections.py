"""The paper's sentences about terms and elections: sections 5.1, 5.2, 5.4.1 and 5.6. One test per sentence.

Each draws its situation, lets one thing happen, and looks.
"""

from __future__ import annotations

from typing import Any

import pytest

from onerack.raft.messages import (
    NOBODY,
    Append,
    Appended,
    FindReadIndex,
    FoundReadIndex,
    HardState,
    Heartbeat,
    HeartbeatReply,
    Recovered,
    RequestVote,
    TimeoutNow,
    Vote,
)
from onerack.runtime.seam import Tick
from tests.raft.network import CONFIG, Network
from tests.raft.single import T, campaign, flush, lead, messages_of, peer

# ------------------------------------------------------------------------------------------------------- section 5.1


@pytest.mark.parametrize("role", ["follower", "precandidate", "candidate", "leader"])
@pytest.mark.parametrize(
    "message",
    [
        RequestVote(9, 9, 9),
        Vote(9, False),
        Vote(9, False, pre=True),
        Append(9, 0, 0, 0),
        Appended(9, 0, False),
        Heartbeat(9, 0),
        HeartbeatReply(9),
        FindReadIndex(9, 1),
        FoundReadIndex(9, 1, 0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_newer_term_in_any_message_makes_every_role_a_follower_of_that_term(role: str, message: Any) -> None:
    core = peer()
    if role == "precandidate":
        core.step(Tick(), "n1", 2 * T)
    elif role == "candidate":
        campaign(core)
    elif role == "leader":
        lead(core)
        if isinstance(message, RequestVote):
            message = RequestVote(9, 9, 9, transfer=True)  # without that, a leader ignores it
    assert core.role == role
    core.step(message, "n2", 2 * T)
    assert (core.role, core.term) == ("follower", 9)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (RequestVote(3, 9, 3), Vote(5, False)),
        (RequestVote(3, 9, 3, pre=True), Vote(5, False, pre=True)),
        (Append(3, 0, 0, 0), Appended(5, 0, False)),
        (Heartbeat(3, 0), HeartbeatReply(5)),
        (FindReadIndex(3, 7), FoundReadIndex(5, 7, 0)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_request_with_a_stale_term_is_refused_with_the_current_term(request_: Any, answer: Any) -> None:
    core = peer(term=5)
    core.step(request_, "n2", 0.0)
    assert messages_of(flush(core), type(answer)) == [("n2", answer)]
    assert (core.term, core.leader) == (5, NOBODY)


@pytest.mark.parametrize("answer", [Vote(3, True), Appended(3, 1, True), HeartbeatReply(3), TimeoutNow(3)])
def test_an_answer_with_a_stale_term_changes_nothing(answer: Any) -> None:
    core = peer(term=5)
    core.step(answer, "n2", 0.0)
    output = flush(core)
    assert (core.role, core.term) == ("follower", 5)
    assert not output.writes
    assert not output.sends


def test_nodes_start_as_followers_whatever_they_were() -> None:
    core = peer(1, 2, term=2, vote="n1")
    assert (core.role, core.term, core.leader) == ("follower", 2, NOBODY)


# ------------------------------------------------------------------------------------------------------- section 5.2


def test_the_leader_sends_heartbeats_to_all_every_interval() -> None:
    core = lead(peer())
    now = 2 * T
    for _ in range(5):
        for other in ("n2", "n3"):
            core.step(HeartbeatReply(core.term), other, now)
        wake_at = flush(core).wake_at
        assert wake_at is not None
        assert wake_at == pytest.approx(now + CONFIG.heartbeat_interval_s)
        now = wake_at
        core.step(Tick(), "n1", now)
        assert [to for to, _ in messages_of(flush(core), Heartbeat)] == ["n2", "n3"]


def test_a_follower_that_hears_nothing_for_the_timeout_asks_all_whether_they_would_vote() -> None:
    core = peer(1, 1)
    wake_at = core.drain().wake_at
    assert wake_at is not None
    core.step(Tick(), "n1", wake_at - 0.001)
    assert core.role == "follower"
    core.step(Tick(), "n1", wake_at)
    asked = messages_of(flush(core), RequestVote)
    assert asked == [(to, RequestVote(2, 2, 1, pre=True)) for to in ("n2", "n3")]
    assert (core.role, core.term) == ("precandidate", 1)


def test_a_candidate_raises_its_term_votes_for_itself_and_asks_all() -> None:
    core = peer(1, 1)
    campaign(core)
    output = flush(core)
    assert output.writes == [HardState(2, "n1")]
    assert (messages_of(output, RequestVote))[-2:] == [(to, RequestVote(2, 2, 1)) for to in ("n2", "n3")]
    assert output.early == []


def test_a_candidate_whose_election_times_out_starts_another() -> None:
    core = peer()
    campaign(core)
    wake_at = flush(core).wake_at
    assert wake_at is not None
    core.step(Tick(), "n1", wake_at)
    assert core.role == "precandidate"
    core.step(Vote(2, True, pre=True), "n2", wake_at)
    assert (core.role, core.term) == ("candidate", 2)


@pytest.mark.parametrize(
    ("size", "granted", "denied", "role"),
    [
        (1, 0, 0, "leader"),
        (2, 0, 0, "candidate"),
        (2, 1, 0, "leader"),
        (3, 0, 0, "candidate"),
        (3, 1, 0, "leader"),
        (3, 0, 1, "candidate"),
        (3, 0, 2, "follower"),
        (4, 1, 0, "candidate"),
        (4, 2, 0, "leader"),
        (4, 1, 2, "follower"),
        (5, 1, 2, "candidate"),
        (5, 2, 0, "leader"),
        (5, 2, 2, "leader"),
        (5, 1, 3, "follower"),
        (7, 3, 0, "leader"),
        (7, 2, 4, "follower"),
        (7, 2, 3, "candidate"),
    ],
)
def test_a_candidate_wins_only_with_a_majority_of_the_whole_cluster(
    size: int, granted: int, denied: int, role: str
) -> None:
    core = peer(size=size)
    campaign(core)
    voters = iter(core.configuration.voters[1:])
    for _ in range(granted):
        core.step(Vote(1, True), next(voters), 2 * T)
    for _ in range(denied):
        core.step(Vote(1, False), next(voters), 2 * T)
    assert (core.role, core.term) == (role, 1)


def test_a_vote_that_is_repeated_counts_once() -> None:
    core = peer(size=5)
    campaign(core)
    for _ in range(3):
        core.step(Vote(1, True), "n2", 2 * T)
    assert core.role == "candidate"


def test_a_vote_of_a_node_that_is_no_voter_does_not_count() -> None:
    core = peer()
    campaign(core)
    core.step(Vote(1, True), "stranger", 2 * T)
    assert core.role == "candidate"


@pytest.mark.parametrize(("vote", "candidate", "granted"), [("", "n2", True), ("n2", "n2", True), ("n3", "n2", False)])
def test_one_vote_per_term_first_come_first_served(vote: str, candidate: str, granted: bool) -> None:
    core = peer(term=4, vote=vote)
    core.step(RequestVote(4, 0, 0), candidate, 0.0)
    assert messages_of(flush(core), Vote) == [(candidate, Vote(4, granted))]


def test_the_winner_tells_everybody_at_once() -> None:
    core = lead(peer(1))
    assert [to for to, _ in messages_of(flush(core), Append)] == ["n2", "n3"]


@pytest.mark.parametrize("term", [2, 3])
@pytest.mark.parametrize("message", [Append, Heartbeat])
def test_a_candidate_follows_a_leader_whose_term_is_not_older_than_its_own(term: int, message: type) -> None:
    core = peer(1)
    campaign(core)
    assert (core.role, core.term) == ("candidate", 2)
    core.step(Append(term, 0, 0, 0) if message is Append else Heartbeat(term, 0), "n3", 2 * T)
    assert (core.role, core.term, core.leader) == ("follower", term, "n3")


def test_a_candidate_refuses_an_append_of_an_older_term_and_stays_candidate() -> None:
    core = peer(1)
    campaign(core)
    core.step(Append(1, 0, 0, 0), "n3", 2 * T)
    assert messages_of(flush(core), Appended) == [("n3", Appended(2, 0, False))]
    assert core.role == "candidate"


def test_a_split_vote_ends_in_a_new_term() -> None:
    network = Network(4)
    for name in ("n1", "n2"):
        network[name].step(Tick(), name, 2 * T)
    for name, friend in (("n1", "n3"), ("n2", "n4")):
        # Each is promised a majority, and then gets the vote of only one other.
        for voter in ("n3", "n4"):
            network.step(name, Vote(1, True, pre=True), voter)
        network.step(friend, RequestVote(1, 0, 0), name)
    network.flying = [each for each in network.flying if isinstance(each[1].message, Vote)]
    network.settle()
    assert [network[name].role for name in ("n1", "n2")] == ["candidate", "candidate"]
    assert network[network.wait_for_leader()].term > 1


@pytest.mark.parametrize("role", ["follower", "precandidate"])
def test_timeouts_are_drawn_anew_from_T_to_twice_T(role: str) -> None:  # noqa: N802
    core, now, seen = peer(), 0.0, set()
    for _ in range(300):
        if role == "follower":
            core.step(Heartbeat(1, 0), "n2", now)
        wake_at = flush(core, now).wake_at
        assert wake_at is not None
        seen.add(round((wake_at - now) / T, 2))
        assert T <= wake_at - now < 2 * T
        now = wake_at
        if role == "precandidate":
            core.step(Tick(), "n1", now)
    assert len(seen) > 80


def test_collisions_of_timeouts_are_rare() -> None:
    collisions = 0
    for seed in range(200):
        wakes = sorted(peer(seed=seed * 5 + number).drain().wake_at or 0.0 for number in range(5))
        collisions += wakes[1] - wakes[0] < 0.01 * T
    assert collisions < 30


# ------------------------------------------------------------------------------------------ pre-vote, check quorum


def test_a_pre_vote_changes_nobodys_term_nor_vote() -> None:
    core = peer(1)
    core.step(RequestVote(2, 5, 1, pre=True), "n2", 0.0)
    output = flush(core)
    assert messages_of(output, Vote) == [("n2", Vote(2, True, pre=True))]
    assert output.writes == []
    assert core.hard_state == HardState(1, NOBODY)


def test_a_node_that_hears_a_leader_ignores_requests_for_votes() -> None:
    core = peer(term=1)
    core.step(Heartbeat(1, 0), "n3", 0.0)
    flush(core)
    for pre in (True, False):
        core.step(RequestVote(2, 9, 9, pre=pre), "n2", 0.9 * T)
    assert flush(core).sends == []
    assert core.term == 1
    core.step(RequestVote(2, 9, 9), "n2", T)
    assert core.hard_state == HardState(2, "n2")


def test_a_transfer_is_voted_for_although_a_leader_is_heard() -> None:
    core = peer(term=1)
    core.step(Heartbeat(1, 0), "n3", 0.0)
    core.step(RequestVote(2, 9, 9, transfer=True), "n2", 0.1)
    assert core.hard_state == HardState(2, "n2")


def test_a_leader_without_a_quorum_for_the_election_timeout_steps_down() -> None:
    network = Network(5)
    leader = network.elect("n1")
    network.isolate("n1", "n2")
    network.pass_time(0.8 * T)
    assert leader.role == "leader"
    network.pass_time(0.5 * T)
    assert leader.role != "leader"


def test_a_node_that_was_cut_off_comes_back_without_disturbing_the_leader() -> None:
    network = Network(3)
    leader = network.elect("n1")
    term = leader.term
    network.isolate("n3")
    network.pass_time(20 * T)
    network.heal()
    network.pass_time(2 * T)
    assert (leader.role, leader.term, network["n3"].leader) == ("leader", term, "n1")


def test_a_node_with_a_newer_term_comes_back_and_is_not_stuck() -> None:
    network = Network(3)
    network.elect("n1")
    network.isolate("n3")
    network.crash("n3")
    before = network.nodes["n3"].recovered()
    network.start("n3", Recovered(HardState(50, "n3"), before.mark, before.entries))
    network.pass_time(T)
    network.heal()
    network.pass_time(5 * T)
    leader = network.wait_for_leader()
    assert {network[name].term for name in network.alive} == {network[leader].term}
    assert network["n3"].last_index == network[leader].last_index


# ----------------------------------------------------------------------------------------------------- section 5.4.1


@pytest.mark.parametrize("pre", [False, True])
@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"),
    [(2, 2, True), (3, 2, True), (1, 3, True), (1, 2, False), (9, 1, False), (0, 0, False)],
)
def test_a_vote_is_refused_if_the_voters_log_is_newer(
    last_index: int, last_term: int, granted: bool, pre: bool
) -> None:
    core = peer(1, 2)
    core.step(RequestVote(3, last_index, last_term, pre=pre), "n2", 0.0)
    assert [vote.granted for _, vote in messages_of(flush(core), Vote)] == [granted]


# ------------------------------------------------------------------------------------------------------- section 5.6


def test_delays_well_under_the_election_timeout_cause_no_election() -> None:
    network = Network(3)
    leader = network.elect("n1")
    term = leader.term
    for _ in range(50):
        delayed, network.flying = network.flying, []
        network.now += 0.2 * T
        for name in network.alive:
            network.tick(name)
        for each in delayed:
            network.deliver(*each)
    assert {network[name].term for name in network.alive} == {term}


# --------------------------------------------------------------------------------------------------------- Figure 2


def test_term_and_vote_are_durable_before_the_vote_is_told() -> None:
    core = peer()
    core.step(RequestVote(1, 0, 0), "n2", 0.0)
    output = core.drain()
    assert output.writes == [HardState(1, "n2")]
    assert output.early == []
    assert [envelope.message for envelope in output.sends] == [Vote(1, True)]


def test_nothing_is_said_in_a_term_that_could_be_forgotten() -> None:
    core = peer()
    core.step(Heartbeat(3, 0, round=7), "n2", 0.0)
    output = core.drain()
    assert output.writes == [HardState(3, NOBODY)]
    assert output.early == []
    assert messages_of(output, HeartbeatReply) == [("n2", HeartbeatReply(3, 7))]


def test_a_tick_that_is_too_early_or_an_hour_late_is_harmless() -> None:
    core = lead(peer())
    flush(core)
    core.step(Tick(), "n1", 2 * T)
    assert messages_of(flush(core), Heartbeat) == []
    core.step(Tick(), "n1", 3600.0)
    assert core.role == "follower"
    flush(core)
    core.step(Tick(), "n1", 7200.0)
    assert (core.role, core.term) == ("precandidate", 1)
