"""Planted bugs of the store, each modelled on one that etcd has had, or on a rule that someone could forget.

The idea and the rule are those of raft's planted bugs: one class, one bug, one sentence; never an `if` in the
production code.
"""

from onerack.sim.kv.planted import stores, watches
from onerack.sim.kv.planted.kits import PLANTED

__all__ = ["PLANTED", "stores", "watches"]
