"""Scenarios of the disk: failed syncs, torn tails, rot, and crashes around snapshots; on the production storage."""

from __future__ import annotations

from onerack.errors import Corruption
from onerack.raft.messages import Append
from onerack.sim.raft.files import FileStorage
from onerack.sim.raft.judge import require
from onerack.sim.raft.kit import Kit
from onerack.sim.raft.node import SimNode
from onerack.sim.raft.options import small_world
from onerack.sim.raft.scenarios.plays import scenario
from onerack.sim.raft.scenarios.stage import Stage
from onerack.sim.raft.schedule import Schedule


def _files(node: SimNode) -> FileStorage:
    assert isinstance(node.storage, FileStorage)
    return node.storage


def _power_loss(node: SimNode) -> None:
    """Nothing that is not durable survives."""
    node.die("power loss")
    files = _files(node)
    for content in files.disk._names.values():
        content.settle([])


@scenario
def fsync_fails_once_then_ok(kit: Kit) -> None:
    """A sync fails, and the next one says that all is well. The process ends, its next life reads what the kernel still
    shows, acknowledges it; then power is lost."""
    stage = Stage(kit, 1, files=True)
    node = stage.nodes["n1"]
    stage.time_out("n1")
    stage.expect_leader("n1")
    _files(node).machine_dies = False
    node.storage.sync_fails = True
    stage.ask("n1", "write", argument=1)
    if node.alive:
        stage.ask("n1", "write", argument=2)
        _power_loss(node)
    else:
        # The machine lives on: what was written is shown, and was never durable.
        stage.restart("n1")
        stage.time_out("n1")
    stage.ask("n1", "read")
    _power_loss(node)
    stage.restart("n1")
    stage.time_out("n1")
    stage.ask("n1", "read")
    stage.finish()


@scenario
def torn_tail(kit: Kit) -> None:
    """Power is lost while a record is written: whatever is left of it, nobody was told, and the node comes back."""
    for length in (1, 300, 800, 1500):
        stage = Stage(kit, 3, files=True)
        stage.elect("n1", "n2", "n3")
        stage.spread("n1", "n2", "n3")
        for value in range(3):
            stage.ask("n1", "append", "l0", f"{value}{'x' * length}")
            for letter in stage.take("n1", "n2", Append):
                stage._deliver(letter.to, letter.message, letter.sender)
            stage.crash_and_restart("n2")
            stage.exchange("n1", "n3")
            stage.beat("n1")
            stage.exchange("n1", "n2", "n3")
        stage.finish()


@scenario
def rot_on_one_copy(kit: Kit) -> None:
    """A bit of one node's log has changed: it refuses to start and says where; the others go on."""
    stage = Stage(kit, 3, files=True)
    stage.elect("n1", "n2", "n3")
    for value in (1, 2, 3):
        stage.ask("n1", "write", argument=value)
        stage.spread("n1", "n2", "n3")
    _rot(stage.nodes["n3"])
    stage.ask("n1", "write", argument=4)
    stage.spread("n1", "n2")
    stage.ask("n1", "read")
    stage.spread("n1", "n2")


@scenario
def rot_on_all_copies_halts(kit: Kit) -> None:
    """The same on all: nobody answers, and nobody answers wrongly."""
    stage = Stage(kit, 3, files=True)
    stage.elect("n1", "n2", "n3")
    for value in (1, 2, 3):
        stage.ask("n1", "write", argument=value)
        stage.spread("n1", "n2", "n3")
    for node in stage.nodes.values():
        _rot(node)
    client = stage.ask("n1", "read")
    require(client.is_busy, "halts", "a read was answered from a damaged log")


def _rot(node: SimNode) -> None:
    """Flips a bit in the middle of the log; the node must not start."""
    _power_loss(node)
    disk = _files(node).disk
    path = next(name for name in sorted(disk._names) if "/log-" in name)
    disk.flip(path, 700, 3)
    try:
        node.start()
    except Corruption:
        node.alive = False
        return
    require(False, "rot_is_found", f"{node.name} started on a damaged log")


@scenario
def crash_between_snapshot_and_reset(kit: Kit) -> None:
    """A snapshot has arrived and is durable, and the node dies before its log has been reset behind it."""
    for files in (False, True):
        stage = Stage(kit, 3, files=files, snapshot_after=2, keep=0, limits={"kept_bytes": 1})
        stage.elect("n1", "n2", "n3")
        stage.ask("n1", "write", argument=1)
        stage.deliver("n1", "n3", Append)
        for value in (2, 3, 4, 5):
            stage.take("n1", "n3")
            stage.ask("n1", "write", argument=value)
            stage.spread("n1", "n2")
            stage.live_for(0.01)
        for name in ("n1", "n2"):
            found = stage.nodes[name].storage.newest_snapshot()
            require(found is not None, "the_script_goes_on", f"{name} has no snapshot")
        newest = stage.nodes["n1"].storage.newest_snapshot()
        assert newest is not None
        stage.nodes["n3"].storage.keep_snapshot(*newest)
        stage.crash_and_restart("n3")
        stage.crash("n2")
        stage.elect("n1", "n3")
        stage.spread("n1", "n3")
        stage.finish()


@scenario
def one_way_leader(kit: Kit) -> None:
    """A leader is heard by all and hears nobody: it must give up, so that another can serve (CheckQuorum)."""
    schedule = Schedule(1, kit, options=small_world(3))
    schedule.begin()
    schedule.live_until(lambda: schedule._leader() is not None, 5.0)
    leader = schedule._leader()
    assert leader is not None
    others = [name for name in schedule.nodes if name != leader.name]
    schedule.network.cut([(other, leader.name) for other in others], 60.0)
    schedule.live_until(lambda: any(schedule.nodes[name].is_leader for name in others), 10.0)
