"""Scenarios of elections: votes, terms, and who may lead."""

from __future__ import annotations

from onerack.raft.messages import Configuration, RequestVote, Vote
from onerack.sim.raft.judge import require
from onerack.sim.raft.kit import Kit
from onerack.sim.raft.scenarios.plays import scenario
from onerack.sim.raft.scenarios.stage import Stage


@scenario
def vote_then_restart(kit: Kit) -> None:
    """A voter gives its vote, restarts, and is asked by the other candidate of the same term (Figure 2, `votedFor`)."""
    stage = Stage(kit, watches=False)
    for candidate in ("n1", "n2"):
        stage.time_out(candidate)
    for candidate in ("n1", "n2"):
        stage.deliver(candidate, "n3", RequestVote)
        stage.deliver("n3", candidate, Vote)
    stage.deliver("n1", "n3", RequestVote)
    stage.deliver("n3", "n1", Vote)
    stage.expect_leader("n1")
    stage.crash_and_restart("n3")
    stage.deliver("n2", "n3", RequestVote)
    stage.deliver("n3", "n2", Vote)
    require(not stage.leads("n2"), "election_safety", "n1 and n2 lead in term 1")
    stage.finish()


@scenario
def late_vote(kit: Kit) -> None:
    """A vote of an earlier election arrives in a later one (section 5.1: a stale message is refused)."""
    stage = Stage(kit, 5)
    stage.time_out("n1")
    for _ in range(2):
        for voter in ("n2", "n3"):
            stage.deliver("n1", voter, RequestVote)
        late = [*stage.take("n2", "n1", Vote), *stage.take("n3", "n1", Vote)]
        pre = [letter for letter in late if letter.message.pre]
        stage.give(*pre)
    late = [letter for letter in late if not letter.message.pre]
    require(len(late) == 2, "the_script_goes_on", f"two votes should be on their way: {late}")
    stage.drop_all()
    stage.elect("n4", "n2", "n3", "n5")
    stage.elect("n1", "n5")
    stage.time_out("n1")
    for voter in ("n2", "n3"):
        stage.nodes[voter].clock.jump(1.0)
        stage.deliver("n1", voter, RequestVote)
        stage.deliver(voter, "n1", Vote)
    stage.drop_all()
    stage.give(*late)
    stage.finish()


@scenario
def even_cluster_split(kit: Kit) -> None:
    """Four nodes, two on either side: neither side may elect or commit."""
    stage = Stage(kit, 4, watches=False)
    stage.elect("n1", "n2", "n3", "n4")
    stage.spread("n1", "n2", "n3", "n4")
    stage.ask("n1", "write", argument=1)
    stage.exchange("n1", "n2")
    stage.elect("n3", "n4")
    stage.ask("n3", "read")
    stage.ask("n3", "write", argument=2)
    stage.exchange("n3", "n4")
    stage.exchange("n1", "n2")
    stage.finish()


@scenario
def even_cluster_two_candidates(kit: Kit) -> None:
    """Four nodes, two on either side, and a candidate on each, in one term."""
    stage = Stage(kit, 4, watches=False)
    for candidate in ("n1", "n3"):
        stage.time_out(candidate)
    for _ in range(3):
        for candidate, voter in (("n1", "n2"), ("n3", "n4")):
            stage.deliver(candidate, voter, RequestVote)
            stage.deliver(voter, candidate, Vote)
    stage.finish()


@scenario
def learner_is_no_voter(kit: Kit) -> None:
    """A candidate that is granted by a learner and itself has no majority of the voters."""
    stage = Stage(kit, 4, learner=True)
    stage.elect("n1", "n2", "n3")
    stage.ask("n1", "write", argument=1)
    stage.spread("n1", "n2")
    stage.time_out("n3")
    for _ in range(2):
        stage.nodes["n4"].clock.jump(1.0)
        stage.deliver("n3", "n4", RequestVote)
        stage.deliver("n4", "n3", Vote)
    require(not stage.leads("n3"), "election_safety", "n3 leads by the vote of a learner")
    stage.finish()


@scenario
def removed_node_disturbs_nobody(kit: Kit) -> None:
    """Who was removed runs on, and its elections depose nobody who is heard (section 6)."""
    stage = Stage(kit)
    stage.elect("n1", "n2", "n3")
    stage.spread("n1", "n2", "n3")
    term = stage.nodes["n1"].core.term
    stage.nodes["n1"].ask(Configuration(("n1", "n2")))
    stage.spread("n1", "n2")
    for _ in range(5):
        stage.time_out("n3")
        stage.exchange("n1", "n2", "n3")
        stage.beat("n1")
        stage.exchange("n1", "n2")
    require(stage.nodes["n1"].core.term == term, "stability", "a removed node has moved the term")
    stage.expect_leader("n1")
    stage.finish()


@scenario
def the_last_entry_of_a_removed_leader(kit: Kit) -> None:
    """Only the leader that is being removed has the entry that removes it, and all restart: it must campaign once more,
    for the other one may not be elected (dissertation, section 4.2.2)."""
    stage = Stage(kit, 2)
    stage.elect("n1", "n2")
    stage.spread("n1", "n2")
    stage.nodes["n1"].ask(Configuration(("n2",)))
    stage.deliver("n1", "n2")
    stage.deliver("n2", "n1")
    require(not stage.nodes["n1"].configuration.is_joint, "the_script_goes_on", "the joint phase has not ended")
    stage.drop_all()
    for name in ("n1", "n2"):
        stage.crash_and_restart(name)
    stage.finish()


def _on_the_way_from_123_to_145(kit: Kit) -> Stage:
    """n1 leads, and has appended the joint configuration; nobody else has heard of it."""
    stage = Stage(kit, 3, spares=2, watches=False)
    stage.elect("n1", "n2", "n3")
    stage.spread("n1", "n2", "n3")
    for name in ("n4", "n5"):
        stage.wake_spare(name)
        stage.nodes[name].clock.run(0.0)
    stage.nodes["n1"].ask(Configuration(("n1", "n4", "n5")))
    stage.work()
    return stage


@scenario
def two_disjoint_majorities(kit: Kit) -> None:
    """From {1,2,3} to {1,4,5}: while the old majority has not heard of it, the new one decides nothing (Figure 10)."""
    stage = _on_the_way_from_123_to_145(kit)
    stage.take("n1", "n2")
    stage.take("n1", "n3")
    stage.spread("n1", "n4", "n5")
    stage.elect("n2", "n3")
    stage.expect_leader("n2")
    stage.ask("n2", "write", argument=1)
    stage.spread("n2", "n3")
    stage.ask("n1", "write", argument=2)
    stage.spread("n1", "n4", "n5")
    stage.finish()


@scenario
def candidates_of_two_configurations(kit: Kit) -> None:
    """From {1,2,3} to {1,4,5}: one candidate knows of the change, the other does not, and both ask in one term."""
    stage = _on_the_way_from_123_to_145(kit)
    for _ in range(4):
        stage.beat("n1")
        stage.exchange("n1", "n4", "n5")
    stage.drop_all()
    stage.crash("n1")
    for name in ("n2", "n3", "n4", "n5"):
        stage.nodes[name].clock.jump(1.0)
    for candidate in ("n2", "n4"):
        stage.time_out(candidate)
    for _ in range(3):
        for candidate, voter in (("n2", "n3"), ("n4", "n5")):
            stage.deliver(candidate, voter, RequestVote)
            stage.deliver(voter, candidate, Vote)
    stage.finish()
