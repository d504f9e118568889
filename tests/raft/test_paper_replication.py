"""The paper's sentences about the log: sections 5.3, 5.4.2 and 5.5, Figures 2, 7 and 8. One test per sentence."""

from __future__ import annotations

import pytest

from onerack.raft.core import RaftCore
from onerack.raft.messages import (
    Append,
    Appended,
    Committed,
    Configuration,
    Entry,
    HardState,
    Heartbeat,
    HeartbeatReply,
    Kind,
    Proposed,
    Recovered,
    RequestVote,
    SnapshotMark,
    Synced,
    Vote,
)
from onerack.runtime.seam import Envelope, Tick
from tests.raft.network import Network
from tests.raft.single import T, accept, answers, campaign, flush, lead, log_of, messages_of, peer, propose

NOW = 2 * T


def terms_of(core: RaftCore) -> list[int | None]:
    return [core.term_at(index) for index in range(1, core.last_index + 1)]


def entry(term: int, index: int) -> Entry:
    return Entry(term, index, Kind.COMMANDS, b"x")


# ------------------------------------------------------------------------------------------------------- section 5.3


def test_a_command_is_appended_then_sent_to_all_in_parallel() -> None:
    core = lead(peer())
    flush(core)
    accept(core, "n2", "n3")
    flush(core)
    propose(core, b"a")
    output = core.drain()
    (proposed,) = answers(output, Proposed)
    assert output.writes == [Entry(1, proposed.index, Kind.COMMANDS, b"a")]
    sent = messages_of(output, Append)
    assert [(to, append.entries) for to, append in sent] == [(to, tuple(output.writes)) for to in ("n2", "n3")]
    assert len(output.early) == 2, "they need not wait for the leader's own disk"


@pytest.mark.parametrize(
    ("size", "acks", "committed"),
    [
        (1, 0, True), (2, 0, False), (2, 1, True), (3, 0, False), (3, 1, True), (4, 1, False), (4, 2, True),
        (5, 1, False), (5, 2, True), (7, 2, False), (7, 3, True),
    ],
)  # fmt: skip
def test_an_entry_is_committed_once_a_majority_has_it(size: int, acks: int, committed: bool) -> None:
    core = lead(peer(size=size))
    propose(core, b"a")
    flush(core)
    accept(core, *core.configuration.voters[1 : 1 + acks])
    assert (core.commit == core.last_index) is committed


def test_the_leader_counts_its_own_entry_only_when_it_is_durable() -> None:
    core = lead(peer())
    flush(core)
    propose(core, b"a")
    core.drain()
    accept(core, "n2")
    assert core.commit == core.last_index - 1
    core.step(Synced(), "n1", NOW)
    assert core.commit == core.last_index


def test_an_entry_may_be_committed_by_the_others_while_the_leaders_disk_works() -> None:
    core = lead(peer())
    flush(core)
    propose(core, b"a")
    core.drain()
    accept(core, "n2", "n3")
    assert core.commit == core.last_index


def test_commitment_commits_all_entries_before_it_also_those_of_earlier_leaders() -> None:
    core = lead(peer(1, 1, 2))
    flush(core)
    accept(core, "n2")
    (committed,) = answers(flush(core), Committed)
    assert [each.index for each in committed.entries] == [1, 2, 3, 4]


def test_the_commit_index_travels_in_every_append() -> None:
    core = lead(peer())
    flush(core)
    accept(core, "n2", "n3")
    propose(core, b"a")
    assert [append.commit for _, append in messages_of(core.drain(), Append)] == [1, 1]


def test_followers_hear_of_a_commitment_without_waiting_for_the_next_entry() -> None:
    core = lead(peer())
    flush(core)
    accept(core, "n2", "n3")
    assert messages_of(flush(core), Append) == [(to, Append(1, 1, 1, 1, quiet=True)) for to in ("n2", "n3")]
    assert messages_of(flush(core), Append) == []


def test_who_is_only_told_of_a_commitment_answers_only_if_it_does_not_fit() -> None:
    core = peer(1, 1)
    core.step(Append(1, 2, 1, 1, quiet=True), "n2", 0.0)
    assert messages_of(flush(core), Appended) == []
    assert core.commit == 1
    core.step(Append(1, 3, 1, 3, quiet=True), "n2", 0.0)
    assert messages_of(flush(core), Appended) == [("n2", Appended(1, 3, False, 2, 1))]
    assert core.commit == 1


