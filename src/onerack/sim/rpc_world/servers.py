"""Servers: processes that serve a user's services, made anew by their factories at each start.

The idea: what a crash leaves of a service is what its log says, or nothing; so each life begins with fresh objects, a
log on the node's disk if there is to be one, and the production server over both.

The rule: what a scenario says always holds of a service is asked after each execution, and after each recovery.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from msgspec.structs import replace

from onerack import rpc
from onerack.config import KIB, RpcConfig
from onerack.rpc.interface import interface_of
from onerack.runtime.env import Disk
from onerack.sim.rpc_world.calls import Ledger
from onerack.sim.rpc_world.disk import LifeDisk
from onerack.sim.rpc_world.lives import Life
from onerack.sim.rpc_world.nodes import Ground, Node
from onerack.sim.rpc_world.watched import Watcher

Factory = Callable[[], Any]
"""Makes an implementation; may be `async def`."""
MakeLog = Callable[[Disk, RpcConfig], rpc.DurableHost]
Holds = Callable[[Any], object]


class SimServer:
    """One server process."""

    def __init__(
        self,
        ground: Ground,
        ledger: Ledger,
        name: str,
        services: Mapping[type, Factory],
        *,
        durable: bool | MakeLog,
        config: RpcConfig,
        options: Mapping[str, Any],
    ) -> None:
        self.address = f"sim://{name}"
        self.services: dict[type, Any] = {}
        """The implementations of the life that is up."""
        self.is_durable = bool(durable)
        self._ground = ground
        self._ledger = ledger
        self._factories = services
        self._durable = durable
        self._chance = ground.stream(f"{name} log")
        self._config = config
        self._options = options
        self._server: rpc.Server | None = None
        self._holds: dict[type, list[Holds]] = {protocol: [] for protocol in services}
        self.node = Node(ground, name, "server", self._boot, self._stop)

    async def _boot(self, life: Life, disk: LifeDisk) -> None:
        watched: dict[Callable[..., Any], Any] = {}
        made: dict[type, Any] = {}
        for protocol, factory in self._factories.items():
            implementation = factory()
            if inspect.isawaitable(implementation):
                implementation = await implementation
            made[protocol] = implementation
            watcher = Watcher(self._ledger, life, partial(self._check, made, protocol))
            watched[protocol] = watcher.watch(interface_of(protocol), implementation)
        log = self._make_log(disk) if self._durable else None
        options = dict(self._options)
        self._server = await rpc.serve(watched, None, self.address, durable=log, config=self._config, **options)
        self.services = made

    async def _stop(self) -> None:
        if self._server is not None:
            await self._server.close()

    def _make_log(self, disk: LifeDisk) -> rpc.DurableHost:
        if callable(self._durable):
            return self._durable(disk, self._config)
        return rpc.LocalLog(
            f"/{self.node.name}",
            config=self._config,
            disk=disk,
            in_thread=self._chance.random() < 0.5,
            draw=self._chance.randbytes,
        )

    @property
    def open_calls(self) -> int:
        return 0 if self._server is None or self.node.life is None else self._server.core.open_calls

    def always(self, protocol: type, holds: Holds) -> None:
        self._holds[protocol].append(holds)

    def _check(self, made: Mapping[type, Any], protocol: type) -> None:
        for holds in self._holds[protocol]:
            try:
                held = holds(made[protocol])
            except AssertionError as error:
                self._ground.fail(f"what always holds of {protocol.__name__} does not: {error}", error)
            else:
                if held is False:
                    name = getattr(holds, "__name__", "it")
                    self._ground.fail(f"what always holds of {protocol.__name__} does not: {name} is False")


def logs_of_many_sizes(config: RpcConfig, choice: float) -> RpcConfig:
    """Some seeds have logs that are replaced by snapshots all the time. Requires: 0 <= choice < 1."""
    sizes = (512, 4 * KIB, config.snapshot_after_bytes)
    return replace(config, snapshot_after_bytes=min(config.snapshot_after_bytes, sizes[int(choice * len(sizes))]))
