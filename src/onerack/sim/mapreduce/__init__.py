"""MapReduce under simulation: the production master, simulated workers, seeded faults, the sequential run as oracle.

    from onerack.sim.mapreduce import run_schedule, run_many, tell
    run_schedule(17)               one seed; raises `ScheduleFailed` when anything is wrong
    run_many(range(5000))          many of them, summed up
    tell(17)                       the story of one seed, line by line

The idea: each seed first draws what kind of world it lives in (options.py), then small jobs with good and bad records
(workload.py), then lets workers (worker.py) and a client run them over a network that loses and reorders, while
faults strike (schedule.py), and is judged by what came of it (judge.py). runs.py is the door. Bugs planted on
purpose (planted.py) show that the checks would see one.
"""

from onerack.sim.failed import ScheduleFailed
from onerack.sim.mapreduce.planted import PLANTED
from onerack.sim.mapreduce.runs import Tally, run_many, run_schedule, tell
from onerack.sim.mapreduce.schedule import Report

__all__ = ["PLANTED", "Report", "ScheduleFailed", "Tally", "run_many", "run_schedule", "tell"]
