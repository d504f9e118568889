"""Nodes of a small store in this process, for tests of its native service and client."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from onerack.config import KvConfig, RaftConfig
from onerack.kv import client as kv
from onerack.kv.core import KvMachine
from onerack.kv.server.native import NativeKv
from onerack.raft import RaftNode

T = TypeVar("T")
QUICK = RaftConfig(election_timeout_s=0.15, heartbeat_interval_s=0.03, entry_bytes_max=2 << 20, segment_bytes=4 << 20)
_numbers = itertools.count()


class Clock:
    """A lease clock that stands still."""

    def __init__(self, machine: KvMachine) -> None:
        self.machine = machine
        self.renewed: list[int] = []

    async def renew(self, leases: list[int]) -> list[int]:
        self.renewed += leases
        return [self.machine.leases.by_id[each].ttl_s if each in self.machine.leases else 0 for each in leases]

    async def remaining(self, lease: int) -> int:
        return self.machine.leases.by_id[lease].ttl_s if lease in self.machine.leases else -1


class Nodes:
    """`async with Nodes(tmp_path, 3) as nodes:`; a client is `nodes.client`."""

    client: kv.KvClient

    def __init__(self, directory: Path, count: int = 1, *, kv_config: KvConfig | None = None) -> None:
        group = next(_numbers)
        self.addresses = {f"n{number}": f"memory://kv-{group}-{number}" for number in range(1, count + 1)}
        self.machines: dict[str, KvMachine] = {}
        self.nodes: dict[str, RaftNode] = {}
        self.clocks: dict[str, Clock] = {}
        self._directory = directory
        self._kv_config = kv_config
        self._stack = AsyncExitStack()

    async def start(self, name: str, *, members: dict[str, str] | None = None, joins: bool = False) -> RaftNode:
        machine = self.machines[name] = KvMachine(self._kv_config)
        self.clocks[name] = Clock(machine)
        service = NativeKv(machine, self.clocks[name])
        node = self.nodes[name] = service.node = RaftNode(
            name, self._directory / name, members=members or self.addresses, machines={1: machine},
            services={kv.Kv: service}, config=QUICK, joins=joins,
        )  # fmt: skip
        await node.start()
        self._stack.push_async_callback(node.close)
        return node

    async def connect(self, *names: str, **settings: Any) -> kv.KvClient:
        client = await kv.connect(*(self.addresses[name] for name in names or self.addresses), **settings)
        self._stack.push_async_callback(client.close)
        return client

    @property
    def leader(self) -> str:
        (leader,) = {node.leader for node in self.nodes.values()}
        return leader

    async def agreed(self) -> str:
        """When all take the same node for the leader."""
        while len({node.leader for node in self.nodes.values()}) != 1 or not self.leader:
            await asyncio.sleep(0.005)
        return self.leader

    async def __aenter__(self) -> Self:
        try:
            for name in self.addresses:
                await self.start(name)
            await self.agreed()
            self.client = await self.connect()
        except BaseException:
            await self._stack.aclose()  # Nobody else does, of what was never entered.
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()


def run(procedure: Callable[[], Coroutine[Any, Any, T]], *, timeout_s: float = 30.0) -> T:
    """In an event loop of its own; a test that hangs fails."""

    async def bounded() -> T:
        async with asyncio.timeout(timeout_s):
            return await procedure()

    return asyncio.run(bounded())
