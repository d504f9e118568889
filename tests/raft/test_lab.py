"""The situations of MIT's Raft labs (6.824 / 6.5840, parts 3A to 3D), by hand: what must hold in each.

The names are theirs. Every run of every network here is also watched by all invariants.
"""

from __future__ import annotations

from random import Random

import pytest

from onerack.raft.messages import Append, Heartbeat, Proposed, RequestVote
from tests.raft.network import Network
from tests.raft.single import T


def agree(network: Network, payload: bytes, *, on: list[str] | None = None) -> int:
    """Proposes to the leader, lets it settle, and gives the index at which all of these have applied it."""
    leader = network.wait_for_leader()
    answer = network.propose(leader, payload)
    assert isinstance(answer, Proposed)
    network.settle()
    network.pass_time(0.3)
    for name in on or network.alive:
        assert payload in network.nodes[name].commands, (name, payload)
    return answer.index


# --------------------------------------------------------------------------------------------------------------- 3A


def test_initial_election() -> None:
    network = Network(3)
    leader = network.wait_for_leader()
    network.pass_time(0.3)
    terms = {network[name].term for name in network.alive}
    assert len(terms) == 1
    network.pass_time(5 * T)
    assert {network[name].term for name in network.alive} == terms
    assert network.leaders() == [leader]


def test_re_election() -> None:
    network = Network(3)
    first = network.wait_for_leader()
    network.isolate(first)
    second = network.wait_for_leader()
    assert second != first
    network.heal()
    network.pass_time(2 * T)
    assert network.leaders() == [second], "the old one returns without disturbance"
    other = next(name for name in network.alive if name not in (first, second))
    network.isolate(second)
    network.cut |= {(first, other), (other, first)}
    network.pass_time(5 * T)
    assert network.leaders() == [], "no quorum, no leader"
    network.cut -= {(first, other), (other, first)}
    network.wait_for_leader()
    network.heal()
    network.wait_for_leader()


def test_many_elections() -> None:
    network, dice = Network(7), Random(1)
    network.wait_for_leader()
    for _ in range(10):
        network.heal()
        for name in dice.sample(network.alive, 3):
            network.isolate(name)
        network.wait_for_leader()
    network.heal()
    network.wait_for_leader()


# --------------------------------------------------------------------------------------------------------------- 3B


def test_basic_agree() -> None:
    network = Network(3)
    network.wait_for_leader()
    assert all(network.nodes[name].commands == [] for name in network.alive)
    first = agree(network, b"1")
    assert [agree(network, b"%d" % number) for number in (2, 3)] == [first + 1, first + 2]


def test_follower_failure() -> None:
    network = Network(3)
    leader = network.wait_for_leader()
    one, other = (name for name in network.alive if name != leader)
    network.isolate(one)
    agree(network, b"with two of three", on=[leader, other])
    network.isolate(other)
    network.cut |= {(leader, other), (other, leader)}
    answer = network.propose(leader, b"alone")
    assert isinstance(answer, Proposed)
    network.pass_time(3 * T)
    assert network[leader].commit < answer.index


def test_leader_failure() -> None:
    network = Network(3)
    first = network.wait_for_leader()
    network.isolate(first)
    second = network.wait_for_leader()
    other = next(name for name in network.alive if name not in (first, second))
    agree(network, b"with two of three", on=[second, other])
    network.isolate(second, first)
    answer = network.propose(second, b"alone")
    network.pass_time(3 * T)
    assert network[second].commit < answer.index


def test_fail_agree() -> None:
    network = Network(3)
    leader = network.wait_for_leader()
    agree(network, b"1")
    cut_off = next(name for name in network.alive if name != leader)
    network.isolate(cut_off)
    for payload in (b"2", b"3"):
        agree(network, payload, on=[leader])
    network.heal()
    network.pass_time(T)
    agree(network, b"4")
    assert network.nodes[cut_off].commands == [b"1", b"2", b"3", b"4"]


def test_fail_no_agree() -> None:
    network = Network(5)
    leader = network.wait_for_leader()
    agree(network, b"1")
    others = [name for name in network.alive if name != leader]
    for name in others[:3]:
        network.isolate(name)
    lost = network.propose(leader, b"2")
    network.pass_time(2 * T)
    assert network[leader].commit < lost.index
    network.heal()
    network.pass_time(2 * T)
    index = agree(network, b"3")
    # The new leader's empty entry comes before it, and what was proposed in vain may have stayed.
    assert lost.index < index <= lost.index + 2


def test_concurrent_starts() -> None:
    network = Network(3)
    leader = network.wait_for_leader()
    proposed = [network.propose(leader, b"%d" % number) for number in range(5)]
    network.settle()
    assert len({answer.index for answer in proposed}) == 5
    assert len({answer.term for answer in proposed}) == 1
    assert all(network.nodes[name].commands == [b"0", b"1", b"2", b"3", b"4"] for name in network.alive)


def test_rejoin() -> None:
    network = Network(3)
    first = network.wait_for_leader()
    agree(network, b"101")
    network.isolate(first)
    for payload in (b"102", b"103", b"104"):
        network.propose(first, payload)
    second = network.wait_for_leader()
    agree(network, b"103'", on=[second])
    network.isolate(second, *[])
    network.cut -= {pair for pair in network.cut if second not in pair}
    network.pass_time(2 * T)
    agree(network, b"104'", on=[first])
    network.heal()
    network.pass_time(2 * T)
    agree(network, b"105")
    assert {tuple(network.nodes[name].commands) for name in network.alive} == {(b"101", b"103'", b"104'", b"105")}


