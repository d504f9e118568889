"""The master's pure core: jobs become tasks, tasks become attempts, one attempt of each task is accepted.

The idea: the paper's master, split by noun. tasks.py knows the states of a task, jobs.py what one job adds up to,
workers.py who lives and who is free, orders.py how a worker is told, endings.py what follows from an end,
failures.py and backups.py the two rules that need thought, totals.py the sums, status.py the picture for people,
outbox.py what leaves; master.py takes the messages and decides.

The rule: `Master.step` is the only way in, `Master.drain` the only way out, and both are deterministic.

Source: Dean & Ghemawat, OSDI 2004, sections 3.1-3.6 and 4.6-4.9.
"""

from onerack.mapreduce.core.master import Master

__all__ = ["Master"]
