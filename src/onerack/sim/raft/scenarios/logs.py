"""Scenarios of the log: what is committed stays, and what is late changes nothing."""

from __future__ import annotations

from onerack.raft.messages import Append, Appended
from onerack.sim.raft.judge import require
from onerack.sim.raft.kit import Kit
from onerack.sim.raft.scenarios.plays import scenario
from onerack.sim.raft.scenarios.stage import Stage

ONE_BY_ONE = {"append_bytes_max": 1, "in_flight_max": 1}
"""Entries travel alone; a batch would hide what happens between them."""


@scenario
def fig8_old_term_commit(kit: Kit) -> None:
    """Figure 8: an entry of an old term is on a majority, and is overwritten; nobody may have applied it."""
    stage = Stage(kit, 5, limits=ONE_BY_ONE, watches=False)
    stage.elect("n1", "n2", "n3")
    stage.spread("n1", "n2", "n3", "n4", "n5")
    stage.ask("n1", "write", argument=1)  # (a) entry 2 of term 1, on n1 and n2
    stage.exchange("n1", "n2")
    stage.drop_all()
    stage.crash("n1")
    stage.elect("n5", "n3", "n4")  # (b) another entry 2, of term 2, on n5 alone
    stage.expect_leader("n5")
    stage.crash("n5")
    stage.drop_all()
    stage.restart("n1")
    stage.elect("n1", "n2", "n3")  # (c) entry 2 reaches a majority, entry 3 of term 3 does not
    stage.expect_leader("n1")
    stage.exchange("n1", "n2")
    for _ in range(6):
        stage.deliver("n1", "n3", Append)
        stage.deliver("n3", "n1", Appended)
        if stage.nodes["n3"].core.last_index == 2:
            break
    require(stage.nodes["n3"].core.last_index == 2, "the_script_goes_on", "entry 2 should have reached n3")
    stage.drop_all()
    stage.crash("n1")
    stage.restart("n5")
    stage.elect("n5", "n3", "n4")  # (d) n5's log is newer than theirs: entry 2 is overwritten
    stage.expect_leader("n5")
    stage.spread("n5", "n3", "n4")
    stage.finish()


@scenario
def longer_log_is_not_newer(kit: Kit) -> None:
    """A candidate with a longer log of an older term asks those who have committed since (section 5.4.1)."""
    stage = Stage(kit, 5, watches=False)
    stage.elect("n1", "n2", "n3")
    stage.spread("n1", "n2", "n3", "n4", "n5")
    for value in (1, 2, 3):
        stage.ask("n1", "write", argument=value)
    stage.drop_all()
    stage.crash("n1")
    stage.elect("n5", "n3", "n4")
    stage.spread("n5", "n3", "n4")
    stage.restart("n1")
    stage.elect("n1", "n2", "n3")
    stage.spread("n1", "n2", "n3")
    stage.finish()


@scenario
def delayed_append(kit: Kit) -> None:
    """An old Append arrives once more, after newer ones: it removes nothing (section 5.3; Figure 2, step 3)."""
    stage = Stage(kit, limits=ONE_BY_ONE, watches=False)
    stage.elect("n1", "n2", "n3")
    stage.spread("n1", "n2", "n3")
    stage.ask("n1", "write", argument=1)
    old = stage.take("n1", "n2", Append)
    stage.give(*old)
    stage.exchange("n1", "n2")
    stage.ask("n1", "write", argument=2)
    for _ in range(3):
        stage.deliver("n1", "n2", Append)
        stage.give(*old)
        stage.deliver("n2", "n1", Appended)
    stage.drop_all()
    stage.give(*old)
    stage.crash("n1")
    stage.elect("n2", "n3")
    stage.expect_leader("n2")
    stage.ask("n2", "read")
    stage.spread("n2", "n3")
    stage.finish()


@scenario
def append_of_a_deposed_leader(kit: Kit) -> None:
    """What an old leader sent arrives after the new one has committed something else there (section 5.1)."""
    stage = Stage(kit, watches=False)
    stage.elect("n1", "n2", "n3")
    stage.spread("n1", "n2", "n3")
    stage.ask("n1", "write", argument=1)
    old = stage.take("n1", "n3", Append)
    stage.drop_all()
    stage.elect("n2", "n3")
    stage.expect_leader("n2")
    stage.deliver("n2", "n3", Append)
    late = stage.take("n3", "n2", Appended)
    stage.give(*old)
    stage.give(*late)
    stage.spread("n2", "n3")
    stage.finish()


