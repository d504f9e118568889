"""Flow: how much a leader sends and takes, and what follows when messages are lost."""

from __future__ import annotations

from typing import Any

from onerack.config import RaftConfig
from onerack.raft.core import RaftCore
from onerack.raft.messages import Append, Appended, Entry, Heartbeat, HeartbeatReply, Propose, Proposed, Refused
from onerack.runtime.seam import Tick
from tests.raft.network import Network
from tests.raft.single import T, accept, answers, flush, lead, messages_of, peer, propose

NOW = 2 * T
NARROW = RaftConfig(
    heartbeat_interval_s=0.1, election_timeout_s=1.0, in_flight_max=3, in_flight_bytes_max=1000, append_bytes_max=20
)
SMALL = RaftConfig(entry_bytes_max=100, uncommitted_bytes_max=250)


def leader_of_three(config: RaftConfig) -> RaftCore:
    """n2 and n3 replicate; nothing is outstanding."""
    core = lead(peer(config=config))
    flush(core)
    accept(core, "n2", "n3")
    flush(core)
    return core


def appends_to(core: RaftCore, node: str) -> list[Any]:
    return [append for to, append in messages_of(flush(core), Append) if to == node]


def test_appends_follow_each_other_without_waiting() -> None:
    core = leader_of_three(NARROW)
    for number in range(3):
        propose(core, b"%d" % number)
        (append,) = appends_to(core, "n2")
        assert (append.prev_index, len(append.entries)) == (1 + number, 1)


def test_no_more_appends_are_outstanding_than_the_window_allows() -> None:
    core = leader_of_three(NARROW)
    propose(core, *[b"0123456789"] * 10)
    assert [len(append.entries) for append in appends_to(core, "n2")] == [2, 2, 2]
    propose(core, b"more")
    assert appends_to(core, "n2") == []
    accept(core, "n2", index=3)
    assert [append.entries[0].index for append in appends_to(core, "n2") if append.entries] == [8]


def test_no_more_bytes_are_outstanding_than_the_window_allows() -> None:
    config = RaftConfig(in_flight_bytes_max=25, append_bytes_max=20)
    core = leader_of_three(config)
    propose(core, *[b"0123456789"] * 10)
    assert [len(append.entries) for append in appends_to(core, "n2")] == [2, 2]


def test_proposals_of_one_turn_become_one_append_per_follower() -> None:
    core = leader_of_three(RaftConfig())
    propose(core, *[b"x"] * 50)
    output = flush(core)
    assert [(to, len(append.entries)) for to, append in messages_of(output, Append)] == [("n2", 50), ("n3", 50)]


def test_a_leader_takes_only_so_much_beyond_the_commit_index() -> None:
    core = leader_of_three(SMALL)
    for number in range(4):
        core.step(Propose(number, bytes(100)), "n1", NOW)
    output = flush(core)
    assert [answer.number for answer in answers(output, Proposed)] == [0, 1]
    assert answers(output, Refused) == [Refused(2, "overloaded", "n1"), Refused(3, "overloaded", "n1")]
    accept(core, "n2")
    core.step(Propose(9, bytes(100)), "n1", NOW)
    assert len(answers(flush(core), Proposed)) == 1


def test_an_entry_that_is_too_long_or_empty_is_refused() -> None:
    core = leader_of_three(SMALL)
    core.step(Propose(1, bytes(101)), "n1", NOW)
    core.step(Propose(2, b""), "n1", NOW)
    assert [refused.cause for refused in answers(flush(core), Refused)] == ["invalid", "invalid"]


def test_a_lost_append_is_found_out_by_the_next_one() -> None:
    network = Network(3)
    network.elect("n1")
    network.settle()
    network.propose("n1", b"lost")
    network.flying.clear()
    network.propose("n1", b"found")
    network.settle()
    assert network["n2"].last_index == network["n1"].last_index


def test_the_last_append_lost_is_found_out_by_a_heartbeat() -> None:
    network = Network(3)
    network.elect("n1")
    network.settle()
    network.propose("n1", b"lost")
    network.flying.clear()
    network.pass_time(0.25)
    assert network["n2"].last_index == network["n1"].last_index == network["n1"].commit


def test_a_full_window_that_was_lost_is_found_out_by_a_heartbeat() -> None:
    network = Network(3, config=NARROW)
    network.elect("n1")
    network.settle()
    network.isolate("n1")
    for _ in range(20):
        network.propose("n1", b"0123456789")
    network.settle()
    network.heal()
    network.pass_time(0.5)
    assert network["n2"].last_index == network["n1"].last_index == network["n1"].commit


def test_a_lost_acknowledgement_is_made_good() -> None:
    network = Network(3)
    network.elect("n1")
    network.settle()
    network.held = lambda sender, envelope: isinstance(envelope.message, Appended)
    network.propose("n1", b"a")
    network.settle()
    network.kept.clear()
    network.held = lambda sender, envelope: False
    network.pass_time(0.25)
    assert network["n1"].commit == network["n1"].last_index


def test_a_payload_reaches_each_peer_once() -> None:
    network = Network(3)
    network.elect("n1")
    network.settle()
    network.sent.clear()
    for number in range(10):
        network.propose("n1", b"%d" % number * 5000)
        network.settle()
    network.pass_time(T)
    carried = sum(
        len(entry.payload) for _, each in network.sent if isinstance(each.message, Append)
        for entry in each.message.entries
    )  # fmt: skip
    assert carried == 2 * 10 * 5000


def test_an_idle_cluster_says_little() -> None:
    network = Network(3)
    network.elect("n1")
    network.pass_time(1.0)
    network.sent.clear()
    network.pass_time(1.0)
    assert {type(each.message) for _, each in network.sent} == {Heartbeat, HeartbeatReply}
    assert len(network.sent) <= 44


def test_a_malformed_append_is_ignored() -> None:
    good = Append(1, 0, 0, 0)
    for entries in ([(1, 2)], [(1, 1), (1, 3)], [(2, 1)], [(1, 1), (0, 2)]):
        core = peer(term=1)
        made = tuple(_entry(term, index) for term, index in entries)
        core.step(Append(good.term, 0, 0, 0, made), "n2", 0.0)
        output = flush(core)
        assert (core.last_index, messages_of(output, Appended)) == (0, [])
        assert [event.name for event in output.events][-1] == "malformed_append"


def test_a_configuration_that_cannot_be_read_is_ignored() -> None:
    core = peer(term=1)
    core.step(Append(1, 0, 0, 0, (_entry(1, 1, kind=2, payload=b"?"),)), "n2", 0.0)
    assert core.last_index == 0


def test_an_acknowledgement_of_what_never_was_is_ignored() -> None:
    core = leader_of_three(RaftConfig())
    core.step(Appended(1, 99, True), "n2", NOW)
    assert core.commit == 1
    core.step(Tick(), "n1", NOW + 0.1)
    assert [beat.commit for _, beat in messages_of(flush(core), Heartbeat)] == [1, 1]


def _entry(term: int, index: int, kind: int = 0, payload: bytes = b"x") -> Entry:
    return Entry(term, index, kind, payload)
