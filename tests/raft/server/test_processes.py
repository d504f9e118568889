"""Real processes under SIGKILL, SIGSTOP and cut links: what clients saw was linearizable, and nothing is lost.

How long it took until commands were taken again is printed (`pytest -s`), and not asserted: the machine is shared.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from time import monotonic_ns

import pytest

from onerack.errors import CallError
from tests.raft.server.group import run
from tests.raft.server.processes import Clients, Processes

Gaps = dict[str, float]
"""What went wrong, and after how many seconds commands were taken again."""


async def judge(clients: Clients, gaps: Gaps) -> None:
    verdict = await clients.verdict()
    shown = ", ".join(f"{gap:.2f} s ({what})" for what, gap in gaps.items())
    print(f"\n{clients.acknowledged} appends, {clients.unknown} unknown; taken again after {shown}")
    assert verdict.is_good, str(verdict)
    assert clients.acknowledged > 0


def test_nodes_are_killed_and_nothing_that_was_acknowledged_is_lost(tmp_path: Path) -> None:
    async def story() -> None:
        async with Processes(tmp_path, 3) as group:
            clients, gaps = Clients(group, 6, seed=1), Gaps()
            await clients.success(monotonic_ns())
            since, leader = monotonic_ns(), await group.led()
            await group.kill(leader)
            gaps["leader killed"] = await clients.success(since)
            await group.start(leader)
            since = monotonic_ns()
            await asyncio.gather(*(group.kill(name) for name in group.names))
            await asyncio.gather(*(group.start(name) for name in group.names))
            gaps["all killed and started"] = await clients.success(since)
            await judge(clients, gaps)

    run(story())


def test_a_leader_that_sleeps_or_is_deaf_or_dumb_is_replaced_and_comes_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with Processes(tmp_path, 3) as group:
            clients, gaps = Clients(group, 6, seed=3), Gaps()
            await clients.success(monotonic_ns())
            for trouble in ("sleeps", "deaf", "dumb"):
                since, leader = monotonic_ns(), await group.led()
                if trouble == "sleeps":
                    group.stop(leader)
                else:
                    group.cut(leader, hears=trouble == "dumb", speaks=trouble == "deaf")
                await group.led(besides=leader)
                gaps[trouble] = await clients.success(since)
                if trouble == "sleeps":
                    group.go_on(leader)
                else:
                    group.mend(Random(5))
            await clients.success(monotonic_ns())
            await judge(clients, gaps)

    run(story())


@pytest.fixture
def small_disks(tmp_path: Path) -> Iterator[list[Path]]:
    places = [tmp_path / f"n{number}" for number in (1, 2, 3)]
    mounted: list[Path] = []
    try:
        for place in places:
            place.mkdir()
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, check=False
            )
            if done.returncode:
                pytest.skip(f"no small disk can be mounted here: {done.stderr.decode().strip()}")
            mounted.append(place)
        yield places
    finally:
        for place in mounted:
            subprocess.run(["umount", "-l", str(place)], check=True)


def test_full_disks_refuse_and_take_commands_again_when_there_is_room(tmp_path: Path, small_disks: list[Path]) -> None:
    async def story() -> None:
        async with Processes(tmp_path, 3) as group:
            store = await group.stub("n1")
            taken = 0
            while True:
                try:
                    answer = await store.append("fill", taken, padding=100_000)
                except CallError:
                    break
                if not answer.executed:
                    break
                taken += 1
            assert taken > 5
            for name in group.names:
                look = await group.look(name)
                assert look is not None, group.said(name)
            for name in group.names:  # What was applied makes room.
                await (await group.stub(name)).snapshot()
            clients = Clients(group, 3, seed=6)
            gap = await clients.success(monotonic_ns())
            answer = await (await group.stub("n2")).read("fill")
            assert answer.values[:taken] == tuple(range(taken))
            await judge(clients, {"disks full": gap})

    run(story())


# ---------------------------------------------------------------------------------------------------- for long


async def trouble(what: str, group: Processes, chance: Random) -> None:
    """One thing goes wrong, lasts, and is mended."""
    leader = await group.led()
    name = leader if chance.random() < 0.5 else chance.choice(group.names)
    match what:
        case "kill":
            await group.kill(name)
            await asyncio.sleep(chance.random())
            await group.start(name)
        case "stop":
            group.stop(name)
            await asyncio.sleep(chance.uniform(0.5, 2))
            group.go_on(name)
        case "kill two":
            names = chance.sample(group.names, 2)
            await asyncio.gather(*map(group.kill, names))
            await asyncio.gather(*map(group.start, names))
        case _:
            group.cut(name, hears=what == "dumb", speaks=what == "deaf")
            await asyncio.sleep(chance.uniform(0.5, 2))
            group.mend(chance)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("count", [3, 5])
def test_whatever_befalls_the_processes_history_is_linearizable(tmp_path: Path, count: int, seed: int) -> None:
    async def story() -> None:
        chance, gaps = Random(seed), Gaps()
        async with Processes(tmp_path, count) as group:
            clients = Clients(group, 8, seed)
            for _ in range(25):
                what, since = chance.choice(["kill", "kill two", "stop", "deaf", "dumb", "away"]), monotonic_ns()
                await trouble(what, group, chance)
                gaps[what] = max(gaps.get(what, 0), await clients.success(since))
                if chance.random() < 0.3:
                    await (await group.stub(await group.led())).snapshot()
            await judge(clients, gaps)

    asyncio.run(story())
