"""Hostile callers at both ports of real nodes, while an honest client of each API is served. See hostile.py."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

import pytest

from onerack.config import MIB
from tests.faults.hostile import OFFENDERS, Offender, hold_on
from tests.faults.links import RelayLinks
from tests.faults.nodes import Nodes
from tests.faults.patience import awake
from tests.faults.stores import EtcdStore, Lost, NativeStore, Refused
from tests.many_files import many_files

FRAMES = int(os.environ.get("ONERACK_HOSTILE_FRAMES", "1000000"))
"""Of the long run."""


class Honest:
    """Two clients, one of each API, who do the right thing again and again."""

    def __init__(self, nodes: Nodes, name: str) -> None:
        self.nodes, self.name = nodes, name
        self.served = 0
        self.failed: list[str] = []
        self.gap_s_max = 0.0
        """For how long neither of them was served, as far as this machine was awake."""
        self._is_over = False
        self._tasks = [asyncio.create_task(self._work(kind)) for kind in (NativeStore, EtcdStore)]
        self._watch = asyncio.create_task(self._measure())

    async def _measure(self) -> None:
        served, gap_s = self.served, 0.0
        while True:
            await awake(0.1)
            gap_s = 0.0 if self.served > served else gap_s + 0.1
            served = self.served
            self.gap_s_max = max(self.gap_s_max, gap_s)

    async def _work(self, kind: type[NativeStore] | type[EtcdStore]) -> None:
        number, lost = 0, list[str]()
        while self._goes_on():
            try:
                store = await kind.connect([self.nodes.rpc[self.name]], self.nodes.etcd[self.name])
                while self._goes_on():
                    number += 1
                    key, value = f"honest {kind.__name__}", str(number)
                    revision = await store.put(key, value)
                    found_at, found = await store.find(key, key + "\0")
                    # Somebody may delete what he likes, and a write whose answer was lost may come late; but nobody may
                    # change a value, or turn back the time.
                    assert found_at >= revision
                    assert found == () or found[0][1] in {value, *lost}, (found, value, lost)
                    self.served += 1
                    await asyncio.sleep(0.001)
                await store.close()
            except (Refused, Lost) as error:
                self.failed.append(str(error))
                if isinstance(error, Lost):
                    lost.append(str(number))
                await asyncio.sleep(0.05)

    def _goes_on(self) -> bool:
        return not self._is_over

    async def until(self, count: int) -> None:
        """So many calls were served in all. Raises: what an honest client must not see."""
        while self.served < count:
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.01)

    async def __aenter__(self) -> Honest:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._is_over = True
        await asyncio.gather(*self._tasks)
        self._watch.cancel()
        await asyncio.gather(self._watch, return_exceptions=True)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def offend(nodes: Nodes, name: str, offender: Offender, seed: int, sent: Counter[str], frames: int) -> None:
    """Again and again, until all offenders together have sent so many frames."""
    while True:
        seed += 1
        sent[offender.__name__] += await offender(nodes, name, seed)
        if sent.total() >= frames:
            return


async def among(nodes: Nodes, name: str, frames: int, growth_max: int) -> None:
    """All offenders at once; first some to warm up."""
    pid = nodes.running[name].pid
    async with Honest(nodes, name) as honest:
        async with asyncio.TaskGroup() as tasks:
            for each in OFFENDERS:
                tasks.create_task(offend(nodes, name, each, 1_000_000, Counter(), 1))
        before, served = resident_bytes(pid), honest.served
        sent: Counter[str] = Counter()
        async with asyncio.TaskGroup() as tasks:
            for each in OFFENDERS:
                tasks.create_task(offend(nodes, name, each, 0, sent, frames))
        await honest.until(honest.served + 5)
    growth = resident_bytes(pid) - before
    named = ", ".join(f"{what} {count}" for what, count in sorted(sent.items()))
    print(f"{named}; {honest.served - served} honest calls, {len(honest.failed)} in vain, longest gap", end=" ")
    print(f"{honest.gap_s_max:.1f} s; {growth / MIB:.0f} MiB more")
    assert growth < growth_max
    nodes.check_alive()
    for other in nodes.names:
        assert "Traceback" not in nodes.said(other), nodes.said(other)


@pytest.mark.timeout(600)
def test_nothing_that_is_sent_to_either_port_ends_a_node_or_keeps_others_from_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with Nodes(tmp_path, 1, RelayLinks()) as nodes:
            await among(nodes, "n1", 800, 200 * MIB)

    asyncio.run(story())


@pytest.mark.timeout(600)
def test_a_thousand_who_hold_on_to_their_connections_keep_nobody_out(tmp_path: Path) -> None:
    async def story() -> None:
        async with Nodes(tmp_path, 1, RelayLinks()) as nodes:
            before = resident_bytes(nodes.running["n1"].pid)
            held = await hold_on(nodes, "n1", 1000)
            async with Honest(nodes, "n1") as honest:
                await honest.until(100)
            assert resident_bytes(nodes.running["n1"].pid) - before < 150 * MIB
            for each in held:
                each.close()
            nodes.check_alive()

    with many_files(4000):
        asyncio.run(story())


@pytest.mark.soak
@pytest.mark.timeout(5400)
def test_a_million_frames(tmp_path: Path) -> None:
    async def story() -> None:
        async with Nodes(tmp_path, 3, RelayLinks()) as nodes:
            await among(nodes, await nodes.led(), FRAMES, 400 * MIB)

    asyncio.run(story())
