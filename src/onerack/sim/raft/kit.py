"""The kit: what a schedule builds its nodes from. The honest one takes the production core; planted ones change a part.

The rule: what a planted bug may differ in is listed here, so that everything else is surely the production code.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from onerack.config import RaftConfig
from onerack.raft.core import RaftCore
from onerack.raft.messages import Configuration, Recovered, SnapshotMark
from onerack.sim.raft.disk import ModelStorage, Storage
from onerack.sim.raft.files import FileStorage
from onerack.sim.raft.machine import Machine, Replicated
from onerack.sim.raft.options import Options

Stream = Callable[[str], random.Random]


class Boot(msgspec.Struct, frozen=True):
    """One life of a node."""

    node: str
    life: int
    recovered: Recovered
    config: RaftConfig
    now: float


class Kit:
    """The honest one."""

    sends_before_sync = False
    synced_before_sync = False
    ignores_sync_failure = False
    cuts_before_snapshot = False
    replies_when_proposed = False
    machine: type[Replicated] = Machine

    def __init__(self) -> None:
        self.chance: Stream
        """Set by the schedule."""

    def boot(self, boot: Boot) -> RaftCore:
        chance = self.chance(f"core/{boot.node}/{boot.life}")
        return RaftCore(boot.node, boot.recovered, boot.config, chance, boot.now)

    def make_storage(self, node: str, chance: random.Random, first: Configuration, options: Options) -> Storage:
        if options.files:
            return FileStorage(chance, node, first, options.config)
        return ModelStorage(chance, first)

    def append(self, storage: Storage, writes: Sequence[Any]) -> None:
        storage.append(writes)

    def mark_of(self, applied: SnapshotMark, core: RaftCore) -> SnapshotMark:
        """What a snapshot of a machine stands for to which all up to `applied` was applied."""
        return applied
