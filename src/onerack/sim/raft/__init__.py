"""Raft under simulation: the production core and storage, seeded faults, and a judge who sees all nodes at once.

    from onerack.sim.raft import run_schedule, run_many, tell
    run_schedule(17)               one seed; raises `ScheduleFailed` when anything is wrong
    run_many(range(5000))          many of them, summed up
    tell(17)                       the story of one seed, line by line

The idea: each seed first draws what kind of world it lives in (options.py). Nodes (node.py, with their disk.py,
clock.py and streams.py) and clients (clients.py) live through crashes, cuts, pauses and changes of their cluster
(network.py, fate.py) in one schedule (schedule.py), under the eyes of a judge (judge.py) and, at the end, of two
checkers. What chance meets too rarely is scripted (scenarios/) or explored to the last state (explorer.py). Bugs
planted on purpose (planted/) show that all of it would see one. runs.py is the door.
"""

from onerack.sim.failed import ScheduleFailed
from onerack.sim.raft.planted import PLANTED
from onerack.sim.raft.runs import Tally, hunt_planted, run_many, run_schedule, tell
from onerack.sim.raft.schedule import Report

__all__ = ["PLANTED", "Report", "ScheduleFailed", "Tally", "hunt_planted", "run_many", "run_schedule", "tell"]
