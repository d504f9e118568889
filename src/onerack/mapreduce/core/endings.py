"""Endings: every way in which an attempt, a map output, a worker or a job comes to its end.

The idea: master.py decides *that* something ended; what follows from it is written here once, whichever message
brought the news: the task's state, the sums, the journal, the kills, and whether the job is over too.

The rules: the first completion of a task wins and the losers are told to stop; a lost worker costs what it ran, and
its map outputs only if they went with it; a job that is over leaves no attempt running.

Source: section 3.3 of the paper.
"""

from __future__ import annotations

from typing import Literal

from onerack.config import MapReduceConfig
from onerack.mapreduce.core.failures import judge, mixed_kinds, note_loss, too_many_bad_records, too_many_losses
from onerack.mapreduce.core.jobs import Job
from onerack.mapreduce.core.orders import Orders
from onerack.mapreduce.core.outbox import Outbox
from onerack.mapreduce.core.status import picture
from onerack.mapreduce.core.tasks import Phase, Task
from onerack.mapreduce.core.workers import Worker, Workers
from onerack.mapreduce.messages import AttemptId, Failure, JobEnded, JobStatus, MapOutputLost, TaskCompleted

Outcome = Literal["done", "failed", "cancelled"]


class Endings:
    """The jobs, and what ends in them."""

    def __init__(self, config: MapReduceConfig, workers: Workers, orders: Orders, outbox: Outbox) -> None:
        self.jobs: dict[str, Job] = {}
        """Jobs that are not over, in order of submission."""
        self.ended: dict[str, tuple[JobEnded, JobStatus]] = {}
        """Jobs that are over; the oldest are forgotten."""
        self._config = config
        self._workers = workers
        self._orders = orders
        self._outbox = outbox

    def find(self, attempt: AttemptId) -> tuple[Job, Phase, Task] | None:
        """What an attempt belongs to; None if its job is over or unknown, or it never was."""
        job = self.jobs.get(attempt.job)
        found = job.find(attempt) if job is not None else None
        return (job, *found) if job is not None and found is not None else None

    # ------------------------------------------------------------------------------------------------ attempts

    def accept(self, job: Job, phase: Phase, task: Task, result: TaskCompleted, name: str, now: float) -> None:
        """The result is the task's. Requires: the attempt may report."""
        losers = phase.accept(task, result, name, now)
        job.count(task, result)
        job.backups_checked_until = 0.0
        self._outbox.record(result)
        self._outbox.attempt_event("task_completed", result.attempt, worker=name)
        worker = self._workers.find(name)
        if task.kind == "map":
            job.map_bytes_done += job.spec.splits[task.index].size_bytes
            if worker is not None and not job.output_outlives(result.attempt, worker.keeps_output):
                worker.holds.setdefault(job.name, []).append(task.index)
        else:
            job.reduce_bytes_done += job.shuffled_bytes[task.index]
        for loser in losers:
            self._kill(job, loser.worker, phase.attempt_id(task, loser.number), "another attempt won", now)
        mixed = mixed_kinds(job, result)
        if mixed is not None:
            self.end_job(job, "failed", now, mixed, result.attempt)
        elif job.quarantined > job.spec.skip_max:
            self.end_job(job, "failed", now, too_many_bad_records(job, result), result.attempt)
        elif job.is_done:
            self.end_job(job, "done", now)

    def fail_attempt(
        self, attempt: AttemptId, failure: Failure, name: str, now: float, *, adrift: bool = False
    ) -> None:
        """The attempt failed, which counts. Requires: its job is not over, its task not completed."""
        found = self.find(attempt)
        assert found is not None
        job, phase, task = found
        phase.give_up(task, attempt.number, adrift=adrift)
        task.failed_on = name
        job.attempts_failed += 1
        job.backups_checked_until = 0.0
        verdict = judge(job, task, failure)
        self._outbox.attempt_event("attempt_failed", attempt, worker=name, cause=failure.cause, verdict=verdict)
        if verdict == "fail":
            self.end_job(job, "failed", now, failure, attempt)

    def lose_attempt(self, attempt: AttemptId, reason: str, name: str, now: float, *, adrift: bool) -> None:
        """The attempt is lost through nobody's fault. Requires: as `fail_attempt`."""
        found = self.find(attempt)
        assert found is not None
        job, phase, task = found
        phase.give_up(task, attempt.number, adrift=adrift)
        task.tracked = True
        job.backups_checked_until = 0.0
        self._outbox.attempt_event("attempt_lost", attempt, worker=name, reason=reason)
        if note_loss(job, task):
            self.end_job(job, "failed", now, too_many_losses(task, reason), attempt)

    def _kill(self, job: Job, name: str, attempt: AttemptId, reason: str, now: float) -> None:
        worker = self._workers.find(name)
        job.attempts_killed += 1
        if worker is not None and worker.assignment is not None and worker.assignment.attempt == attempt:
            self._orders.kill(worker, reason, now)
        self._outbox.attempt_event("attempt_killed", attempt, worker=name, reason=reason)

    # ------------------------------------------------------------------------------------- outputs and workers

    def lose_output(self, job: Job, task: Task, reason: str) -> None:
        """An accepted map output is gone; the map runs again, since a reduce still lacks it."""
        assert task.result is not None
        attempt = task.result.attempt
        job.maps.reopen(task)
        job.maps_lost += 1
        job.map_bytes_done -= job.spec.splits[task.index].size_bytes
        self._outbox.record(MapOutputLost(attempt, reason))
        self._outbox.attempt_event("map_output_lost", attempt, reason=reason)

    def lose_worker(self, worker: Worker, failure: Failure, now: float, *, ended: bool) -> None:
        """The worker is gone; ended: for certain, so that it makes nothing more and what lay with it is lost."""
        self._workers.remove(worker)
        self._outbox.event("worker_lost", worker=worker.name, cause=failure.cause)
        for job in self.jobs.values():
            job.workers_lost += 1
        for name, indexes in worker.holds.items():
            for index in indexes:
                task = self.jobs[name].maps.tasks[index]
                if task.result is not None and task.holder == worker.name:
                    self.lose_output(self.jobs[name], task, f"worker {worker.name} is gone")
        assignment = worker.assignment
        if assignment is None or assignment.killed:
            return
        attempt = assignment.attempt
        adrift = not ended or self.jobs[attempt.job].output_outlives(attempt, worker.keeps_output)
        if failure.cause == "lost" or worker.doomed:
            self.lose_attempt(attempt, failure.message, worker.name, now, adrift=adrift)
        else:
            self.fail_attempt(attempt, failure, worker.name, now, adrift=adrift)

    # ---------------------------------------------------------------------------------------------------- jobs

    def end_job(
        self,
        job: Job,
        outcome: Outcome,
        now: float,
        failure: Failure | None = None,
        failed_attempt: AttemptId | None = None,
    ) -> None:
        """The job is over; whoever still runs for it is told to stop."""
        for worker in self._workers:
            worker.holds.pop(job.name, None)
            worker.loaded.discard(job.name)
            assignment = worker.assignment
            if assignment is not None and assignment.attempt.job == job.name and not assignment.killed:
                self._kill(job, worker.name, assignment.attempt, "the job is over", now)
        del self.jobs[job.name]
        ended = job.ended(outcome, failure, failed_attempt)
        self.ended[job.name] = (ended, picture(job, self._workers, now, outcome))
        while len(self.ended) > self._config.ended_jobs_max:
            del self.ended[next(iter(self.ended))]
        self._outbox.record(ended)
        self._outbox.send(job.submitter, ended)
        self._outbox.event("job_ended", job=job.name, outcome=outcome)
