"""What must always be true of the master, by name; run after every simulated step.

The idea: two kinds. A *basic* property is read off the master's tables at one moment. A *delta* property is about
what the master has said so far: the ledger remembers every decision and order, knows nothing of how the master
reached them, and compares. A master that is wrong in the same way in its tables and in its words would have to be
wrong twice.

The rule: each property is one function with the name of what it promises; a broken one is reported by that name.

Source: Dean & Ghemawat, OSDI 2004, sections 3.2 (states), 3.3 (failures), 3.6 (backups), 4.9 (counters).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from onerack.errors import InvariantBroken
from onerack.mapreduce.core.jobs import Job
from onerack.mapreduce.core.master import Master
from onerack.mapreduce.core.tasks import Phase, Task
from onerack.mapreduce.messages import (
    AttemptId,
    JobEnded,
    JobSubmitted,
    LoadJob,
    MapOutputLost,
    RunMap,
    RunReduce,
    TaskCompleted,
    TaskKind,
)
from onerack.runtime.seam import Output

TaskName = tuple[str, TaskKind, int]


# ------------------------------------------------------------------------------------------------------- basic


def counts_match_states(master: Master) -> str:
    """The counts that people see are those of the tasks."""
    for job in master.jobs.values():
        for phase in (job.maps, job.reduces):
            completed = working = 0
            for task in phase.tasks:
                if task.result is not None:
                    completed += 1
                elif task.running:
                    working += 1
            if (completed, working) != (phase.completed, phase.in_progress):
                return f"{job.name} {phase.kind}: {completed} completed and {working} in progress were counted as " + (
                    f"{phase.completed} and {phase.in_progress}"
                )
    return ""


def idle_tasks_wait_in_line(master: Master) -> str:
    """No idle task is forgotten."""
    for job in master.jobs.values():
        for phase in (job.maps, job.reduces):
            for task in phase.tasks:
                if not task.queued and not task.running and task.result is None:
                    return f"{job.name} {phase.kind} {task.index} is idle and nobody will run it"
    return ""


def idle_workers_wait_in_line(master: Master) -> str:
    """No idle worker is forgotten."""
    for worker in master.workers:
        if worker.assignment is None and not worker.waiting:
            return f"{worker.name} is idle and will be given nothing"
    return ""


def one_slot_per_worker(master: Master) -> str:
    """A running attempt is the assignment of exactly one live worker, and nothing else is an unkilled assignment."""
    assigned: dict[AttemptId, str] = {}
    for worker in master.workers:
        assignment = worker.assignment
        if assignment is not None and not assignment.killed:
            if assignment.attempt in assigned:
                return f"{assignment.attempt} runs on {assigned[assignment.attempt]} and on {worker.name}"
            assigned[assignment.attempt] = worker.name
    running = 0
    for job in master.jobs.values():
        for phase in (job.maps, job.reduces):
            for task in phase.working.values():
                for attempt in task.running:
                    running += 1
                    name = phase.attempt_id(task, attempt.number)
                    if assigned.get(name) != attempt.worker:
                        return f"{job.name} {name} is said to run on {attempt.worker}"
    return "" if running == len(assigned) else f"{len(assigned)} workers run {running} attempts"


def sums_match_results(master: Master) -> str:
    """Counters and bad records are those of the counted results, whatever ran twice."""
    for job in master.jobs.values():
        # Summed here by other code than the core's, which would agree with itself.
        exact: dict[str, int] = {}
        quarantined = pending = 0
        for phase in (job.maps, job.reduces):
            for task in phase.tasks:
                pending += task.skips_pending
                if task.counted is not None:
                    quarantined += len(task.counted.quarantined)
                    for name, n in task.counted.counters.items():
                        exact[name] = exact.get(name, 0) + n
        if exact != job.totals.counters:
            return f"{job.name}: the results say {exact}, the totals {job.totals.counters}"
        if (quarantined, pending) != (job.quarantined, job.skips_pending):
            return f"{job.name}: {quarantined} bad records and {pending} skips were counted as " + (
                f"{job.quarantined} and {job.skips_pending}"
            )
    return ""


def bad_records_are_bounded(master: Master) -> str:
    """A job that runs has not set aside more records than it allows."""
    for job in master.jobs.values():
        if job.quarantined > job.spec.skip_max:
            return f"{job.name} set {job.quarantined} records aside; {job.spec.skip_max} are allowed"
    return ""


def nothing_runs_thrice(master: Master) -> str:
    """One attempt of a task runs, or two where backup tasks are wanted."""
    for job in master.jobs.values():
        for phase in (job.maps, job.reduces):
            for task in phase.working.values():
                if len(task.running) > (2 if job.spec.backup_tasks else 1):
                    return f"{job.name} {task.kind} {task.index} runs {len(task.running)} times at once"
    return ""


BASIC: tuple[Callable[[Master], str], ...] = (
    counts_match_states,
    idle_tasks_wait_in_line,
    idle_workers_wait_in_line,
    one_slot_per_worker,
    sums_match_results,
    bad_records_are_bounded,
    nothing_runs_thrice,
)


def check_basic(master: Master) -> None:
    """Raises: InvariantBroken."""
    for prop in BASIC:
        if complaint := prop(master):
            raise InvariantBroken(prop.__name__, complaint)


# ------------------------------------------------------------------------------------------------------- delta


class Ledger:
    """All that a master has said, from which each new word is judged."""

    def __init__(self) -> None:
        self._output = Output()
        self._decisions_checked = 0
        self._sends_checked = 0
        self._open: dict[str, JobSubmitted] = {}
        self._over: dict[str, JobEnded] = {}
        self._accepted: dict[TaskName, TaskCompleted] = {}
        """The result that a task has now."""
        self._counted: dict[TaskName, TaskCompleted] = {}
        """The result that it had last."""
        self._was_lost: set[AttemptId] = set()
        self._said: dict[int, AttemptId] = {}
        """Order -> attempt."""
        self._issued: dict[TaskName, int] = {}
        self._loaded: set[tuple[str, str]] = set()

    def check(self, output: Output) -> None:
        """Judges what is new in the Output: the same one as the last time, grown by a step, or the next one.

        To be called after each step: which of a decision and an order came first shows only so.
        Raises: InvariantBroken.
        """
        if output is not self._output:
            self._output = output
            self._decisions_checked = self._sends_checked = 0
        decisions, sends = output.applied[self._decisions_checked :], output.sends[self._sends_checked :]
        self._decisions_checked, self._sends_checked = len(output.applied), len(output.sends)
        for decision in decisions:
            match decision:
                case JobSubmitted():
                    self._submitted(decision)
                case TaskCompleted():
                    self._completed(decision)
                case MapOutputLost():
                    self._lost(decision)
                case JobEnded():
                    self._ended(decision)
        for envelope in sends:
            match envelope.message:
                case LoadJob(spec):
                    self._loaded.add((envelope.to, spec.job))
                case RunMap() | RunReduce() as order:
                    self._ordered(envelope.to, order)
                case JobEnded() as ended:
                    _require(self._over.get(ended.job) == ended, "what_is_told_is_journalled", ended.job)

    def _submitted(self, decision: JobSubmitted) -> None:
        job = decision.spec.job
        _require(job not in self._open and job not in self._over, "a_job_begins_once", job)
        self._open[job] = decision

    def _completed(self, result: TaskCompleted) -> None:
        attempt = result.attempt
        name = _task_of(attempt)
        _require(attempt.job in self._open, "nothing_after_the_end", f"{attempt} was accepted")
        _require(name not in self._accepted, "the_first_completion_wins", f"{attempt} was accepted as well")
        _require(attempt not in self._was_lost, "what_was_lost_stays_lost", f"{attempt} was accepted again")
        _require(attempt.number <= self._issued.get(name, 0), "only_issued_attempts", f"{attempt} was never ordered")
        self._accepted[name] = self._counted[name] = result

    def _lost(self, decision: MapOutputLost) -> None:
        attempt = decision.attempt
        _require(attempt.kind == "map", "a_completed_reduce_stays_completed", f"{attempt} was given up")
        accepted = self._accepted.pop(_task_of(attempt), None)
        _require(
            accepted is not None and accepted.attempt == attempt, "only_accepted_output_is_lost", f"{attempt} was not"
        )
        self._was_lost.add(attempt)

    def _ordered(self, worker: str, order: RunMap | RunReduce) -> None:
        attempt = order.attempt
        name = _task_of(attempt)
        _require(attempt.job in self._open, "nothing_after_the_end", f"{attempt} was ordered")
        _require((worker, attempt.job) in self._loaded, "load_before_run", f"{attempt} on {worker}")
        if self._said.get(order.order) == attempt:
            return
        _require(order.order not in self._said, "orders_are_unique", f"{order.order} means {attempt} too")
        self._said[order.order] = attempt
        _require(name not in self._accepted, "completed_tasks_do_not_run", f"{attempt} was ordered")
        _require(attempt.number == self._issued.get(name, 0) + 1, "numbers_are_never_reused", str(attempt))
        self._issued[name] = attempt.number
        if isinstance(order, RunReduce):
            self._check_sections(order)

    def _check_sections(self, order: RunReduce) -> None:
        job = order.attempt.job
        maps = range(len(self._open[job].spec.splits))
        sources = [self._accepted.get((job, "map", index)) for index in maps]
        _require(None not in sources, "reduces_start_after_all_maps", f"{order.attempt} was ordered")
        readable = [(source.attempt, source.sections[order.attempt.index]) for source in sources if source is not None]
        expected = [(attempt, section) for attempt, section in readable if section.rows]
        given = [(section.attempt, section.section) for section in order.sections]
        _require(given == expected, "a_reduce_reads_the_accepted_maps_in_order", f"{order.attempt} is given {given}")

    def _ended(self, ended: JobEnded) -> None:
        _require(ended.job in self._open, "a_job_ends_once", ended.job)
        spec = self._open.pop(ended.job).spec
        self._over[ended.job] = ended
        results = [self._counted[name] for name in sorted(self._counted) if name[0] == ended.job]
        counters: dict[str, int] = {}
        for result in results:
            for name, n in result.counters.items():
                counters[name] = counters.get(name, 0) + n
        _require(ended.counters == counters, "each_task_counts_once", f"{ended.job}: {ended.counters}")
        if ended.outcome == "done":
            kind: TaskKind = "reduce" if spec.reducers else "map"
            size = spec.reducers or len(spec.splits)
            finished = [self._accepted.get((ended.job, kind, index)) for index in range(size)]
            _require(None not in finished, "done_means_all_done", ended.job)
            parts = tuple(part for result in finished if result is not None for part in result.parts)
            _require(ended.parts == parts, "parts_are_the_accepted_ones_in_order", ended.job)


class StragglersOnly:
    """A backup that starts has a reason: its original is old, its phase nearly over, few others have one.

    Each backup is judged once, after the step in which it started: later the phase may look different.
    """

    def __init__(self) -> None:
        self._judged: set[AttemptId] = set()

    def check(self, master: Master, now: float) -> None:
        """Raises: InvariantBroken."""
        for job in master.jobs.values():
            if job.spec.backup_tasks:
                for phase in (job.maps, job.reduces):
                    for task in phase.working.values():
                        self._judge(job, phase, task, len(master.workers), now)

    def _judge(self, job: Job, phase: Phase, task: Task, slots: int, now: float) -> None:
        name = phase.attempt_id(task, task.running[-1].number)
        if not task.running[-1].backup or name in self._judged:
            return
        self._judged.add(name)
        config = job.spec.config
        age = now - min(attempt.started for attempt in task.running)
        median = sorted(phase.durations)[len(phase.durations) // 2] if phase.durations else math.inf
        # The core adds where we subtract, so the last bits may differ.
        age_min = max(config.backup_age_min_s, config.backup_median_factor * median) - 1e-6
        backups = sum(attempt.backup for other in phase.working.values() for attempt in other.running)
        for condition, complaint in (
            (age >= age_min, f"{name} backs an attempt that is {age:.3f} s old"),
            (phase.idle == 0, f"{name} started while {phase.idle} tasks were idle"),
            (
                phase.completed >= config.backup_phase_fraction * phase.size,
                f"{name} started with {phase.completed} of {phase.size} tasks completed",
            ),
            (
                backups <= max(1, config.backup_slots_fraction * slots),
                f"{name} is one of {backups} backups on {slots} workers",
            ),
        ):
            _require(condition, "stragglers_only", complaint)


def _task_of(attempt: AttemptId) -> TaskName:
    return (attempt.job, attempt.kind, attempt.index)


def _require(condition: bool, name: str, detail: str) -> None:
    if not condition:
        raise InvariantBroken(name, detail)
