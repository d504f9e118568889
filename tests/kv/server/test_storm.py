"""A storm: writers and watchers on every node while leaders move, stop and return; every watch must be the history."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from onerack.config import KvConfig
from tests.kv.server.client import Client, StatusError, connected
from tests.kv.server.group import Group, group

SECONDS = {"short": 3.0, "long": 40.0}
NAMES = ["n1", "n2", "n3"]

Told = tuple[int, bytes, bytes]
"""(revision, key, value)."""


class Storm:
    """One run."""

    def __init__(self, found: Group, seed: int) -> None:
        self.group = found
        self.random = random.Random(seed)
        self.done = False
        self.settled = False
        """No more will be written."""
        self.written: dict[bytes, int] = {}
        """Value -> revision, of every write that was acknowledged."""
        self.told: dict[str, list[Told]] = {name: [] for name in NAMES}

    async def write(self, number: int) -> None:
        dice = random.Random(number)
        count = 0
        while not self.done:
            place = self.group.places[dice.choice(NAMES)]
            try:
                async with connected(place.address) as client:
                    for _ in range(dice.randrange(1, 30)):
                        count += 1
                        value = b"%d.%d" % (number, count)
                        answer = await client.call("Put", key=b"k%d" % dice.randrange(9), value=value)
                        self.written[value] = answer.header.revision
            except (StatusError, OSError):
                await asyncio.sleep(0.02)

    async def watch(self, name: str) -> None:
        """A client that goes on where it was when its node goes away."""
        told = self.told[name]
        while not self.settled or self.is_behind(name):
            try:
                async with connected(self.group.places[name].address) as client:
                    await self._watch_once(client, told, name)
            except (StatusError, OSError):
                await asyncio.sleep(0.02)

    async def _watch_once(self, client: Client, told: list[Told], name: str) -> None:
        stream = client.open("Watch")
        first = told[-1][0] + 1 if told else 1
        stream.send(create_request={"key": b"k", "range_end": b"l", "start_revision": first})
        while not self.settled or self.is_behind(name):
            try:
                response = await stream.receive(0.5)
            except TimeoutError:
                continue
            told += [(event.kv.mod_revision, event.kv.key, event.kv.value) for event in response.events]

    def is_behind(self, name: str) -> bool:
        told = self.told[name]
        return bool(self.written) and (not told or told[-1][0] < max(self.written.values()))

    async def trouble(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            await asyncio.sleep(self.random.uniform(0.2, 0.8))
            leader = self.group.leader
            if leader is None:
                continue
            name = self.random.choice([leader.node.name, *NAMES])
            if self.random.random() < 0.3:
                others = [other for other in NAMES if other != leader.node.name]
                await asyncio.gather(leader.node.manage("transfer", self.random.choice(others)), return_exceptions=True)
            else:
                await self.group.places[name].stop()
                await asyncio.sleep(self.random.uniform(0.0, 0.4))
                await self.group.add(name)
        self.done = True


async def storm(directory: Path, seed: int, seconds: float) -> None:
    async with group(directory, *NAMES, config=KvConfig(request_timeout_s=2.0)) as found:
        run = Storm(found, seed)
        async with asyncio.timeout(seconds + 60), asyncio.TaskGroup() as tasks:
            writers = [tasks.create_task(run.write(number)) for number in range(4)]
            for name in NAMES:
                tasks.create_task(run.watch(name))
            await run.trouble(seconds)
            await asyncio.wait(writers)
            run.settled = True
        assert len(run.written) > 10 * seconds
        shortest = min(run.told.values(), key=len)
        for told in run.told.values():
            assert [revision for revision, _, _ in told] == sorted({revision for revision, _, _ in told})
            assert told[: len(shortest)] == shortest
        by_value = {value: revision for revision, _, value in shortest}
        assert {value: by_value.get(value) for value in run.written} == run.written


def test_every_watch_is_the_history_whatever_happens_to_the_leader(tmp_path: Path) -> None:
    asyncio.run(storm(tmp_path, 1, SECONDS["short"]))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
def test_a_long_storm(tmp_path: Path, seed: int) -> None:
    asyncio.run(storm(tmp_path, seed, SECONDS["long"]))
