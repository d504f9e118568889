"""Planted bugs: nodes that are wrong in one way each, to see that the simulation would notice.

The idea: that thousands of schedules pass says little by itself; perhaps nobody looked. So each rule that someone could
forget is forgotten here, in a subclass of one part of the production core, of the storage, or in the host; never by an
`if` in the production code. A test requires that a seed, a scenario or the explorer finds it.

The rule: one class, one bug, one sentence; nothing else differs from the honest kit.
"""

from onerack.sim.raft.planted import elections, hosts, logs, reads
from onerack.sim.raft.planted.kits import PLANTED

__all__ = ["PLANTED", "elections", "hosts", "logs", "reads"]
