"""The long runs of raft and the store under simulation, on all cores; they say what they did, and how fast.

The idea: what `make soak` promises in figures is printed by it: schedules, seconds, violations, failing seeds, and for
each planted bug how soon it is found. The rule: figures of speed are told, not asserted, for machines differ; what is
asserted is that nothing is found in an honest cluster, and nearly everything in a wrong one.
"""

from __future__ import annotations

import time
from functools import partial
from types import ModuleType

import pytest

from onerack.sim import kv, raft
from onerack.sim.failed import ScheduleFailed
from onerack.sim.hunt import Hunt
from onerack.sim.spread import cores, spread

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]

FIRST = 1_000_000
"""Seeds that no other test has."""


@pytest.mark.parametrize(("system", "schedules"), [(raft, 40_000), (kv, 4_000)], ids=["raft", "kv"])
def test_nothing_is_found(system: ModuleType, schedules: int, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    failures = [
        outcome
        for outcome in spread(system.run_schedule, range(FIRST, FIRST + schedules), cores())
        if isinstance(outcome, ScheduleFailed)
    ]
    seconds = time.monotonic() - began
    seeds = [failed.seed for failed in failures]
    with capsys.disabled():
        print(f"\n{system.__name__}: {schedules:,} schedules in {seconds:.0f} s on {cores()} cores", end="")
        print(f" ({schedules / seconds:.1f} per second), {len(seeds)} violations, failing seeds: {seeds or 'none'}")
    assert not failures, "\n".join(map(str, failures[:5]))


def test_planted_bugs_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    hunts: list[Hunt] = []
    for system in (raft, kv):
        for outcome in spread(partial(system.hunt_planted, seeds=range(4000)), sorted(system.PLANTED), cores(), 1):
            assert isinstance(outcome, Hunt)
            hunts.append(outcome)
    found = [each for each in hunts if each.found_by]
    with capsys.disabled():
        print(f"\n{len(found)} of {len(hunts)} planted bugs found in {time.monotonic() - began:.0f} s")
        for each in hunts:
            by = each.found_by or "SURVIVES"
            print(f"  {each.system:5} {each.bug:50} {by:44} {each.seeds:5} seeds {each.seconds:7.2f} s")
    assert len(found) >= 0.95 * len(hunts)
