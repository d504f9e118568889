"""Status: a picture of one job for people, at any moment.

The idea: everything is counted where it changes, so a picture costs O(workers), however many tasks there are.

The rule: it shows what the master believes at this moment, which may not be durable yet; no protocol reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from onerack.mapreduce.core.jobs import Job
from onerack.mapreduce.core.tasks import Phase
from onerack.mapreduce.core.totals import add_metrics
from onerack.mapreduce.core.workers import Assignment, Worker
from onerack.mapreduce.messages import JobStatus, Metrics, PhaseStatus


def picture(
    job: Job, workers: Iterable[Worker], now: float, state: Literal["running", "done", "failed", "cancelled"]
) -> JobStatus:
    """Accepted results plus what running attempts have told so far."""
    everyone = list(workers)
    running: dict[str, list[Assignment]] = {"map": [], "reduce": []}
    for worker in everyone:
        assignment = worker.assignment
        if assignment is not None and not assignment.killed and assignment.attempt.job == job.name:
            running[assignment.attempt.kind].append(assignment)
    metrics = job.totals.metrics
    for assignment in running["map"] + running["reduce"]:
        metrics = add_metrics(metrics, _so_far(assignment, now))
    return JobStatus(
        job=job.name,
        name=job.spec.name,
        state=state,
        maps=_phase(job.maps, job.map_bytes_total, job.map_bytes_done, running["map"]),
        reduces=_phase(job.reduces, sum(job.shuffled_bytes), job.reduce_bytes_done, running["reduce"]),
        metrics=metrics,
        counters=job.totals.counters,
        attempts_failed=job.attempts_failed,
        attempts_killed=job.attempts_killed,
        backups=job.backups,
        maps_lost=job.maps_lost,
        workers=len(everyone),
        workers_lost=job.workers_lost,
        quarantined=job.quarantined,
    )


def _so_far(assignment: Assignment, now: float) -> Metrics:
    """A running attempt's metrics; its time is our measure, since a worker tells it only at the end."""
    return msgspec.structs.replace(assignment.metrics, seconds=max(0.0, now - assignment.begun_at))


def _phase(phase: Phase, bytes_total: int, bytes_done: int, running: list[Assignment]) -> PhaseStatus:
    # A backup repeats what its original reads, so the sum of both could exceed the whole.
    reading = sum(assignment.metrics.bytes_in for assignment in running)
    return PhaseStatus(
        tasks=phase.size,
        idle=phase.idle,
        in_progress=phase.in_progress,
        completed=phase.completed,
        bytes_total=bytes_total,
        bytes_done=min(bytes_total, bytes_done + reading),
    )