def test_a_follower_applies_in_log_order_what_it_learns_to_be_committed() -> None:
    core = peer()
    core.step(Append(1, 0, 0, 0, log_of(1, 1, 1)), "n2", 0.0)
    assert answers(flush(core), Committed) == []
    core.step(Append(1, 3, 1, 2), "n2", 0.0)
    core.step(Append(1, 3, 1, 3), "n2", 0.0)
    assert answers(flush(core), Committed) == [Committed(log_of(1, 1, 1))]


@pytest.mark.parametrize(("prev_index", "prev_term"), [(3, 2), (2, 3), (2, 1), (9, 9)])
def test_an_append_is_refused_without_the_entry_before_it(prev_index: int, prev_term: int) -> None:
    core = peer(1, 2)
    core.step(Append(9, prev_index, prev_term, 0, (entry(9, prev_index + 1),)), "n2", 0.0)
    ((_, answer),) = messages_of(flush(core), Appended)
    assert (answer.accepted, answer.index) == (False, prev_index)
    assert terms_of(core) == [1, 2]


def test_a_conflicting_entry_is_deleted_with_all_that_follow_it_then_new_ones_are_appended() -> None:
    core = peer(1, 1, 2, 2, 2)
    core.step(Append(3, 2, 1, 0, (entry(3, 3),)), "n2", 0.0)
    output = flush(core)
    assert terms_of(core) == [1, 1, 3]
    assert output.writes == [HardState(3), entry(3, 3)]
    assert messages_of(output, Appended) == [("n2", Appended(3, 3, True))]


@pytest.mark.parametrize("length", [0, 1, 2])
def test_an_append_that_does_not_conflict_deletes_nothing(length: int) -> None:
    core = peer(1, 1, 1, 1)
    core.step(Append(1, 1, 1, 0, log_of(1, 1, 1, 1)[1 : 1 + length]), "n2", 0.0)
    output = flush(core)
    assert terms_of(core) == [1, 1, 1, 1]
    assert output.writes == []
    assert messages_of(output, Appended) == [("n2", Appended(1, 1 + length, True))]


def test_next_starts_behind_the_leaders_last_entry() -> None:
    core = lead(peer(1, 1))
    assert [append.prev_index for _, append in messages_of(flush(core), Append)] == [2, 2]


def test_next_goes_back_after_a_refusal_until_the_logs_agree() -> None:
    core = lead(peer(1, 1, 1, 4, 4, 4))
    flush(core)
    core.step(Appended(5, 6, False, 3, 1), "n2", NOW)
    ((_, append),) = messages_of(flush(core), Append)
    assert (append.prev_index, append.prev_term, len(append.entries)) == (3, 1, 4)


def test_refusals_go_back_by_a_term_at_a_time() -> None:
    """100 entries of another term are stepped over in one round trip."""
    network = diverged({"n1": [1, *[3] * 100], "n2": [1, *[2] * 100], "n3": [1, *[3] * 100]})
    network.elect("n1")
    network.sent.clear()
    network.isolate()
    network.settle()
    refusals = [envelope for _, envelope in network.sent if isinstance(envelope.message, Appended)]
    assert sum(not envelope.message.accepted for envelope in refusals) <= 2
    assert terms_of(network["n2"]) == terms_of(network["n1"])


def diverged(logs: dict[str, list[int]], *, term: int = 0) -> Network:
    """A cluster whose logs have these terms, and nobody leads."""
    configuration = Configuration(voters=tuple(sorted(logs)))
    newest = max(term, *(terms[-1] for terms in logs.values() if terms))
    return Network(
        configuration=configuration,
        recovered={
            name: Recovered(HardState(newest), SnapshotMark(configuration=configuration), log_of(*terms))
            for name, terms in logs.items()
        },
    )


LEADER_OF_FIGURE_7 = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]


@pytest.mark.parametrize(
    "terms",
    [
        pytest.param([1, 1, 1, 4, 4, 5, 5, 6, 6], id="a"),
        pytest.param([1, 1, 1, 4], id="b"),
        pytest.param([1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6], id="c"),
        pytest.param([1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7], id="d"),
        pytest.param([1, 1, 1, 4, 4, 4, 4], id="e"),
        pytest.param([1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3], id="f"),
    ],
)
def test_figure_7_every_follower_ends_equal_to_the_leader(terms: list[int]) -> None:
    # n3 makes n1 electable, whatever the follower n2 has.
    network = diverged({"n1": LEADER_OF_FIGURE_7, "n2": terms, "n3": []}, term=7)
    leader = network.elect("n1")
    network.pass_time(T)
    assert terms_of(leader) == [*LEADER_OF_FIGURE_7, leader.term]
    assert terms_of(network["n2"]) == terms_of(leader)
    assert network["n2"].commit == leader.commit == 11


