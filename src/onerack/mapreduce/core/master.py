"""The master: takes every message, decides, and says what must happen outside.

The idea: one method per message, in the order of the protocol; each looks up what the message speaks of, changes
the tables, and leaves the question who runs next to `_schedule`, which runs once at the end of every step and costs
next to nothing while no worker is idle or no task is.

The rules:
- The first completion of a task is accepted, all others are ignored; of a reduce it is final.
- What a message says about a job, task, attempt or worker that is not known, or about an attempt that is over, is
  ignored with an event. No message that the codec lets through raises.
- A decision is journalled in the same Output in which its consequences leave.

Source: Dean & Ghemawat, OSDI 2004, sections 3.1-3.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from onerack.config import MapReduceConfig
from onerack.mapreduce.core.backups import find_stragglers
from onerack.mapreduce.core.endings import Endings
from onerack.mapreduce.core.failures import note_loss, too_many_losses
from onerack.mapreduce.core.jobs import Job, spec_fault
from onerack.mapreduce.core.orders import Orders
from onerack.mapreduce.core.outbox import Outbox
from onerack.mapreduce.core.status import picture
from onerack.mapreduce.core.tasks import Phase, Task
from onerack.mapreduce.core.workers import Worker, Workers
from onerack.mapreduce.messages import (
    AttemptFailed,
    AttemptId,
    CancelJob,
    Failure,
    FetchFailed,
    Heartbeat,
    JobStatus,
    JobSubmitted,
    KeyKinds,
    MapCompleted,
    RecordAt,
    ReduceCompleted,
    Register,
    Section,
    SubmitJob,
    TaskCompleted,
    TaskKind,
    WorkerLost,
)
from onerack.runtime.seam import NodeId, Output, Tick

FETCH_REPORTS_MAX = 2
"""So many reduce attempts that could not read a map's output prove that it is lost; one might be ill itself."""


