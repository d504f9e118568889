"""Scenarios of reads: from leaders that are none any more, or that do not know enough yet."""

from __future__ import annotations

from onerack.raft.messages import Append, Appended, Heartbeat, HeartbeatReply
from onerack.sim.raft.judge import require
from onerack.sim.raft.kit import Kit
from onerack.sim.raft.scenarios.plays import scenario
from onerack.sim.raft.scenarios.stage import Stage

LEASES = {"lease_reads": True}


def _led_by_n1(kit: Kit, **limits: object) -> Stage:
    """n1 leads, and everybody has its first entry."""
    stage = Stage(kit, limits=dict(limits), watches=False)
    stage.elect("n1", "n2", "n3")
    stage.spread("n1", "n2", "n3")
    return stage


def _write_at(stage: Stage, leader: str, other: str, value: int) -> None:
    client = stage.ask(leader, "write", argument=value)
    stage.spread(leader, other)
    require(not client.is_busy, "the_script_goes_on", f"{value} should have been written")


def _n2_takes_over_and_n1_is_asked(stage: Stage) -> None:
    stage.elect("n2", "n3")
    _write_at(stage, "n2", "n3", 2)
    stage.drop_all()
    stage.ask("n1", "read")
    stage.exchange("n1", "n3")
    stage.finish()


@scenario
def paused_leader_stale_read(kit: Kit) -> None:
    """A leader stands still, another is elected and writes, the first one goes on and is asked (section 8)."""
    stage = _led_by_n1(kit)
    _write_at(stage, "n1", "n2", 1)
    stage.drop_all()
    _n2_takes_over_and_n1_is_asked(stage)


@scenario
def paused_leader_with_a_lease(kit: Kit) -> None:
    """The same, with lease reads: the pause was longer than the lease."""
    stage = _led_by_n1(kit, **LEASES)
    _write_at(stage, "n1", "n2", 1)
    stage.drop_all()
    stage.nodes["n1"].clock.jump(0.5)
    _n2_takes_over_and_n1_is_asked(stage)


@scenario
def restart_within_the_lease(kit: Kit) -> None:
    """A follower confirms a leader's lease, restarts at once, and is asked for its vote: it must not give it yet."""
    stage = _led_by_n1(kit, **LEASES)
    _write_at(stage, "n1", "n2", 1)
    stage.spread("n1", "n2", "n3")
    stage.drop_all()
    stage.crash_and_restart("n2")
    stage.time_out("n3")
    for _ in range(4):
        stage.deliver("n3", "n2")
        stage.deliver("n2", "n3")
    if stage.leads("n3"):
        _write_at(stage, "n3", "n2", 2)
    stage.drop_all()
    stage.ask("n1", "read")
    stage.finish()


@scenario
def transfer_voids_the_lease(kit: Kit) -> None:
    """Leadership is handed over within the lease: the old leader must not count on it any more."""
    stage = _led_by_n1(kit, **LEASES)
    _write_at(stage, "n1", "n2", 1)
    stage.beat("n1")
    stage.exchange("n1", "n2", "n3")
    stage.nodes["n1"].ask("n2")
    stage.work()
    stage.deliver("n1", "n2")
    for _ in range(4):
        stage.deliver("n2", "n3")
        stage.deliver("n3", "n2")
    stage.expect_leader("n2")
    stage.take("n2", "n1")
    _write_at(stage, "n2", "n3", 2)
    stage.ask("n1", "read")
    stage.finish()


@scenario
def read_before_the_first_commit(kit: Kit) -> None:
    """A new leader's commit index may be behind its predecessor's: it answers nothing before its first entry is
    committed (section 8)."""
    stage = _led_by_n1(kit)
    client = stage.ask("n1", "write", argument=1)
    stage.deliver("n1", "n2", Append)
    stage.deliver("n2", "n1", Appended)
    stage.work()
    require(not client.is_busy, "the_script_goes_on", "1 should have been written")
    stage.drop_all()
    stage.crash("n1")
    stage.elect("n2", "n3")
    stage.ask("n2", "read")
    for _ in range(3):
        stage.deliver("n2", "n3", Heartbeat)
        stage.deliver("n3", "n2", HeartbeatReply)
    stage.finish()


@scenario
def stale_follower_read(kit: Kit) -> None:
    """A follower that lags is asked: it answers what the leader's commit index says, or nothing."""
    stage = _led_by_n1(kit)
    _write_at(stage, "n1", "n2", 1)
    stage.drop_all()
    stage.ask("n3", "read")
    stage.finish()


@scenario
def read_joins_no_round_under_way(kit: Kit) -> None:
    """The answers to a round that began before the read came prove nothing for it."""
    stage = _led_by_n1(kit)
    _write_at(stage, "n1", "n2", 1)
    stage.drop_all()
    stage.ask("n1", "read")
    stage.deliver("n1", "n3", Heartbeat)
    early = stage.take("n3", "n1", HeartbeatReply)
    stage.drop_all()
    stage.elect("n2", "n3")
    _write_at(stage, "n2", "n3", 2)
    stage.drop_all()
    stage.ask("n1", "read")
    stage.give(*early)
    stage.finish()


@scenario
def clock_jump_back_1h(kit: Kit) -> None:
    """A leader's clock stands still while another leads: without leases no clock is trusted."""
    stage = _led_by_n1(kit)
    _write_at(stage, "n1", "n2", 1)
    stage.drop_all()
    for _ in range(3):
        stage.elect("n2", "n3")
    _write_at(stage, "n2", "n3", 2)
    stage.ask("n1", "read")
    stage.nodes["n3"].clock.jump(3600.0)
    stage.exchange("n1", "n3")
    stage.finish()
