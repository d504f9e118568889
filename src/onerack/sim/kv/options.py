"""The worlds in which the store lives: raft's, and more often than there with replicas that get a snapshot.

The idea: what a store can do wrong by itself, one replica does as well as five; so what matters is that replicas stop,
lag, and become something else by a snapshot, while clients and watchers go on.
"""

from __future__ import annotations

import random

from msgspec.structs import replace

from onerack.sim.raft import options as raft_options
from onerack.sim.raft.options import Options


def draw(chance: random.Random) -> Options:
    options = raft_options.draw(chance)
    if options.calm or chance.random() < 0.5:
        return options
    return replace(
        options, nodes=3, witness=False, snapshot_after=chance.choice([2, 4, 8]), keep=0, operations=30,
        pause_s=chance.choice([0.0, 0.02]), faults=8, fault_mean_s=0.4, fault_s=(0.5, 1.0),
        fault_kinds=("crash", "divide", "isolate_leader"), down_s=(0.3, 0.8),
        config=replace(options.config, kept_bytes=1),
    )  # fmt: skip