def test_backup() -> None:
    """Logs of 50 uncommitted entries on both sides of a network partition are repaired fast."""
    network = Network(5)
    first = network.wait_for_leader()
    agree(network, b"start")
    friend, *others = (name for name in network.alive if name != first)
    network.isolate(first, friend)
    for number in range(50):
        network.propose(first, b"lost %d" % number)
    network.settle()
    second = network.wait_for_leader()
    for number in range(50):
        network.propose(second, b"kept %d" % number)
    network.settle()
    network.heal()
    network.sent.clear()
    network.pass_time(2 * T)
    agree(network, b"end")
    assert {tuple(network.nodes[name].commands) for name in network.alive} == {
        (b"start", *(b"kept %d" % number for number in range(50)), b"end")
    }
    refusals = sum(not getattr(each.message, "accepted", True) for _, each in network.sent)
    assert refusals <= 6
    assert len(others) == 3


def test_count() -> None:
    network = Network(3)
    leader = network.wait_for_leader()
    requests = (RequestVote, Append, Heartbeat)
    assert sum(isinstance(each.message, requests) for _, each in network.sent) <= 30
    network.pass_time(0.5)
    network.sent.clear()
    for number in range(10):
        network.propose(leader, b"%d" % number)
    network.settle()
    assert sum(isinstance(each.message, requests) for _, each in network.sent) <= (10 + 1 + 3) * 3
    network.pass_time(0.5)
    network.sent.clear()
    network.pass_time(1.0)
    assert sum(isinstance(each.message, requests) for _, each in network.sent) <= 60


# --------------------------------------------------------------------------------------------------------------- 3C


def test_persist_1() -> None:
    network = Network(3)
    expected = [b"11"]
    agree(network, b"11")
    for name in network.alive:
        network.restart(name)
    for victim in ("leader", "follower"):
        leader = network.wait_for_leader()
        expected.append(victim.encode())
        agree(network, expected[-1])
        name = leader if victim == "leader" else next(each for each in network.alive if each != leader)
        network.crash(name)
        agree(network, b"without " + expected[-1])
        expected.append(b"without " + expected[-1])
        network.restart(name)
        network.pass_time(2 * T)
    assert all(network.nodes[name].core.last_index == network["n1"].last_index for name in network.alive)
    agree(network, b"end")


def test_persist_2() -> None:
    """Rolling crashes of five."""
    network = Network(5)
    for turn in range(5):
        leader = network.wait_for_leader()
        agree(network, b"all %d" % turn)
        one, two, three, four = (name for name in network.alive if name != leader)
        network.crash(one)
        network.crash(two)
        agree(network, b"three %d" % turn)
        for name in (leader, three, four):
            network.crash(name)
        for name in (one, two, three):
            network.restart(name)
        network.wait_for_leader()
        for name in (leader, four):
            network.restart(name)
    agree(network, b"end")


def test_persist_3() -> None:
    """Leader and follower crash; the leader restarts with the one that was cut off, and agreement goes on."""
    network = Network(3)
    agree(network, b"101")
    leader = network.wait_for_leader()
    one, two = (name for name in network.alive if name != leader)
    network.isolate(two)
    agree(network, b"102", on=[leader, one])
    network.crash(leader)
    network.crash(one)
    network.heal()
    network.restart(leader)
    network.pass_time(2 * T)
    agree(network, b"103")
    network.restart(one)
    network.pass_time(2 * T)
    agree(network, b"104")


@pytest.mark.parametrize("seed", range(3))
def test_figure_8(seed: int) -> None:
    """Leaders crash just after proposing, over and over; nothing committed changes, and in the end all agree."""
    network, dice = Network(5, seed=seed), Random(seed)
    for turn in range(60):
        for name in network.leaders():
            network.propose(name, b"%d" % turn)
            if dice.random() < 0.5:
                network.settle()
            if dice.random() < 0.7:
                network.crash(name)
        network.pass_time(dice.choice([0.05, T]))
        if len(network.alive) < 3:
            network.restart(dice.choice(sorted(network.crashed)))
    for name in sorted(network.crashed):
        network.restart(name)
    network.pass_time(2 * T)
    agree(network, b"end")


# --------------------------------------------------------------------------------------------------------------- 3D


@pytest.mark.parametrize("crash", [False, True])
def test_snapshot_install(crash: bool) -> None:
    """A follower that was cut off, or has crashed, catches up by snapshots, again and again; the log stays short."""
    network = Network(3)
    for turn in range(10):
        leader = network.wait_for_leader()
        victim = next(name for name in network.alive if name != leader)
        if crash:
            network.crash(victim)
        else:
            network.isolate(victim)
        for number in range(12):
            network.propose(leader, b"%d/%d" % (turn, number))
            network.settle()
        for name in network.alive:
            network.take_snapshot(name)
            assert len(network.nodes[name].entries) <= 13
        if crash:
            network.restart(victim)
        network.heal()
        network.pass_time(0.5)
        network.carry_snapshots()
        network.pass_time(0.5)
        assert network[victim].commit == network[leader].commit
    agree(network, b"end")


def test_snapshot_all_crash() -> None:
    network, last = Network(3), 0
    for turn in range(5):
        for number in range(3):
            index = agree(network, b"%d/%d" % (turn, number))
            assert index > last
            last = index
        for name in network.alive:
            network.take_snapshot(name, keep=turn % 2)
        agree(network, b"tail %d" % turn)
        for name in network.alive:
            network.restart(name)


def test_snapshot_init() -> None:
    """Snapshot, restart, a few entries, restart: what is handed out is the tail behind the snapshot."""
    network = Network(3)
    agree(network, b"1")
    for name in network.alive:
        network.take_snapshot(name)
        network.restart(name)
    agree(network, b"2")
    for name in network.alive:
        network.restart(name)
    agree(network, b"3")
    assert all(network.nodes[name].commands == [b"2", b"3"] for name in network.alive)
