"""Troubles: what may happen to nodes, their links and their disks. Each begins, lasts, and ends with its block.

The idea: a trouble is an asynchronous context manager over (nodes, names, chance); a schedule drawn from a seed says
which, whom, and for how long. The rule: whatever the machine cannot do is not among the troubles, and is said once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random

from tests.faults.clients import Clients
from tests.faults.links import Link
from tests.faults.nodes import Nodes

STUFF_BYTES_MAX = 140_000_000
"""As much as a log has room for that was prepared before the disk was full."""


class Scene:
    """Where it happens."""

    def __init__(self, nodes: Nodes, clients: Clients, names: list[str], chance: Random) -> None:
        self.nodes, self.clients, self.names, self.chance = nodes, clients, names, chance
        """`names`: whom it befalls."""

    @property
    def others(self) -> list[str]:
        return [name for name in self.nodes.names if name not in self.names]


Trouble = Callable[[Scene], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def killed(scene: Scene) -> AsyncIterator[None]:
    await asyncio.gather(*map(scene.nodes.kill, scene.names))
    yield
    await asyncio.gather(*map(scene.nodes.start, scene.names))


@asynccontextmanager
async def stopped(scene: Scene) -> AsyncIterator[None]:
    for name in scene.names:
        scene.nodes.stop(name)
    yield
    for name in scene.names:
        scene.nodes.go_on(name)


@asynccontextmanager
async def stuttering(scene: Scene) -> AsyncIterator[None]:
    """They run for moments only, as on a machine that swaps."""

    async def stutter() -> None:
        while True:
            for name in scene.names:
                scene.nodes.stop(name)
            await asyncio.sleep(scene.chance.uniform(0.05, 0.6))
            for name in scene.names:
                scene.nodes.go_on(name)
            await asyncio.sleep(scene.chance.uniform(0.02, 0.1))

    task = asyncio.create_task(stutter())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for name in scene.names:
        scene.nodes.go_on(name)


@asynccontextmanager
async def _cut(scene: Scene, links: list[Link]) -> AsyncIterator[None]:
    scene.nodes.ill.update(scene.names)
    await scene.nodes.links.cut(*links)
    yield
    await scene.nodes.links.mend(scene.chance)
    scene.nodes.ill.difference_update(scene.names)


def links_between(speakers: list[str], hearers: list[str]) -> list[Link]:
    return [(speaker, hearer) for speaker in speakers for hearer in hearers if speaker != hearer]


def cut_off(scene: Scene) -> AbstractAsyncContextManager[None]:
    return _cut(scene, links_between(scene.names, scene.others) + links_between(scene.others, scene.names))


def deaf(scene: Scene) -> AbstractAsyncContextManager[None]:
    return _cut(scene, links_between(scene.others, scene.names))


def dumb(scene: Scene) -> AbstractAsyncContextManager[None]:
    return _cut(scene, links_between(scene.names, scene.others))


def some_links(scene: Scene) -> AbstractAsyncContextManager[None]:
    """Any of them, each way by itself; perhaps nobody has a majority that hears him, and everybody has one he hears."""
    links = links_between(scene.nodes.names, scene.nodes.names)
    return _cut(scene, scene.chance.sample(links, scene.chance.randint(1, len(links) // 2)))


@asynccontextmanager
async def full_disk(scene: Scene) -> AsyncIterator[None]:
    """Until the store says that it has no room; if a majority still has room, as much as they prepare."""
    for name in scene.names:
        await asyncio.to_thread(scene.nodes.disks[name].fill)
    await scene.clients.stuff(STUFF_BYTES_MAX)
    yield
    for name in scene.names:
        scene.nodes.disks[name].free()


@asynccontextmanager
async def frozen_disk(scene: Scene) -> AsyncIterator[None]:
    scene.nodes.ill.update(scene.names)
    for name in scene.names:
        await asyncio.to_thread(scene.nodes.disks[name].freeze)
    yield
    for name in scene.names:
        await asyncio.to_thread(scene.nodes.disks[name].thaw)
    scene.nodes.ill.difference_update(scene.names)


@asynccontextmanager
async def without_power(scene: Scene) -> AsyncIterator[None]:
    """The disk loses what was not synced, and the process with it what it had in memory."""
    nodes = scene.nodes
    for name in scene.names:
        nodes.running[name].send_signal(19)  # It must not see how its disk dies, and tell anybody.
        nodes.disks[name].cut_power()
    await asyncio.gather(*map(nodes.kill, scene.names))
    for name in scene.names:
        await asyncio.to_thread(nodes.disks[name].unmount)
        await asyncio.to_thread(nodes.disks[name].mount)
    yield
    await asyncio.gather(*map(nodes.start, scene.names))


PROCESSES: dict[str, Trouble] = {"killed": killed, "stopped": stopped, "stuttering": stuttering}
LINKS: dict[str, Trouble] = {"cut off": cut_off, "deaf": deaf, "dumb": dumb, "some links": some_links}
DISKS: dict[str, Trouble] = {"full disk": full_disk, "frozen disk": frozen_disk, "without power": without_power}
