"""The kit of a cluster with the store: raft's honest kit, and the store as its machine."""

from __future__ import annotations

from onerack.sim.kv.machine import SimKvMachine
from onerack.sim.raft.kit import Kit


class KvKit(Kit):
    """The honest one."""

    machine: type[SimKvMachine] = SimKvMachine