class Master:
    """The pure core. One instance serves many workers and many jobs, in order of submission."""

    def __init__(self, config: MapReduceConfig) -> None:
        self.config = config
        self.outbox = Outbox()
        self.workers = Workers(config.worker_timeout_s)
        self.orders = Orders(config, self.outbox)
        self.endings = Endings(config, self.workers, self.orders, self.outbox)
        self.jobs = self.endings.jobs
        self._promised_wake: float | None = None
        self._handlers: dict[type, Callable[[Any, NodeId, float], None]] = {
            SubmitJob: self.on_submit_job,
            Register: self.on_register,
            Heartbeat: self.on_heartbeat,
            MapCompleted: self.on_map_completed,
            ReduceCompleted: self.on_reduce_completed,
            AttemptFailed: self.on_attempt_failed,
            FetchFailed: self.on_fetch_failed,
            WorkerLost: self.on_worker_lost,
            CancelJob: self.on_cancel_job,
            Tick: self.on_tick,
        }

    # ---------------------------------------------------------------------------------------------- the seam

    def step(self, message: Any, sender: NodeId, now: float) -> None:
        self._handlers[type(message)](message, sender, now)
        self._schedule(now)

    def drain(self) -> Output:
        self._promised_wake = self._next_wake()
        return self.outbox.take(self._promised_wake)

    def status(self, job: str, now: float) -> JobStatus | None:
        """A picture for people; None for a job that nobody submitted, or that was forgotten."""
        if job in self.jobs:
            return picture(self.jobs[job], self.workers, now, "running")
        return self.endings.ended[job][1] if job in self.endings.ended else None

    # -------------------------------------------------------------------------------------------- the client

    def on_submit_job(self, message: SubmitJob, sender: NodeId, now: float) -> None:
        spec = message.spec
        if spec.job in self.endings.ended:
            self.outbox.send(sender, self.endings.ended[spec.job][0])
            return
        if spec.job in self.jobs:
            # The client has come back; from now on it is told there.
            self.jobs[spec.job].submitter = sender
            self.outbox.event("job_known_already", job=spec.job)
            return
        job = self.jobs[spec.job] = Job(spec, sender)
        self.outbox.record(JobSubmitted(spec))
        self.outbox.event("job_submitted", job=spec.job, maps=job.maps.size, reduces=job.reduces.size)
        fault = spec_fault(spec)
        if fault:
            self.endings.end_job(job, "failed", now, Failure(cause="program", message=fault, final=True))
        elif job.is_done:
            self.endings.end_job(job, "done", now)

    def on_cancel_job(self, message: CancelJob, sender: NodeId, now: float) -> None:
        job = self.jobs.get(message.job)
        if job is None:
            self.outbox.event("cancel_ignored", job=message.job)
            return
        self.endings.end_job(job, "cancelled", now, Failure(cause="killed", message=message.reason, final=True))

    # ------------------------------------------------------------------------------------------- the workers

    def on_register(self, message: Register, sender: NodeId, now: float) -> None:
        worker = self.workers.find(message.worker)
        if worker is not None and worker.pid != message.pid:
            replaced = Failure(cause="lost", message="another process took its name")
            self.endings.lose_worker(worker, replaced, now, ended=True)
            worker = None
        if worker is None:
            worker = self.workers.add(message, now)
            self.outbox.event("worker_registered", worker=worker.name)
        worker.loaded.clear()
        worker.doomed = False
        worker.heard_at = now
        # On an ordered channel nothing sent over the old connection arrives after this: its word is certain.
        self._hear(worker, message.running, message.seen, now, certain=message.seen is None)

    def on_heartbeat(self, message: Heartbeat, sender: NodeId, now: float) -> None:
        worker = self.workers.find(message.worker)
        if worker is None:
            self.orders.dismiss(message.worker, "it is not registered here")
            return
        worker.heard_at = now
        self._hear(worker, message.running, message.seen, now)
        assignment = worker.assignment
        if assignment is None or message.running != assignment.attempt:
            return
        assignment.metrics = message.metrics
        if message.moved:
            assignment.moved_at = now
        elif not assignment.killed:
            self._watch_stall(worker, message.record, now)

    def on_map_completed(self, message: MapCompleted, sender: NodeId, now: float) -> None:
        self._on_completed(message, "map", message.sections, message.kinds, now)

    def on_reduce_completed(self, message: ReduceCompleted, sender: NodeId, now: float) -> None:
        self._on_completed(message, "reduce", (), KeyKinds(), now)

    def on_attempt_failed(self, message: AttemptFailed, sender: NodeId, now: float) -> None:
        if self._take_report(message.worker, message.attempt, message.attempt.kind, now) is not None:
            self.endings.fail_attempt(message.attempt, message.failure, message.worker, now)

    def on_fetch_failed(self, message: FetchFailed, sender: NodeId, now: float) -> None:
        found = self._take_report(message.worker, message.attempt, "reduce", now)
        if found is None:
            return
        job, phase, task = found
        phase.give_up(task, message.attempt.number, adrift=False)
        self.outbox.attempt_event("fetch_failed", message.attempt, lost=str(message.lost))
        source = job.find(message.lost) if message.lost.kind == "map" else None
        if source is None or source[1].result is None or source[1].result.attempt != message.lost:
            # It was made anew, or is being made: the reduce will be given the new one.
            return
        lost = source[1]
        lost.fetch_reports += 1
        gone = self.workers.find(lost.holder) is None
        if message.corrupt or gone or lost.fetch_reports >= FETCH_REPORTS_MAX:
            self.endings.lose_output(job, lost, message.reason)
            if note_loss(job, lost):
                self.endings.end_job(job, "failed", now, too_many_losses(lost, message.reason), message.lost)

    def on_worker_lost(self, message: WorkerLost, sender: NodeId, now: float) -> None:
        worker = self.workers.find(message.worker)
        if worker is None:
            self.outbox.event("worker_lost_ignored", worker=message.worker)
            return
        self.endings.lose_worker(worker, message.failure, now, ended=True)

    # ---------------------------------------------------------------------------------------------- the timer

    def on_tick(self, message: Tick, sender: NodeId, now: float) -> None:
        if self._promised_wake is not None and now - self._promised_wake > 2 * self.config.heartbeat_interval_s:
            # We come late to our own appointment: this process stood still, and what looks like silence may be ours.
            self.workers.pardon(now, 4 * self.config.heartbeat_interval_s)
        for worker in self.workers.take_silent(now):
            reason = f"no sign of life for {self.config.worker_timeout_s:g} s"
            self.orders.dismiss(worker.name, reason)
            self.endings.lose_worker(worker, Failure(cause="lost", message=reason), now, ended=False)

    def _next_wake(self) -> float | None:
        moments = []
        if self.workers.next_deadline is not None:
            moments.append(self.workers.next_deadline)
        if self.workers.first_idle() is not None:
            # Without an idle worker a straggler could not be helped; the next one that is idle looks for itself.
            moments += [job.backups_checked_until for job in self.jobs.values()]
        return min((moment for moment in moments if moment < math.inf), default=None)

    # ------------------------------------------------------------------------------ what a worker's word means

    def _hear(
        self, worker: Worker, running: AttemptId | None, seen: int | None, now: float, *, certain: bool = False
    ) -> None:
        """Compares what the worker says it runs with what it was told to run."""
        if worker.assignment is not None:
            self._weigh(worker, running, seen, now, certain)
        if worker.assignment is None:
            if running is not None and running != worker.last_over:
                self._take_in(worker, running, seen, now)
            self.workers.stand_in_line(worker)

    def _weigh(self, worker: Worker, running: AttemptId | None, seen: int | None, now: float, certain: bool) -> None:
        assignment = worker.assignment
        assert assignment is not None
        word = self.orders.weigh(assignment, running, seen, now)
        if certain and word == "wait":
            word = "free" if assignment.killed else "lost"
        if word == "unseen" or (word == "runs" and assignment.killed):
            self.orders.say_again(self.jobs.get(assignment.attempt.job), worker, now)
        elif word in ("free", "lost"):
            worker.assignment = None
            if word == "lost":
                reason = "its worker does not run it and has not said how it ended"
                self.endings.lose_attempt(assignment.attempt, reason, worker.name, now, adrift=True)

    def _take_in(self, worker: Worker, running: AttemptId, seen: int | None, now: float) -> None:
        """A worker runs what we did not tell it, or have given up: go on with it if it is of use, else end it."""
        self.orders.take_in(worker, running, seen, now)
        found = self.endings.find(running)
        if found is not None and running.number in found[2].adrift and found[2].state == "idle":
            found[1].resume(found[2], running.number, worker.name, now)
            self.outbox.attempt_event("attempt_resumed", running, worker=worker.name)
        else:
            self.orders.kill(worker, "it is not wanted any more", now)

    def _watch_stall(self, worker: Worker, record: RecordAt | None, now: float) -> None:
        assignment = worker.assignment
        assert assignment is not None
        limit = self.jobs[assignment.attempt.job].spec.config.task_stall_timeout_s
        if now - assignment.moved_at >= limit:
            message = f"neither read a record nor wrote a byte for {limit:g} s"
            self.orders.kill(worker, message, now)
            stall = Failure(cause="stall", message=message, record=record)
            self.endings.fail_attempt(assignment.attempt, stall, worker.name, now)

    # ------------------------------------------------------------------------------------ how reports are taken

    def _take_report(self, name: str, attempt: AttemptId, kind: TaskKind, now: float) -> tuple[Job, Phase, Task] | None:
        """An attempt's end was reported: its worker is free. Gives what it belongs to, unless that is old news."""
        worker = self.workers.find(name)
        if worker is not None and attempt.kind == kind:
            worker.heard_at = now
            assignment = worker.assignment
            # A worker that was told to end the attempt may yet be ended itself: it is busy until it says otherwise.
            if assignment is not None and assignment.attempt == attempt and not assignment.killed:
                worker.last_over = attempt
                worker.assignment = None
                self.workers.stand_in_line(worker)
        found = self.endings.find(attempt)
        if found is None or attempt.kind != kind or not found[2].may_report(attempt.number, name):
            self.outbox.attempt_event("report_ignored", attempt, worker=name)
            return None
        return found

    def _on_completed(
        self,
        message: MapCompleted | ReduceCompleted,
        kind: TaskKind,
        sections: tuple[Section, ...],
        kinds: KeyKinds,
        now: float,
    ) -> None:
        found = self._take_report(message.worker, message.attempt, kind, now)
        if found is None:
            return
        job, phase, task = found
        expected = job.spec.reducers if kind == "map" else 0
        if len(sections) != expected:
            text = f"worker {message.worker} reported {len(sections)} sections; expected {expected}"
            self.endings.fail_attempt(message.attempt, Failure(cause="program", message=text), message.worker, now)
            return
        result = TaskCompleted(
            attempt=message.attempt,
            sections=sections,
            parts=message.parts,
            counters=message.counters,
            metrics=message.metrics,
            quarantined=message.quarantined,
            kinds=kinds,
        )
        self.endings.accept(job, phase, task, result, message.worker, now)

    # ------------------------------------------------------------------------------------------- who runs next

    def _schedule(self, now: float) -> None:
        """Gives idle tasks to idle workers, jobs in order of submission; then backups, if any task deserves one."""
        for job in self.jobs.values():
            while (worker := self.workers.first_idle()) is not None:
                task = job.open_phase.take_idle(worker.name)
                if task is None:
                    break
                self._start(job, task, worker, now)
        for job in self.jobs.values():
            if now >= job.backups_checked_until and self.workers.first_idle() is not None:
                self._start_backups(job, now)

    def _start(self, job: Job, task: Task, worker: Worker, now: float, *, backup: bool = False) -> None:
        phase = job.open_phase
        attempt = phase.attempt_id(task, phase.start(task, worker.name, now, backup=backup))
        job.backups_checked_until = 0.0
        self.orders.run(job, task, attempt, worker, now)
        self.outbox.attempt_event("backup_started" if backup else "task_assigned", attempt, worker=worker.name)

    def _start_backups(self, job: Job, now: float) -> None:
        stragglers, look_again_at = find_stragglers(job, now, len(self.workers))
        for task in stragglers:
            sick = self.workers.find(task.running[0].worker)
            worker = self.workers.idle_elsewhere(sick.host if sick is not None else "")
            if worker is None:
                look_again_at = 0.0
                break
            job.backups += 1
            self._start(job, task, worker, now, backup=True)
        job.backups_checked_until = look_again_at
