"""Planted bugs: cores that are wrong in one way each, to see that the simulation would notice.

The idea: that thousands of schedules pass says little by itself; perhaps nobody looked. So each rule of the cores that
someone could forget is forgotten here, in a subclass or a replaced part, never by an `if` in the production code, and a
test requires that some seed of the ordinary set finds it.

The rule: one class, one bug, one sentence; nothing else differs from the production cores.
"""

from onerack.sim.rpc.planted import clients, logs, sessions
from onerack.sim.rpc.planted.kits import PLANTED

__all__ = ["PLANTED", "clients", "logs", "sessions"]
