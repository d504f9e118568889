"""RPC under simulation: production client and server cores, seeded faults, and a judge who counts every execution.

    from onerack.sim.rpc import run_schedule, run_many, tell
    run_schedule(17)               one seed; raises `ScheduleFailed` when anything is wrong
    run_many(range(5000))          many of them, summed up
    tell(17)                       the story of one seed, line by line

The idea: each seed first draws what kind of world it lives in (options.py), then calls of all kinds (workload.py) of a
small service (service.py); clients (client.py) and servers (server.py with its log.py, both a node.py) live through
crashes, cuts and lost messages (links.py) at the hand of fate (schedule.py), and every outcome is weighed against what
happened (judge.py). runs.py is the door. Bugs planted on purpose (planted/) show that the checks would see one.
"""

from onerack.sim.failed import ScheduleFailed
from onerack.sim.rpc.planted import PLANTED
from onerack.sim.rpc.runs import Tally, run_many, run_schedule, tell
from onerack.sim.rpc.schedule import Report

__all__ = ["PLANTED", "Report", "ScheduleFailed", "Tally", "run_many", "run_schedule", "tell"]