def test_a_leader_never_changes_its_own_log() -> None:
    core = lead(peer(1, 1))
    flush(core)
    log = terms_of(core)
    with pytest.raises(AssertionError, match="both lead term 2"):
        core.step(Append(2, 0, 0, 0, (entry(2, 1),)), "n2", NOW)
    assert terms_of(core) == log


def test_retries_go_on_after_the_client_has_its_answer() -> None:
    network = Network(3)
    leader = network.elect("n1")
    network.isolate("n3")
    network.propose("n1", b"a")
    network.settle()
    assert network.nodes["n1"].commands == [b"a"]
    network.pass_time(5 * T)
    network.heal()
    network.pass_time(T)
    assert network["n3"].last_index == leader.last_index


# ----------------------------------------------------------------------------------------------------- section 5.4.2


def test_only_entries_of_the_leaders_own_term_are_committed_by_counting() -> None:
    core = lead(peer(1, 2))
    flush(core)
    accept(core, "n2", "n3", index=2)
    assert core.commit == 0
    accept(core, "n2", index=3)
    assert core.commit == 3


def test_the_new_leaders_empty_entry_commits_the_rest() -> None:
    network = diverged({"n1": [1, 1, 2], "n2": [1, 1, 2], "n3": [1]})
    leader = network.elect("n1")
    network.settle()
    assert leader.commit == 4
    found = leader.entry_at(4)
    assert found is not None
    assert found.kind == Kind.EMPTY


def test_figure_8_step_by_step() -> None:
    """s1 to s5, as in the paper; between (c) and (d) an entry of term 2 is on a majority, and not committed."""
    names = ("s1", "s2", "s3", "s4", "s5")
    network = Network(configuration=Configuration(voters=names))

    def lead_with(name: str, *friends: str) -> None:
        """`name` is elected by its friends, and cut off from everybody before it says anything."""
        network.cut = {(one, other) for one in names for other in names if not {one, other} <= {name, *friends}}
        network.held = lambda sender, envelope: isinstance(envelope.message, Append | Heartbeat)
        network.elect(name)
        network.kept.clear()
        network.heal()

    # (a) s1 leads term 1 and replicates an entry to s2 only.
    lead_with("s1", "s2", "s3")
    deliver_appends(network, "s1", ["s2"])
    assert [terms_of(network[name]) for name in names] == [[1], [1], [], [], []]
    # (b) s1 crashes; s5 is elected by s3, s4 and itself, and appends another entry at index 1.
    network.crash("s1")
    lead_with("s5", "s3", "s4")
    assert terms_of(network["s5"])[0] == network["s5"].term > 1
    # (c) s5 crashes; s1 restarts, is elected, and goes on with its first entry: now on s1, s2, s3.
    network.crash("s5")
    network.restart("s1")
    lead_with("s1", "s2", "s3", "s4")
    deliver_appends(network, "s1", ["s3"], only_old=True)
    assert terms_of(network["s3"])[0] == 1
    assert network["s1"].commit == 0, "on a majority, but of an old term"
    # (d) s1 crashes; s5 is elected by s2, s3, s4, and overwrites it.
    network.crash("s1")
    network.restart("s5")
    lead_with("s5", "s2", "s3", "s4")
    network.held = lambda sender, envelope: False
    network.pass_time(T)
    assert {terms_of(network[name])[0] for name in network.alive} == {terms_of(network["s5"])[0]}
    assert network["s5"].commit == network["s5"].last_index


def deliver_appends(network: Network, leader: str, to: list[str], *, only_old: bool = False) -> None:
    """Carries the log of `leader` to these alone, whatever it takes; `only_old`: without the last entry."""
    core = network[leader]
    last = core.last_index - only_old
    entries = tuple(each for index in range(1, last + 1) if (each := core.entry_at(index)) is not None)
    for name in to:
        network.deliver(leader, Envelope(name, Append(core.term, 0, 0, core.commit, entries)))
    network.settle()


# ------------------------------------------------------------------------------------------------------- section 5.5


def test_requests_to_a_dead_node_are_retried_until_it_returns() -> None:
    network = Network(3)
    leader = network.elect("n1")
    network.crash("n3")
    for _ in range(10):
        network.propose("n1", b"a")
        network.pass_time(T)
    network.restart("n3")
    network.pass_time(T)
    assert network["n3"].last_index == leader.last_index
    assert network.nodes["n3"].commands == [b"a"] * 10


