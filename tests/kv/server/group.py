"""A group of kv nodes in this process, with real files and real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from onerack.config import KvConfig, RaftConfig
from onerack.kv.core import KvMachine
from onerack.kv.server.door import KvDoor
from onerack.kv.server.server import KvServer
from onerack.raft import RaftNode
from onerack.raft.commands import KV
from tests.kv.server.client import Client, connected

QUICK = RaftConfig(segment_bytes=1 << 20, entry_bytes_max=1 << 19, uncommitted_bytes_max=1 << 22)
"""Small files, so that a group is quickly there."""
ALONE = msgspec.structs.replace(QUICK, heartbeat_interval_s=0.01, election_timeout_s=0.03)
"""Nobody else is to be waited for."""


def free_port() -> int:
    """Nobody listens there now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Place:
    """One node with its server."""

    def __init__(
        self, name: str, directory: Path, members: dict[str, str], config: KvConfig, raft: RaftConfig, joins: bool,
        address: str = "tcp://127.0.0.1:0",
    ) -> None:  # fmt: skip
        door = KvDoor()
        self.machine = KvMachine(config)
        self.node = RaftNode(
            name, directory / name.replace(":", "-"), members=members, machines={KV: self.machine}, joins=joins,
            services=door.services, config=raft, request_timeout_s=config.request_timeout_s,
        )  # fmt: skip
        self.server = KvServer(self.node, self.machine, address, door=door, config=config)
        self.is_up = False

    @property
    def address(self) -> str:
        return self.server.address

    async def start(self) -> None:
        await self.node.start()
        await self.server.start()
        self.is_up = True

    async def stop(self) -> None:
        if self.is_up:
            self.is_up = False
            await self.server.close()
            await self.node.close()


class Group:
    """Several of them."""

    def __init__(self, directory: Path, config: KvConfig, raft: RaftConfig) -> None:
        self.directory = directory
        self.config = config
        self.raft = raft
        self.places: dict[str, Place] = {}
        self.addresses: dict[str, str] = {}

    async def begin(self, names: list[str]) -> None:
        self.addresses = {name: f"tcp://127.0.0.1:{free_port()}" for name in names}
        for name in names:
            await self.add(name)
        await self.until(lambda: self.leader is not None)

    async def add(self, name: str, *, joins: bool = False, address: str = "tcp://127.0.0.1:0") -> Place:
        """Starts a node that belongs to the group, or has been told that it will."""
        place = Place(name, self.directory, dict(self.addresses), self.config, self.raft, joins, address)
        self.places[name] = place
        await place.start()
        return place

    @property
    def leader(self) -> Place | None:
        found = [place for place in self.places.values() if place.is_up and place.node.is_leader]
        return max(found, key=lambda place: place.node.term, default=None)

    @property
    def follower(self) -> Place:
        return next(place for place in self.places.values() if place.is_up and not place.node.is_leader)

    async def until(self, condition: Callable[[], Any], timeout_s: float = 20.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        await asyncio.gather(*(place.stop() for place in self.places.values()))


@asynccontextmanager
async def group(
    directory: Path, *names: str, config: KvConfig | None = None, raft: RaftConfig | None = None
) -> AsyncIterator[Group]:
    """A group with a leader."""
    found = Group(directory, config or KvConfig(), raft or (QUICK if names else ALONE))
    try:
        await found.begin(list(names) or ["n1"])
        yield found
    finally:
        await found.stop()


@asynccontextmanager
async def alone(directory: Path, config: KvConfig | None = None, **metadata: str) -> AsyncIterator[Client]:
    """A client of a node that is alone in its group."""
    async with AsyncExitStack() as stack:
        found = await stack.enter_async_context(group(directory, config=config))
        assert found.leader is not None
        yield await stack.enter_async_context(connected(found.leader.address, reads=True, tls=None, **metadata))
