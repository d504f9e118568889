"""The store under simulation: `KvMachine` and `WatchHub` on simulated raft clusters, seeded faults, checked histories.

    from onerack.sim.kv import run_schedule, tell
    run_schedule(17)               one seed; raises `ScheduleFailed` when anything is wrong
    tell(17)                       the story of one seed, line by line

The idea: nodes, disks, network and faults are those of sim/raft; here are the store as the machine (machine.py), nodes
that tell watchers (node.py), clients and watchers (clients.py, watchers.py) with their wishes (wishes.py), a model that
says what should have come out (model.py), and a judge (judge.py). Bugs planted on purpose (planted/) are modelled on
those that etcd has had.
"""

from onerack.sim.failed import ScheduleFailed
from onerack.sim.kv.planted import PLANTED
from onerack.sim.kv.runs import hunt_planted, run_schedule, tell
from onerack.sim.raft.runs import Tally
from onerack.sim.raft.schedule import Report

__all__ = ["PLANTED", "Report", "ScheduleFailed", "Tally", "hunt_planted", "run_schedule", "tell"]