def test_an_append_that_arrives_twice_changes_nothing() -> None:
    core = peer()
    append = Append(1, 0, 0, 1, log_of(1, 1))
    core.step(append, "n2", 0.0)
    flush(core)
    core.step(append, "n2", 0.0)
    output = flush(core)
    assert output.writes == []
    assert messages_of(output, Appended) == [("n2", Appended(1, 2, True))]


def test_a_request_for_a_vote_that_arrives_twice_changes_nothing() -> None:
    core = peer()
    for _ in range(2):
        core.step(RequestVote(1, 0, 0), "n2", 0.0)
    output = flush(core)
    assert output.writes == [HardState(1, "n2")]
    assert messages_of(output, Vote) == [("n2", Vote(1, True))] * 2


def test_an_old_append_never_shortens_the_log() -> None:
    core = peer()
    core.step(Append(1, 0, 0, 0, log_of(1, 1, 1)), "n2", 0.0)
    core.step(Append(1, 0, 0, 3), "n2", 0.0)
    core.step(Append(1, 0, 0, 0, log_of(1)), "n2", 0.0)
    assert terms_of(core) == [1, 1, 1]


# --------------------------------------------------------------------------------------------------------- Figure 2


@pytest.mark.parametrize(
    ("leaders", "length", "commit"), [(0, 3, 0), (1, 3, 1), (3, 3, 3), (9, 3, 3), (9, 1, 1), (2, 0, 0)]
)
def test_follower_commit_is_the_least_of_leader_commit_and_last_new_entry(
    leaders: int, length: int, commit: int
) -> None:
    core = peer(1, 1, 1, 1)
    core.step(Append(1, 0, 0, leaders, log_of(1, 1, 1)[:length]), "n2", 0.0)
    assert core.commit == commit


def test_entries_are_durable_before_they_are_acknowledged() -> None:
    core = peer(term=1)
    core.step(Append(1, 0, 0, 0, log_of(1)), "n2", 0.0)
    output = core.drain()
    assert output.writes == [*log_of(1)]
    assert output.early == []
    assert [envelope.message for envelope in output.sends] == [Appended(1, 1, True)]


def test_a_committed_entry_is_never_removed() -> None:
    core = peer()
    core.step(Append(1, 0, 0, 2, log_of(1, 1)), "n2", 0.0)
    with pytest.raises(AssertionError, match="committed"):
        core.step(Append(2, 0, 0, 0, (entry(2, 1), entry(2, 2))), "n3", 0.0)


def test_a_sync_counts_nothing_that_was_removed_while_the_disk_worked() -> None:
    core = peer()
    core.step(Append(1, 0, 0, 0, log_of(1, 1, 1)), "n2", 0.0)
    core.drain()
    core.step(Append(2, 1, 1, 0, (entry(2, 2),)), "n3", 0.0)
    core.step(Synced(), "n1", 0.0)
    assert core.durable == 1
    assert core.drain().writes == [HardState(2), entry(2, 2)]
    core.step(Synced(), "n1", 0.0)
    assert core.durable == 2


def test_nothing_is_drained_while_the_disk_works() -> None:
    core = peer()
    core.step(RequestVote(1, 0, 0), "n2", 0.0)
    core.drain()
    with pytest.raises(AssertionError, match="under way"):
        core.drain()


def test_a_group_of_one_commits_when_its_disk_is_done() -> None:
    core = peer(size=1)
    core.step(Tick(), "n1", NOW)
    assert core.role == "leader"
    propose(core, b"a")
    output = core.drain()
    assert answers(output, Committed) == []
    core.step(Synced(), "n1", NOW)
    assert [each.payload for each in answers(core.drain(), Committed)[0].entries] == [b"", b"a"]


def test_a_leaders_heartbeat_brings_no_commit_index_that_the_follower_has_not() -> None:
    core = lead(peer(1, 1))
    flush(core)
    accept(core, "n2")
    flush(core)
    core.step(HeartbeatReply(core.term), "n2", NOW)
    core.step(Tick(), "n1", NOW + 0.1)
    assert [(to, beat.commit) for to, beat in messages_of(flush(core), Heartbeat)] == [("n2", 3), ("n3", 0)]


def test_a_node_that_lost_its_disk_stops() -> None:
    core = peer()
    with pytest.raises(AssertionError, match="lost its disk"):
        core.step(Heartbeat(1, 5), "n2", 0.0)


def test_candidates_do_not_take_what_they_did_not_ask_for() -> None:
    core = peer()
    campaign(core)
    core.step(Appended(1, 0, True), "n2", NOW)
    core.step(HeartbeatReply(1, 4), "n2", NOW)
    assert core.role == "candidate"
