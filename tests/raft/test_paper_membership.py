"""The paper's sentences about changes of the cluster: section 6, and chapter 4 of the dissertation; and transfers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from onerack.raft.core import decode_configuration
from onerack.raft.core.membership import encode_configuration
from onerack.raft.messages import (
    Append,
    Change,
    Configuration,
    Entry,
    Kind,
    Propose,
    Proposed,
    Refused,
    RequestVote,
    Synced,
    TimeoutNow,
    Transfer,
    Vote,
)
from onerack.runtime.seam import Envelope, Tick
from tests.raft.network import Network
from tests.raft.single import T, accept, answers, campaign, flush, lead, log_of, messages_of, peer, propose

NOW = 2 * T
OLD = Configuration(voters=("n1", "n2", "n3"))
NEW = Configuration(voters=("n1", "n4", "n5"))
JOINT = Configuration(voters=NEW.voters, outgoing=OLD.voters)


def leader_of(configuration: Configuration = OLD) -> Any:
    """n1 leads, and everything so far is committed."""
    core = lead(peer(configuration=configuration))
    flush(core)
    accept(core, *configuration.voters[1:], *configuration.outgoing[1:])
    flush(core)
    return core


def change(core: Any, wanted: Configuration, number: int = 1) -> Any:
    core.step(Change(number, wanted), "n1", NOW)
    (answer,) = [*answers(output := flush(core), Proposed), *answers(output, Refused)]
    return answer


# ------------------------------------------------------------------------------------------------------------ joint


def test_a_change_begins_with_the_joint_configuration() -> None:
    core = leader_of()
    assert isinstance(change(core, NEW), Proposed)
    assert core.configuration == JOINT
    found = core.entry_at(core.last_index)
    assert decode_configuration(found.payload) == JOINT


def test_the_newest_configuration_in_the_log_is_used_committed_or_not() -> None:
    core = peer()
    core.step(Append(1, 0, 0, 0, (Entry(1, 1, Kind.CONFIGURATION, encode_configuration(NEW)),)), "n2", 0.0)
    assert (core.configuration, core.commit) == (NEW, 0)


def test_a_configuration_that_is_truncated_is_undone() -> None:
    core = peer()
    core.step(Append(1, 0, 0, 0, (Entry(1, 1, Kind.CONFIGURATION, encode_configuration(NEW)),)), "n2", 0.0)
    core.step(Append(2, 0, 0, 0, log_of(2)), "n3", 0.0)
    assert core.configuration == OLD


@pytest.mark.parametrize(
    ("acks", "committed"),
    [(("n2",), False), (("n4",), False), (("n2", "n3"), False), (("n4", "n5"), False), (("n2", "n5"), True)],
)
def test_the_joint_phase_needs_both_majorities_to_commit(acks: tuple[str, ...], committed: bool) -> None:
    core = leader_of()
    answer = change(core, NEW)
    accept(core, *acks)
    assert (core.commit >= answer.index) is committed


@pytest.mark.parametrize(
    ("votes", "role"),
    [(("n2", "n3"), "candidate"), (("n4", "n5"), "candidate"), (("n3",), "candidate"), (("n3", "n4"), "leader")],
)
def test_the_joint_phase_needs_both_majorities_to_elect(votes: tuple[str, ...], role: str) -> None:
    core = peer(configuration=JOINT)
    core.step(Tick(), "n1", NOW)
    for voter in ("n2", "n3", "n4", "n5"):
        core.step(Vote(1, True, pre=True), voter, NOW)
    for voter in votes:
        core.step(Vote(1, True), voter, NOW)
    assert core.role == role


def test_as_soon_as_the_joint_configuration_is_committed_the_leader_ends_it() -> None:
    core = leader_of()
    change(core, NEW)
    accept(core, "n2", "n4")
    assert core.configuration == NEW
    assert core.commit == core.last_index - 1


def test_the_next_leader_ends_a_joint_phase_that_it_has_inherited() -> None:
    network = Network(5, configuration=Configuration(voters=("n1", "n2", "n3")))
    network.start("n4")
    network.start("n5")
    network.elect("n1")
    network.change("n1", Configuration(voters=("n2", "n3", "n4")))
    network.held = lambda sender, envelope: sender != "n1"
    network.settle()
    network.crash("n1")
    network.kept.clear()
    network.held = lambda sender, envelope: False
    assert network["n2"].configuration.is_joint
    network.elect("n2")
    network.pass_time(T)
    assert network["n2"].configuration == Configuration(voters=("n2", "n3", "n4"))
    assert network["n4"].configuration == network["n2"].configuration


def test_one_change_at_a_time() -> None:
    core = leader_of()
    change(core, NEW)
    assert change(core, OLD) == Refused(1, "pending", "n1")
    accept(core, "n2", "n4")
    assert change(core, OLD) == Refused(1, "pending", "n1"), "the entry that ends the joint phase is not committed"
    accept(core, "n4")
    assert isinstance(change(core, OLD), Proposed)


def test_no_change_before_the_leader_has_committed_an_entry_of_its_term() -> None:
    core = lead(peer())
    flush(core)
    assert change(core, NEW) == Refused(1, "not_ready", "n1")


def test_a_follower_refuses_a_change() -> None:
    core = peer()
    assert change(core, NEW) == Refused(1, "not_leader")


@pytest.mark.parametrize(
    "wanted",
    [
        Configuration(),
        Configuration(voters=("n2", "n1")),
        Configuration(voters=("n1", "n1")),
        Configuration(voters=("", "n1")),
        Configuration(voters=("n1",), learners=("n1",)),
        Configuration(voters=("n1", "n2"), outgoing=("n3",)),
        Configuration(voters=("n1",), learners_next=("n2",)),
        Configuration(voters=("n1",), witnesses=("n4",)),
        Configuration(voters=("n4",), witnesses=("n4",)),
        Configuration(voters=("n1", "n2", "n3"), witnesses=("n2",)),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(wanted: Configuration) -> None:
    core = leader_of()
    assert change(core, wanted) == Refused(1, "invalid", "n1")
    assert core.configuration == OLD


# --------------------------------------------------------------------------------------------------------- learners


def test_new_nodes_first_catch_up_without_a_vote() -> None:
    core = leader_of()
    change(core, Configuration(voters=OLD.voters, learners=("n4",)))
    assert not core.configuration.is_joint
    accept(core, "n4")
    assert core.commit == core.last_index - 1
    accept(core, "n2")
    assert core.commit == core.last_index


def test_a_learner_is_not_asked_for_its_vote_and_does_not_campaign() -> None:
    configuration = Configuration(voters=("n1", "n2", "n3"), learners=("n4",))
    core = peer(configuration=configuration)
    campaign(core)
    assert "n4" not in {to for to, _ in messages_of(flush(core), RequestVote)}
    learner = peer(configuration=Configuration(voters=("n2", "n3"), learners=("n1",)))
    assert learner.is_learner
    assert learner.drain().wake_at is None
    learner.step(Tick(), "n1", 100 * T)
    assert learner.role == "follower"


def test_a_learner_becomes_a_voter_only_when_it_is_caught_up() -> None:
    core = leader_of()
    change(core, Configuration(voters=OLD.voters, learners=("n4",)))
    accept(core, "n2")
    flush(core)
    propose(core, *[b"x"] * 100)
    flush(core)
    accept(core, "n2")
    wanted = Configuration(voters=(*OLD.voters, "n4"))
    assert change(core, wanted) == Refused(1, "not_caught_up", "n1")
    accept(core, "n4")
    assert isinstance(change(core, wanted), Proposed)


def test_a_learner_whose_promotion_it_has_not_heard_of_gives_its_vote() -> None:
    core = peer(configuration=Configuration(voters=("n2", "n3"), learners=("n1",)))
    core.step(RequestVote(1, 5, 1), "n2", 0.0)
    assert messages_of(flush(core), Vote) == [("n2", Vote(1, True))]


def test_a_voter_that_becomes_a_learner_votes_until_the_joint_phase_ends() -> None:
    core = leader_of()
    change(core, Configuration(voters=("n1", "n2"), learners=("n3",)))
    assert core.configuration == Configuration(voters=("n1", "n2"), outgoing=("n1", "n2", "n3"), learners_next=("n3",))
    accept(core, "n2")
    assert core.configuration == Configuration(voters=("n1", "n2"), learners=("n3",))


# ---------------------------------------------------------------------------------------------------------- removal


def test_a_leader_that_is_removed_steps_down_after_that_is_committed() -> None:
    network = Network(3)
    network.elect("n1")
    network.change("n1", Configuration(voters=("n2", "n3")))
    network.held = lambda sender, envelope: isinstance(envelope.message, Append) and sender == "n1"
    assert network.leaders() == ["n1"]
    network.release()
    assert network["n1"].role == "follower"
    assert network["n2"].configuration == Configuration(voters=("n2", "n3"))
    network.pass_time(5 * T)
    assert network["n1"].role == "follower"
    assert network.wait_for_leader() in ("n2", "n3")


def test_a_leader_that_is_being_removed_does_not_count_itself() -> None:
    core = leader_of()
    change(core, Configuration(voters=("n2", "n3", "n4")))
    accept(core, "n2", "n3")
    flush(core)
    assert core.configuration == Configuration(voters=("n2", "n3", "n4"))
    removal = core.last_index
    accept(core, "n2")
    assert core.commit == removal - 1, "n1 and n2 are two of three, but n1 is none of them"
    accept(core, "n3")
    assert core.commit == removal


def test_a_leader_that_is_removed_names_an_heir() -> None:
    core = leader_of()
    change(core, Configuration(voters=("n2", "n3")))
    accept(core, "n2", "n3")
    flush(core)
    accept(core, "n3", "n2")
    output = flush(core)
    assert core.role == "follower"
    assert [to for to, _ in messages_of(output, TimeoutNow)] == ["n2"]


def held_back(name: str, index: int) -> Callable[[str, Envelope], bool]:
    """Entries behind `index` do not reach this node."""
    return lambda sender, envelope: (
        envelope.to == name and any(entry.index > index for entry in getattr(envelope.message, "entries", ()))
    )


def test_a_node_whose_removal_is_not_committed_still_starts_elections() -> None:
    """It may be the only one whose log lets it win: n1 has its removal, and n2, which would be alone, has not."""
    network = Network(2)
    network.elect("n1")
    network.held = held_back("n2", 2)
    network.change("n1", Configuration(voters=("n2",)))
    network.settle()
    network.crash("n1")
    network.kept.clear()
    network.held = lambda sender, envelope: False
    network.pass_time(10 * T)
    assert network.leaders() == []
    network.restart("n1")
    assert [network[name].last_index for name in ("n1", "n2")] == [3, 2]
    assert network["n1"].configuration.voters == ("n2",)
    network.pass_time(10 * T)
    assert network.leaders() == ["n2"]
    assert network["n2"].configuration.voters == ("n2",)


def test_a_node_that_is_removed_hears_of_it() -> None:
    network = Network(3)
    network.elect("n1")
    network.change("n1", Configuration(voters=("n1", "n2")))
    network.settle()
    assert network["n3"].configuration == Configuration(voters=("n1", "n2"))
    assert network["n3"].commit == network["n1"].commit
    assert list(network["n1"].progress) == ["n2"]


def test_removed_nodes_cannot_depose_a_live_leader() -> None:
    network = Network(4)
    leader = network.elect("n1")
    network.isolate("n4")
    network.change("n1", Configuration(voters=("n1", "n2", "n3")))
    network.settle()
    term = leader.term
    network.heal()
    network.pass_time(20 * T)
    assert (leader.role, leader.term) == ("leader", term)


def test_messages_of_strangers_are_harmless() -> None:
    network = Network(3)
    leader = network.elect("n1")
    before = (leader.role, leader.term, leader.commit)
    from_stranger = [Vote(1, True), TimeoutNow(0), RequestVote(leader.term, 0, 0), RequestVote(9, 0, 0, pre=True)]
    for message in from_stranger:
        network.step("n1", message, "stranger")
    network.settle()
    assert (leader.role, leader.term, leader.commit) == before


# -------------------------------------------------------------------------------------------------------- witnesses

WITH_WITNESS = Configuration(voters=("n1", "n2", "n3"), witnesses=("n3",))


def test_a_witness_gets_the_places_of_the_log_and_no_payloads() -> None:
    network = Network(configuration=WITH_WITNESS)
    leader = network.elect("n1")
    network.propose("n1", b"secret")
    network.settle()
    kept = network["n3"].entry_at(leader.last_index)
    assert kept == Entry(leader.term, leader.last_index, Kind.COMMANDS, b"")
    assert network.nodes["n3"].applied == []
    assert network["n3"].applied == network["n3"].commit


def test_a_witness_gets_only_what_its_leader_cannot_lose() -> None:
    """Else it might have a place in its log that nobody can fill, and refuse everybody its vote for ever."""
    core = leader_of(WITH_WITNESS)
    propose(core, b"a")
    sent = messages_of(core.drain(), Append)
    assert [to for to, append in sent if append.entries] == ["n2"]
    core.step(Synced(), "n1", NOW)
    sent = messages_of(core.drain(), Append)
    assert [(to, len(append.entries)) for to, append in sent] == [("n3", 1)]


def test_a_witness_gets_from_a_leader_that_leaves_only_what_a_voter_has() -> None:
    """When n1 has left, its own copy lets nobody be elected."""
    network = Network(configuration=WITH_WITNESS)
    network.elect("n1")
    network.held = held_back("n2", 2)
    network.change("n1", Configuration(voters=("n2", "n3"), witnesses=("n3",)))
    network.settle()
    assert [network[name].last_index for name in ("n1", "n2", "n3")] == [3, 2, 2]
    network.crash("n1")
    network.kept.clear()
    network.held = lambda sender, envelope: False
    network.pass_time(10 * T)
    assert network.leaders() == ["n2"]


def test_a_witness_keeps_configurations() -> None:
    network = Network(configuration=WITH_WITNESS)
    network.elect("n1")
    wanted = Configuration(voters=("n1", "n2", "n3"), learners=("n4",), witnesses=("n3",))
    network.change("n1", wanted)
    network.settle()
    assert network["n3"].configuration == wanted


def test_a_witness_acknowledges_and_so_helps_to_commit() -> None:
    network = Network(configuration=WITH_WITNESS)
    leader = network.elect("n1")
    network.crash("n2")
    network.propose("n1", b"a")
    network.settle()
    assert leader.commit == leader.last_index


def test_a_witness_whose_log_is_cut_votes_and_counts_as_if_it_were_whole() -> None:
    """It will be asked for the end of its log, and for what lies behind its commit index; never for what is before."""
    network = Network(configuration=WITH_WITNESS)
    network.elect("n1")
    for payload in (b"a", b"b", b"c"):
        network.propose("n1", payload)
        network.settle()
    network.pass_time(T)
    network.isolate("n2")
    network.propose("n1", b"d")
    network.settle()
    network.pass_time(T)
    network.take_snapshot("n3")
    assert network["n3"].first_index == network["n3"].commit + 1
    network.restart("n3")
    network.isolate("n1")
    network.pass_time(10 * T)
    assert network.leaders() in ([], ["n1"]), "n2 lacks what the witness has a place for"
    network.heal()
    leader = network.wait_for_leader()
    assert leader == "n1"
    network.crash("n2")
    network.propose("n1", b"e")
    network.settle()
    assert network["n1"].commit == network["n1"].last_index, "the witness is the second of three"


def test_a_witness_that_was_removed_and_comes_back_as_another_halts() -> None:
    network = Network(configuration=WITH_WITNESS)
    network.elect("n1")
    network.propose("n1", b"a")
    network.settle()
    network.pass_time(T)
    network.take_snapshot("n3")
    network.change("n1", Configuration(voters=("n1", "n2")))
    network.settle()
    assert network.nodes["n3"].applied == []
    network.change("n1", Configuration(voters=("n1", "n2"), learners=("n3",)))
    with pytest.raises(AssertionError, match="under another name"):
        network.settle()


def test_a_witness_votes_but_never_campaigns() -> None:
    core = peer(configuration=Configuration(voters=("n1", "n2", "n3"), witnesses=("n1",)))
    assert core.drain().wake_at is None
    for message in (Tick(), TimeoutNow(0)):
        core.step(message, "n2", 100 * T)
        assert core.role == "follower"
    core.step(RequestVote(1, 0, 0), "n2", 100 * T)
    assert messages_of(flush(core), Vote) == [("n2", Vote(1, True))]


def test_leadership_is_not_handed_to_a_witness() -> None:
    network = Network(configuration=WITH_WITNESS)
    network.elect("n1")
    assert network.transfer("n1", "n3") == Refused(network._number, "invalid", "n1")


@pytest.mark.parametrize(
    "wanted",
    [Configuration(voters=("n1", "n2", "n3")), Configuration(voters=("n1", "n2"), learners=("n3",))],
)
def test_a_witness_cannot_become_anything_else(wanted: Configuration) -> None:
    core = leader_of(WITH_WITNESS)
    assert change(core, wanted) == Refused(1, "invalid", "n1")


def test_the_log_of_a_former_witness_is_not_applied() -> None:
    core = peer(term=1)
    core.step(Append(1, 0, 0, 1, (Entry(1, 1, Kind.COMMANDS, b""),)), "n2", 0.0)
    with pytest.raises(AssertionError, match="witness"):
        core.drain()


# --------------------------------------------------------------------------------------------------------- transfer


def test_a_transfer_catches_the_heir_up_and_tells_it_to_campaign_at_once() -> None:
    core = leader_of()
    propose(core, b"a")
    flush(core)
    core.step(Transfer(2, "n3"), "n1", NOW)
    output = flush(core)
    assert len(answers(output, Proposed)) == 1
    assert messages_of(output, TimeoutNow) == []
    accept(core, "n3")
    assert messages_of(flush(core), TimeoutNow) == [("n3", TimeoutNow(1))]


def test_who_is_told_to_campaign_does_so_without_a_pre_vote_and_says_why() -> None:
    core = peer(1, term=1)
    core.step(TimeoutNow(1), "n2", 0.0)
    requests = messages_of(flush(core), RequestVote)
    assert requests == [(to, RequestVote(2, 1, 1, transfer=True)) for to in ("n2", "n3")]


def test_a_transfer_makes_the_heir_leader() -> None:
    network = Network(3)
    network.elect("n1")
    network.transfer("n1", "n3")
    network.settle()
    assert network.leaders() == ["n3"]


def test_nothing_is_proposed_during_a_transfer_and_it_is_given_up_after_the_election_timeout() -> None:
    network = Network(3)
    network.elect("n1")
    network.isolate("n3")
    network.transfer("n1", "n3")
    assert network.propose("n1").cause == "transferring"
    assert network.change("n1", OLD).cause == "transferring"
    assert network.transfer("n1", "n2").cause == "transferring"
    network.pass_time(1.2 * T)
    assert isinstance(network.propose("n1"), Proposed)


@pytest.mark.parametrize("to", ["n1", "n9", ""])
def test_leadership_is_handed_only_to_another_voter(to: str) -> None:
    network = Network(3)
    network.elect("n1")
    assert network.transfer("n1", to).cause == "invalid"


def test_a_follower_refuses_to_transfer() -> None:
    core = peer()
    core.step(Transfer(1, "n2"), "n1", 0.0)
    core.step(Propose(2, b"x"), "n1", 0.0)
    assert [refused.cause for refused in answers(flush(core), Refused)] == ["not_leader", "not_leader"]
