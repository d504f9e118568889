"""Orders: how the master tells a worker what to run, says it again, and takes it back.

The idea: every order has a number that grows over all workers, and a worker tells the highest it has seen. From
that alone the master knows, on a channel that loses, repeats and reorders, which of three things a silent attempt
means: the order did not arrive (say it again), the attempt runs (wait), or it is over and the report of its end was
lost (after a grace, count the attempt as lost).

The rule: a word that may be older than the order it speaks of changes nothing.

Source: not in the paper, which leaves the channel to its RPC library.
"""

from __future__ import annotations

from typing import Literal

from onerack.config import MapReduceConfig
from onerack.mapreduce.core.jobs import Job
from onerack.mapreduce.core.outbox import Outbox
from onerack.mapreduce.core.tasks import Task
from onerack.mapreduce.core.workers import Assignment, Worker
from onerack.mapreduce.messages import AttemptId, Dismiss, KillAttempt, LoadJob, RunMap, RunReduce

Word = Literal["runs", "free", "lost", "unseen", "wait"]


class Orders:
    def __init__(self, config: MapReduceConfig, outbox: Outbox) -> None:
        self._config = config
        self._outbox = outbox
        self._number = 0

    def run(self, job: Job, task: Task, attempt: AttemptId, worker: Worker, now: float) -> None:
        """Requires: the worker has no assignment."""
        assert worker.assignment is None
        self._number += 1
        order = self._number
        message: RunMap | RunReduce
        if task.kind == "map":
            message = RunMap(attempt, task.tracked, task.skips, order)
        else:
            message = RunReduce(attempt, job.sections_of(task.index), task.tracked, task.skips, order)
        worker.assignment = Assignment(attempt, order, message, now)
        if job.name not in worker.loaded:
            worker.loaded.add(job.name)
            self._outbox.send(worker.name, LoadJob(job.spec))
        self._outbox.send(worker.name, message)

    def kill(self, worker: Worker, reason: str, now: float) -> None:
        """The worker's attempt is no longer wanted. The worker stays busy until it says that it is free."""
        assert worker.assignment is not None
        assignment = worker.assignment
        assignment.killed = reason
        assignment.said_at = now
        assignment.missing_since = None
        worker.doomed = True
        self._outbox.send(worker.name, KillAttempt(assignment.attempt, reason, assignment.order))

    def take_in(self, worker: Worker, attempt: AttemptId, seen: int | None, now: float) -> None:
        """The worker says that it runs something we did not tell it: from now on that is its assignment."""
        assert worker.assignment is None
        worker.assignment = Assignment(attempt, seen or 0, None, now)
        worker.assignment.confirmed = True

    def dismiss(self, name: str, reason: str) -> None:
        """Whoever bears this name is not counted on."""
        self._outbox.send(name, Dismiss(name, reason, self._number))

    def say_again(self, job: Job | None, worker: Worker, now: float) -> None:
        """The order, or the kill, seems not to have arrived."""
        assert worker.assignment is not None
        assignment = worker.assignment
        if now - assignment.said_at < self._config.order_resend_s:
            return
        if assignment.killed:
            self.kill(worker, assignment.killed, now)
        elif job is not None and assignment.message is not None:
            assignment.said_at = now
            self._outbox.send(worker.name, LoadJob(job.spec))
            self._outbox.send(worker.name, assignment.message)
            self._outbox.attempt_event("order_said_again", assignment.attempt, worker=worker.name)

    def weigh(self, assignment: Assignment, running: AttemptId | None, seen: int | None, now: float) -> Word:
        """What a worker's word means for its assignment.

        runs: it runs what it was told. free: it has ended what we told it to end. lost: it had the order, runs
        something else or nothing, and no report has come. unseen: it has not had the order yet. wait: nothing can
        be concluded.
        """
        if running == assignment.attempt:
            assignment.confirmed = True
            assignment.missing_since = None
            return "runs"
        counts = seen is not None
        if seen is not None and seen < assignment.order:
            return "unseen"
        if assignment.killed and counts:
            return "free"
        if not counts and not assignment.confirmed and not assignment.killed:
            # On an ordered channel the order cannot be lost, only still be on its way. Said again it would run twice.
            return "wait"
        if assignment.missing_since is None:
            # The report of the end may have been overtaken by this very heartbeat.
            assignment.missing_since = now
        if now - assignment.missing_since < self._config.report_grace_s:
            return "wait"
        return "free" if assignment.killed else "lost"
