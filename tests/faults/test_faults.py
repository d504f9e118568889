"""A store of real processes is broken, and what its clients saw is judged. Long runs: `make soak`, or the command."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest

from tests.faults import troubles
from tests.faults.__main__ import why_not
from tests.faults.clients import Clients
from tests.faults.links import RelayLinks
from tests.faults.nodes import ROOT, Nodes
from tests.faults.run import Run
from tests.faults.troubles import Scene

MINUTES = float(os.environ.get("ONERACK_FAULTS_MINUTES", "3"))
"""Of each long run."""


@pytest.mark.timeout(600)
def test_a_leader_is_killed_stopped_and_cut_off_and_nothing_that_clients_were_told_is_wrong(tmp_path: Path) -> None:
    """Each trouble lasts until somebody else leads and writes are taken again; nothing here waits for a time."""

    async def schedule(run: Run, clients: Clients) -> None:
        nodes = run.nodes
        for trouble in (troubles.killed, troubles.stopped, troubles.cut_off):
            leader = await nodes.led()
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(trouble(Scene(nodes, clients, [leader], Random(1))))
                await nodes.led(besides=[leader])
                await clients.served(10)

    async def story() -> None:
        async with Nodes(tmp_path, 3, RelayLinks()) as nodes:
            run = Run(nodes, 1, print)
            record = await run.round(schedule)
            assert len([each for each in record.operations if each.revision]) > 60

    asyncio.run(story())


def broken(*words: str) -> None:
    command = [sys.executable, "-m", "tests.faults", "--minutes", f"{MINUTES:g}", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout[-20_000:])
    assert done.returncode == 0, done.stderr[-10_000:]


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("count", [3, 5])
def test_with_real_networks_and_disks(count: int, seed: int) -> None:
    reason = why_not()
    if reason:
        pytest.skip(f"no namespaces and disks here: {reason}")
    broken("--nodes", str(count), "--seed", str(seed))


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [3, 5])
def test_with_relays_and_ordinary_directories(count: int) -> None:
    broken("--nodes", str(count), "--seed", "3", "--links", "relay", "--no-disks")
