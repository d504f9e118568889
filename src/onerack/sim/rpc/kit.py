"""A kit: the cores that a world is built from. The production ones; planted.py has others.

The rule: whatever no production core could know (the core of the client that died, how long nobody served) is there for
planted bugs only.
"""

from __future__ import annotations

from typing import Protocol

from onerack.rpc.core.client import ClientCore
from onerack.rpc.core.server import ServerCore
from onerack.sim.rpc.client import Life
from onerack.sim.rpc.options import Options
from onerack.sim.rpc.server import Boot
from onerack.sim.rpc.service import METHODS


class Kit(Protocol):
    def boot_server(self, boot: Boot, options: Options) -> ServerCore: ...
    def start_client(self, life: Life, options: Options, now: float) -> ClientCore: ...


class Honest:
    """The production cores."""

    def boot_server(self, boot: Boot, options: Options) -> ServerCore:
        return ServerCore(METHODS, options.config, boot.chance, durable=options.durable)

    def start_client(self, life: Life, options: Options, now: float) -> ClientCore:
        return ClientCore(options.config, life.chance, now)
