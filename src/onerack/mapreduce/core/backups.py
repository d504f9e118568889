"""Backup tasks: when a phase is nearly over, whoever still runs for an extraordinarily long time gets company.

The idea: the first of both attempts to complete wins, so a sick machine delays a job by minutes at most. Without
backup tasks the paper's sort took 44 % longer.

The rule: a task that is merely slow is not a straggler. All of these must hold: the job wants backups; at least
`backup_phase_fraction` of the phase is completed; no task is idle; the attempt is older than `backup_age_min_s` and
than `backup_median_factor` medians of the phase; it is the task's only attempt; at most `backup_slots_fraction` of
the slots (but at least one) run backups.

Source: section 3.6 of the paper; the thresholds are ours.
"""

from __future__ import annotations

import math

from onerack.mapreduce.core.jobs import Job
from onerack.mapreduce.core.tasks import Phase, Task


def find_stragglers(job: Job, now: float, slots: int) -> tuple[list[Task], float]:
    """The tasks that deserve a backup now, oldest first, and when to look again (infinity: after a change).

    Costs O(tasks in progress) where it matters; phases that are far from their end are not looked at.
    """
    phase = job.open_phase
    if not job.spec.backup_tasks or phase.idle or not near_end(phase, job):
        return [], math.inf
    age_min = straggler_age_s(phase, job)
    single: list[tuple[float, Task]] = []
    backups = 0
    for task in phase.working.values():
        backups += any(running.backup for running in task.running)
        if len(task.running) == 1:
            single.append((task.running[0].started, task))
    single.sort(key=lambda entry: (entry[0], entry[1].index))
    room = max(1, math.floor(job.spec.config.backup_slots_fraction * slots)) - backups
    if room <= 0:
        return [], math.inf
    # The same sum decides and wakes: a difference could round to the other side and wake us in vain for ever.
    due = [task for started, task in single if started + age_min <= now]
    later = [started + age_min for started, _ in single if started + age_min > now]
    return due[:room], min(later, default=math.inf)


def near_end(phase: Phase, job: Job) -> bool:
    return phase.completed > 0 and phase.completed >= job.spec.config.backup_phase_fraction * phase.size


def straggler_age_s(phase: Phase, job: Job) -> float:
    """Younger attempts are not stragglers."""
    config = job.spec.config
    if not phase.durations:
        return math.inf
    median = phase.durations[len(phase.durations) // 2]
    return max(config.backup_age_min_s, config.backup_median_factor * median)