@scenario
def answer_of_an_earlier_term(kit: Kit) -> None:
    """An Appended of the leader's earlier term arrives in its next one, when the follower's log is another."""
    stage = Stage(kit, 5, watches=False)
    stage.elect("n1", "n2", "n3")
    stage.spread("n1", "n2", "n3", "n4", "n5")
    for value in (1, 2):
        stage.propose("n1", value)
    stage.deliver("n1", "n2", Append)
    late = stage.take("n2", "n1", Appended)
    require(bool(late), "the_script_goes_on", "n2 should have acknowledged entry 3")
    stage.drop_all()
    stage.elect("n3", "n4", "n5")
    stage.expect_leader("n3")
    stage.spread("n3", "n1", "n2", "n4", "n5")  # entry 3 is nowhere any more
    stage.elect("n1", "n4", "n5")
    stage.expect_leader("n1")
    stage.deliver("n1", "n4", Append)
    stage.deliver("n4", "n1", Appended)
    stage.give(*late)
    stage.finish()


@scenario
def entries_behind_what_was_covered(kit: Kit) -> None:
    """A follower has a tail of an old leader; the new leader's commit index does not speak of that tail (Figure 2)."""
    stage = Stage(kit, limits=ONE_BY_ONE, watches=False)
    stage.elect("n1", "n2", "n3")
    stage.spread("n1", "n2", "n3")
    for value in (1, 2, 3):
        stage.ask("n1", "write", argument=value)
    for _ in range(4):
        stage.deliver("n1", "n3", Append)
        stage.deliver("n3", "n1", Appended)
        stage.take("n1", "n2")
        if stage.nodes["n2"].alive:
            stage.crash("n2")
        if stage.nodes["n3"].core.last_index >= 3:
            break
    stage.drop_all()
    stage.restart("n2")
    stage.crash("n1")
    stage.elect("n3", "n2")
    stage.spread("n3", "n2")
    stage.finish()


@scenario
def reply_lost_retry_other_node(kit: Kit) -> None:
    """The leader dies between commitment and answer; the client asks the next one with the same number (section 8)."""
    stage = Stage(kit)
    stage.elect("n1", "n2", "n3")
    stage.spread("n1", "n2", "n3")
    client = stage.ask("n1", "append", "l0", 7)
    stage.deliver("n1", "n2", Append)
    stage.crash("n1")
    stage.drop_all()
    stage.elect("n2", "n3")
    stage.spread("n2", "n3")
    require(client.is_busy, "the_script_goes_on", "the client should have heard nothing")
    stage.finish()
    stage.ask("n2", "read", "l0")
    stage.live_until(stage._all_ended)
    require(stage.nodes["n2"].machine.read("l0") == (7,), "exactly_once", f"{stage.nodes['n2'].machine.read('l0')}")


@scenario
def snapshot_then_retry_same_xid(kit: Kit) -> None:
    """The machine that answers a retry has been restored from a snapshot: it must know the request."""
    stage = Stage(kit, snapshot_after=2, keep=0, limits={"kept_bytes": 1})
    stage.elect("n1", "n2", "n3")
    stage.spread("n1", "n2")
    client = stage.ask("n1", "append", "l0", 7)
    stage.exchange("n1", "n2")
    client._request = None  # its answer is lost, and it will ask again
    for value in (1, 2, 3):
        stage.ask("n1", "write", argument=value)
        stage.spread("n1", "n2")
    stage.live_for(0.01)
    for name in ("n1", "n2"):
        stage.crash_and_restart(name)
    stage.elect("n1", "n2")
    stage.spread("n1", "n2")
    client._number -= 1
    client.begin("append", "l0", 7, "n1")
    stage.work()
    stage.spread("n1", "n2")
    require(stage.nodes["n1"].machine.read("l0") == (7,), "exactly_once", f"{stage.nodes['n1'].machine.read('l0')}")
    stage.finish()
