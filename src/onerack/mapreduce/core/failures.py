"""Failures: what follows from an attempt that ended badly.

The idea: one function judges. A failure that no further attempt can help ends the job at once. A record on which a
task failed `record_failures_max` times is a bad record: it goes on the task's skip list if the job allows that, and
otherwise it is what the job fails with. Any other failure is tried again, `attempts_max` times in all, counted from
the last growth of the skip list, since each bad record costs attempts of its own.

The rule: losing a worker to silence, or to a SIGKILL that may have come from anywhere, is not the task's failure
(unless it is the same record's each time); but a task that loses its worker `losses_max` times is not innocent, so
every job ends.

Source: section 3.4 (bad records) and 4.6 of the paper.
"""

from __future__ import annotations

from typing import Literal

from onerack.mapreduce.core.jobs import Job
from onerack.mapreduce.core.tasks import Task
from onerack.mapreduce.messages import Failure, Skip, TaskCompleted

Verdict = Literal["retry", "skip", "fail"]


def judge(job: Job, task: Task, failure: Failure) -> Verdict:
    """Notes one failed attempt of a task that is not completed, and says what to do."""
    task.tracked = True
    if failure.final:
        return "fail"
    record = failure.record
    if record is not None:
        times = task.record_failures.get(record.number, 0) + 1
        task.record_failures[record.number] = times
        if times >= job.spec.config.record_failures_max:
            if job.quarantined + job.skips_pending >= job.spec.skip_max:
                return "fail"
            del task.record_failures[record.number]
            task.skips += (Skip(record, failure.traceback or failure.message),)
            task.failures = 0
            task.skips_pending += 1
            job.skips_pending += 1
            return "skip"
    if failure.cause == "killed":
        return "fail" if note_loss(job, task) else "retry"
    task.failures += 1
    return "fail" if task.failures >= job.spec.config.attempts_max else "retry"


def note_loss(job: Job, task: Task) -> bool:
    """Notes that the task lost its worker or its output; True when that was once too often."""
    task.losses += 1
    return task.losses >= job.spec.config.losses_max


def too_many_losses(task: Task, last: str) -> Failure:
    return Failure(
        cause="lost",
        message=f"{task.kind} task {task.index} was lost {task.losses} times; the last time: {last}",
        final=True,
    )


def too_many_bad_records(job: Job, result: TaskCompleted) -> Failure:
    """Requires: the result quarantined at least one record."""
    last = result.quarantined[-1]
    allowed = job.spec.skip_max
    return Failure(
        cause="exception",
        message=f"{job.quarantined} bad records were found; on_error allows {allowed}",
        traceback=last.traceback,
        record=last.record,
        final=True,
    )


def mixed_kinds(job: Job, result: TaskCompleted) -> Failure | None:
    """What is wrong when a map's keys, or sort keys, are of another kind than those of the maps before it.

    Each map checks its own, and a reduce all that it meets; but keys that differ may lie in different partitions.
    """
    first = job.first_keyed
    if first is None:
        job.first_keyed = result if result.kinds.keys else None
        return None
    named = (
        ("keys", first.kinds.keys, result.kinds.keys),
        ("sort keys", first.kinds.sort_keys, result.kinds.sort_keys),
    )
    for noun, before, found in named:
        if before and found and before != found:
            message = (
                f"{noun} of two kinds in one job: {before} (map task {first.attempt.task}) and {found} (map task "
                f"{result.attempt.task}); Python would merge 1, 1.0 and True, so they must all be of one kind (convert "
                "them in map)"
            )
            return Failure(cause="exception", message=message, final=True)
    return None
