"""The log on the simulator's disk: lives that end by kills, losses of power and failed syncs, drawn from seeds.

The idea: the enumeration of test_crash.py is complete for one short workload; this is random for many long ones, and
runs the log on the disk that the simulator of whole clusters uses.
"""

from __future__ import annotations

import random

import pytest

from onerack.errors import StorageFull
from onerack.raft.messages import HardState, SnapshotMark
from onerack.raft.storage import RaftLog
from onerack.raft.storage.batch import Write
from onerack.sim.disk import SimDisk, SimHalt
from tests.raft.storage.workload import CONFIG, FIRST, FRESH, View, entries, view_of


class Lives:
    """One machine, and what its disk may say."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.disk = SimDisk(random.Random(seed + 1))
        self.allowed = [FRESH]
        self.torn = 0

    def live(self, steps: int) -> None:
        log = self.open()
        view = self.allowed[0]
        try:
            for _ in range(steps):
                view = self.step(log, view)
            log.close()
        except SimHalt:
            pass
        except StorageFull:
            self.disk.capacity_bytes = 1 << 40

    def open(self) -> RaftLog:
        log, recovered = RaftLog.open(
            "/data",
            cluster="test",
            node="n1",
            first=FIRST,
            config=CONFIG,
            disk=self.disk,
            in_background=False,
            draw=self.chance.randbytes,
        )
        view = view_of(recovered)
        assert view in self.allowed
        self.allowed = [view]
        self.torn += bool(log.torn)
        return log

    def step(self, log: RaftLog, view: View) -> View:
        if self.chance.random() < 0.1 and view.entries:
            return self.snapshot(log, view)
        writes = self.writes(view)
        after = view.after_writes(writes)
        # A batch that is too long for one record goes in several.
        self.allowed = [view.after_writes(writes[:count]) for count in range(len(writes) + 1)]
        log.append(writes)
        if self.chance.random() < 0.05:
            raise SimHalt("the power fails while the disk works")
        log.sync()
        self.allowed = [after]
        return after

    def writes(self, view: View) -> list[Write]:
        chance = self.chance
        term = view.hard_state.term + chance.choice((0, 0, 0, 1))
        last = view.mark.index + len(view.entries)
        first = chance.randint(view.mark.index + 1, last + 1) if chance.random() < 0.2 else last + 1
        payloads = [chance.choice((b"x", b"\x00", b"z\x00\x00")) * chance.randint(0, 400) for _ in range(3)]
        return [HardState(term, chance.choice(("", "n2"))), *entries(term, first, *payloads[: chance.randint(0, 3)])]

    def snapshot(self, log: RaftLog, view: View) -> View:
        entry = self.chance.choice(view.entries)
        mark = SnapshotMark(entry.index, entry.term, FIRST)
        after = view.after_snapshot(mark)
        writer = log.snapshots.create(mark)
        writer.write(b"state " * 50)
        self.allowed = [view, after]
        writer.commit()
        self.allowed = [after]
        log.snapshots.delete_before(mark.index)
        log.cut_before(mark.index + 1)
        return after

    def end(self) -> None:
        """The process is killed, or the power fails, sometimes in the middle of what it does."""
        if self.chance.random() < 0.3:
            self.disk.kill()
        else:
            self.disk.crash()


def run(seed: int, lives: int = 6) -> Lives:
    machine = Lives(seed)
    for _ in range(lives):
        machine.disk.syncs_until_failure = machine.chance.choice((-1, 1, 3, 8, 15))
        if machine.chance.random() < 0.2:
            machine.disk.capacity_bytes = machine.chance.randint(5_000, 20_000)
        try:
            machine.live(machine.chance.randint(1, 25))
        except SimHalt:
            pass  # While it was opened.
        except StorageFull:
            machine.disk.capacity_bytes = 1 << 40
        machine.end()
        machine.disk.syncs_until_failure = -1
    machine.open().close()
    return machine


def test_no_seed_loses_what_was_acknowledged() -> None:
    torn = sum(run(seed).torn for seed in range(200))
    assert torn > 20, "some writes were torn"


@pytest.mark.soak
def test_thousands_of_seeds_lose_nothing() -> None:
    for seed in range(200, 6000):
        run(seed)
