"""What simulated worlds prove of the shells: each mode through thousands of calls under loss, copies and crashes.

In all `make test` and `make soak` together: more than 20,000 calls of each mode over lossy links, as many over links
that keep the order and break; not one violation.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from onerack import rpc
from onerack.rpc.testing import CALM, Faults, Report, World, every_crash_point, prove
from onerack.sim.rpc_world.seed import Circumstances, run
from tests.rpc.simulated import (
    CLIENTS,
    STORM,
    STORM_ON_TCP,
    Tally,
    TallyServer,
    everything,
    streams,
    tally,
    transfers,
)

CALLS = 60
"""By each client in one seed."""
SCENARIOS = {
    "at_least_once": tally("put", CALLS),
    "at_most_once": tally("add", CALLS),
    "at_most_once_slowly": tally("add_slowly", CALLS),
    "exactly_once": transfers(CALLS),
}
SEEDS = 10
SOAK_SEEDS = 120
MOSTLY_DONE = 0.8


def check(mode: str, seeds: range, faults: Faults) -> Report:
    report = prove(SCENARIOS[mode], seeds=seeds, faults=faults)
    assert report.runs == len(seeds)
    assert report.calls == CALLS * CLIENTS * len(seeds)
    assert report.crashes > 3 * len(seeds), "hardly anything crashed"
    assert report.outcomes["Unknown"] > len(seeds) // 4, "no crash met a call: this shows nothing"
    assert report.outcomes["OK"] + report.outcomes["ApplicationError"] > MOSTLY_DONE * report.calls
    if faults.is_lossy:
        assert report.lost > 0.1 * report.messages
        assert report.repeated > 0.1 * report.messages
    return report


@pytest.mark.parametrize("mode", SCENARIOS)
def test_a_mode_keeps_its_promise_where_messages_are_lost_doubled_and_overtaken(mode: str) -> None:
    report = check(mode, range(SEEDS), STORM)
    if mode == "at_least_once":
        assert report.executions > report.calls, "nothing ever ran twice: nobody asked again"


@pytest.mark.parametrize("mode", SCENARIOS)
def test_a_mode_keeps_its_promise_where_connections_break(mode: str) -> None:
    check(mode, range(SEEDS), STORM_ON_TCP)


@pytest.mark.soak
@pytest.mark.parametrize("faults", [STORM, STORM_ON_TCP], ids=["lossy", "breaking"])
@pytest.mark.parametrize("mode", SCENARIOS)
def test_a_mode_keeps_its_promise_for_long(mode: str, faults: Faults) -> None:
    report = check(mode, range(1000, 1000 + SOAK_SEEDS), faults)
    assert report.calls > 20_000


@pytest.mark.soak
@pytest.mark.parametrize("mode", SCENARIOS)
def test_a_mode_keeps_its_promise_in_worlds_of_many_kinds(mode: str) -> None:
    faults = Faults(
        drop=0.3, duplicate=0.3, reorder=True, slow=0.1, late_s=90.0, breaks=5, cuts=3, cut_s=100.0, server_crashes=5,
        client_crashes=2, fsync_failures=2, restart_s=40.0,
    )  # fmt: skip
    prove(SCENARIOS[mode], seeds=SOAK_SEEDS, faults=faults)


# ------------------------------------------------------------------------------------------------ everything at once

WILD_ON_TCP = Faults(slow=0.02, breaks=4, cuts=1, restarts=1, server_crashes=1, client_crashes=1)
WILD = Faults(
    drop=0.25, duplicate=0.25, reorder=True, slow=0.08, late_s=30.0, breaks=6, cuts=3, cut_s=15.0, server_crashes=4,
    client_crashes=2, fsync_failures=1, restarts=2, restart_s=4.0,
)  # fmt: skip


def test_deadlines_cancellations_small_windows_and_other_modes_break_no_promise() -> None:
    report = prove(everything(30), seeds=12, faults=WILD)
    for outcome in ("OK", "ApplicationError", "NotExecuted", "Unknown", "open"):
        assert report.outcomes[outcome] > 10


def test_streams_break_no_promise() -> None:
    report = prove(streams(12), seeds=4, faults=WILD_ON_TCP)
    assert report.outcomes["OK"] > 20


@pytest.mark.soak
def test_everything_for_long() -> None:
    prove(everything(30), seeds=range(100, 600), faults=WILD)
    prove(everything(30), seeds=range(100, 300), faults=WILD_ON_TCP)


@pytest.mark.soak
def test_streams_for_long() -> None:
    prove(streams(12), seeds=range(100, 300), faults=WILD_ON_TCP)


# ------------------------------------------------------------------------------------------------ every point


def test_money_stays_and_each_transfer_is_executed_once_wherever_the_bank_or_a_client_crashes() -> None:
    report = every_crash_point(transfers(2))
    assert report.points >= 80
    assert report.runs > 2 * report.points
    assert report.crashes >= 2 * report.runs, "one at the point, and one to see what the disk holds"
    assert report.outcomes["Unknown"] > 10, "no client crashed while it was waiting"
    assert report.outcomes["OK"] > 0.9 * report.calls


@pytest.mark.soak
@pytest.mark.parametrize("mode", SCENARIOS)
def test_every_crash_point_of_a_longer_run_over_lossy_links(mode: str) -> None:
    scenario = transfers(5) if mode == "exactly_once" else tally(SCENARIO_METHODS[mode], 5)
    assert every_crash_point(scenario, faults=Faults(drop=0.15, duplicate=0.15, reorder=True, vary=False)).points > 100


@pytest.mark.soak
def test_money_stays_wherever_the_bank_crashes_twice() -> None:
    report = every_crash_point(transfers(1), roles=["server"], again=15)
    assert report.runs == report.points * 3 * 16


SCENARIO_METHODS = {"at_least_once": "put", "at_most_once": "add", "at_most_once_slowly": "add_slowly"}


# ------------------------------------------------------------------------------------------------ determinism

HASHES = """
from tests.rpc.test_testing_proof import hashes
print(*hashes())
"""


async def reads_sets_of_tasks(world: World) -> None:
    """Their order would be that of addresses in memory."""
    world.serve(Tally, TallyServer)
    counter = await world.connect(Tally)
    tasks = {asyncio.create_task(counter.add_slowly(key)) for key in range(20)}
    done, _ = await asyncio.wait(tasks)
    for task in done:
        with suppress(rpc.CallError):
            await counter.add(100 + task.result())


def hashes() -> list[str]:
    found = [run(reads_sets_of_tasks, Circumstances(0, CALM)).lived.trace_hash]
    for mode, scenario in SCENARIOS.items():
        length = run(scenario, Circumstances(0, CALM)).lived.length
        faults = STORM if "once" in mode else STORM_ON_TCP
        found += [run(scenario, Circumstances(seed, faults, length)).lived.trace_hash for seed in range(2)]
    return found


def test_the_same_seed_gives_the_same_run_in_another_process() -> None:
    expected = hashes()
    assert len(set(expected)) == len(expected)
    root = Path(__file__).parents[2]
    for hash_seed in ("0", "77"):
        done = subprocess.run(
            [sys.executable, "-c", HASHES],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{root / 'src'}:{root}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == expected
