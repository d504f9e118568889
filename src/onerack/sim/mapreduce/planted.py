"""Planted bugs: masters that are wrong in one way each, to see that the simulation would notice.

The idea: that thousands of schedules pass says little by itself; perhaps nobody looked. So each rule of the core
that someone could forget is forgotten here, in a subclass or a replaced part, never by an `if` in the production
code, and a test requires that some seed of the ordinary set finds it.

The rule: one class, one bug, one sentence; nothing else differs from the production master.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onerack.mapreduce.core import Master
from onerack.mapreduce.core.endings import Endings
from onerack.mapreduce.core.jobs import Job
from onerack.mapreduce.core.orders import Orders, Word
from onerack.mapreduce.core.tasks import Phase, Task
from onerack.mapreduce.core.workers import Assignment, Worker, Workers
from onerack.mapreduce.messages import (
    AttemptFailed,
    AttemptId,
    Failure,
    FetchFailed,
    KillAttempt,
    MapSection,
    RecordAt,
    Register,
    SubmitJob,
    TaskCompleted,
)
from onerack.runtime.seam import NodeId, Tick
from onerack.sim.mapreduce.options import CONFIG

PLANTED: dict[str, Callable[[], Master]] = {}
"""Name -> a master with that bug."""


def _plant(bug: type[Master]) -> type[Master]:
    """Lists a master under its name in words: `KillFreesAtOnce` is kill_frees_at_once."""
    name = "".join("_" + letter.lower() if letter.isupper() else letter for letter in bug.__name__)
    PLANTED[name.removeprefix("_")] = lambda: bug(CONFIG)
    return bug


class _WithOrders(Master):
    """A master whose orders are of another class."""

    Wrong: type[Orders] = Orders

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        # The parts hold each other, so all are told of the replacement.
        self.orders.__class__ = self.Wrong


class _WithEndings(Master):
    """A master whose endings are of another class."""

    Wrong: type[Endings] = Endings

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.endings.__class__ = self.Wrong


class _WithJobs(Master):
    """A master whose jobs or phases are of another class."""

    WrongJob: type[Job] = Job
    WrongPhase: type[Phase] = Phase

    def on_submit_job(self, message: SubmitJob, sender: NodeId, now: float) -> None:
        super().on_submit_job(message, sender, now)
        job = self.jobs.get(message.spec.job)
        if job is not None:
            job.__class__ = self.WrongJob
            job.maps.__class__ = job.reduces.__class__ = self.WrongPhase


# -------------------------------------------------------------------------------------------- lost workers


@_plant
class CompletedMapsStayWithTheDead(_WithEndings):
    """The maps whose output went with a worker do not run again. (The fetch reports are ignored, too.)"""

    class Wrong(Endings):
        def lose_worker(self, worker: Worker, failure: Failure, now: float, *, ended: bool) -> None:
            worker.holds.clear()
            super().lose_worker(worker, failure, now, ended=ended)

    def on_fetch_failed(self, message: FetchFailed, sender: NodeId, now: float) -> None:
        self.on_attempt_failed(
            AttemptFailed(message.worker, message.attempt, Failure("lost", message.reason)), sender, now
        )


@_plant
class RunningTasksDieWithTheirWorker(_WithEndings):
    """What a lost worker ran is not run by another."""

    class Wrong(Endings):
        def lose_worker(self, worker: Worker, failure: Failure, now: float, *, ended: bool) -> None:
            worker.assignment = None
            super().lose_worker(worker, failure, now, ended=ended)


@_plant
class CompletedReducesRunAgain(_WithEndings):
    """A lost worker's completed reduces are given up like its maps."""

    class Wrong(Endings):
        def lose_worker(self, worker: Worker, failure: Failure, now: float, *, ended: bool) -> None:
            super().lose_worker(worker, failure, now, ended=ended)
            for job in self.jobs.values():
                for task in job.reduces.tasks:
                    if task.result is not None and task.holder == worker.name:
                        job.reduces.reopen(task)


@_plant
class SilenceIsPatience(Master):
    """A worker that says nothing is waited for, for ever."""

    class Wrong(Workers):
        def take_silent(self, now: float) -> list[Worker]:
            super().take_silent(now)
            return []

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.workers.__class__ = self.Wrong


@_plant
class OwnStandstillIsTheirSilence(Master):
    """After the master itself stood still, it takes all its workers for dead."""

    def on_tick(self, message: Tick, sender: NodeId, now: float) -> None:
        self._promised_wake = None
        super().on_tick(message, sender, now)


# -------------------------------------------------------------------------------------- what messages mean


@_plant
class EveryCompletionIsAccepted(_WithJobs):
    """A second completion takes the place of the first."""

    class WrongPhase(Phase):
        def accept(self, task: Task, result: TaskCompleted, worker: str, now: float) -> list[Any]:
            if task.result is not None:
                task.result = result
                return []
            if not task.may_report(result.attempt.number, worker):
                task.adrift = (*task.adrift, result.attempt.number)
            return super().accept(task, result, worker, now)

    def _take_report(self, name: str, attempt: AttemptId, kind: Any, now: float) -> Any:
        found = super()._take_report(name, attempt, kind, now)
        return found or self.endings.find(attempt)


@_plant
class LostOutputComesBack(_WithJobs):
    """A repeated completion of an attempt whose output was lost is accepted again."""

    class WrongPhase(Phase):
        def reopen(self, task: Task) -> None:
            assert task.result is not None
            number = task.result.attempt.number
            super().reopen(task)
            task.adrift = (number,)


@_plant
class LostOrdersAreNotSaidAgain(_WithOrders):
    """An order that did not arrive is waited for."""

    class Wrong(Orders):
        def say_again(self, job: Job | None, worker: Worker, now: float) -> None:
            return


@_plant
class LostReportsAreNotMissed(_WithOrders):
    """A worker that had an order, ended it, and whose report was lost, is thought to be at it."""

    class Wrong(Orders):
        def weigh(self, assignment: Assignment, running: AttemptId | None, seen: int | None, now: float) -> Word:
            word = super().weigh(assignment, running, seen, now)
            return "wait" if word == "lost" else word


@_plant
class OldHeartbeatsAreBelieved(_WithOrders):
    """A heartbeat that is older than the order is taken for the loss of the attempt."""

    class Wrong(Orders):
        def weigh(self, assignment: Assignment, running: AttemptId | None, seen: int | None, now: float) -> Word:
            word = super().weigh(assignment, running, seen, now)
            return "lost" if word in ("wait", "unseen") and not assignment.killed else word


@_plant
class OvertakenReportsAreGivenUp(_WithOrders):
    """No grace: a heartbeat that overtook the report of a completion starts the task again."""

    class Wrong(Orders):
        def weigh(self, assignment: Assignment, running: AttemptId | None, seen: int | None, now: float) -> Word:
            if running != assignment.attempt and seen is not None and seen >= assignment.order:
                return "free" if assignment.killed else "lost"
            return super().weigh(assignment, running, seen, now)


@_plant
class RepeatedRegistrationsStartAfresh(Master):
    """Each Register is taken for a new process, also one that the network repeated."""

    def on_register(self, message: Register, sender: NodeId, now: float) -> None:
        worker = self.workers.find(message.worker)
        if worker is not None:
            worker.pid = -1
        super().on_register(message, sender, now)


@_plant
class RepeatedSubmissionsStartAgain(Master):
    """A job that is submitted again after its end runs again."""

    def on_submit_job(self, message: SubmitJob, sender: NodeId, now: float) -> None:
        self.endings.ended.clear()
        super().on_submit_job(message, sender, now)


# ------------------------------------------------------------------------------------------------- the kill


@_plant
class LosersRunOn(_WithEndings):
    """Nobody tells the attempts that lost, or whose job is over."""

    class Wrong(Endings):
        def _kill(self, job: Job, name: str, attempt: AttemptId, reason: str, now: float) -> None:
            return


@_plant
class KillFreesAtOnce(_WithOrders):
    """A worker counts as free as soon as it was told to stop."""

    class Wrong(Orders):
        def kill(self, worker: Worker, reason: str, now: float) -> None:
            super().kill(worker, reason, now)
            worker.assignment = None


@_plant
class KillForgetsTheOrder(_WithOrders):
    """A kill does not say which order it takes back, so one that comes late starts the attempt after all."""

    class Wrong(Orders):
        def kill(self, worker: Worker, reason: str, now: float) -> None:
            super().kill(worker, reason, now)
            sends = self._outbox.pending.sends
            last = sends.pop()
            self._outbox.send(last.to, KillAttempt(last.message.attempt, reason))


@_plant
class HungTasksAreWaitedFor(Master):
    """No stall deadline."""

    def _watch_stall(self, worker: Worker, record: RecordAt | None, now: float) -> None:
        return


# -------------------------------------------------------------------------------------------------- phases


@_plant
class ReducesStartEarly(_WithJobs):
    """Reduces start when one map is still missing."""

    class WrongJob(Job):
        @property
        def open_phase(self) -> Phase:
            if self.maps.idle == 0 and self.maps.completed >= self.maps.size - 1:
                return self.reduces
            return self.maps

        def sections_of(self, partition: int) -> tuple[MapSection, ...]:
            results = [task.result for task in self.maps.tasks if task.result is not None]
            sections = [MapSection(result.attempt, result.sections[partition]) for result in results]
            return tuple(section for section in sections if section.section.rows)


@_plant
class SectionsInOrderOfCompletion(_WithJobs):
    """A reduce reads the maps in the order in which they completed."""

    class WrongJob(Job):
        def count(self, task: Task, result: TaskCompleted) -> None:
            super().count(task, result)
            self.__dict__.setdefault("order", []).append(result.attempt.index)

        def sections_of(self, partition: int) -> tuple[MapSection, ...]:
            order = self.__dict__.get("order", [])
            sections = super().sections_of(partition)
            return tuple(sorted(sections, key=lambda section: order.index(section.attempt.index)))


@_plant
class OldSectionsAreRemembered(_WithJobs):
    """A reduce that runs again is sent to where the maps' output lay the first time."""

    class WrongJob(Job):
        def sections_of(self, partition: int) -> tuple[MapSection, ...]:
            memory = self.__dict__.setdefault("memory", {})
            if partition not in memory:
                memory[partition] = super().sections_of(partition)
            remembered: tuple[MapSection, ...] = memory[partition]
            return remembered


@_plant
class UnreadableOutputIsTriedForEver(Master):
    """Reports that a map's output cannot be read are ignored."""

    def on_fetch_failed(self, message: FetchFailed, sender: NodeId, now: float) -> None:
        found = self._take_report(message.worker, message.attempt, "reduce", now)
        if found is not None:
            found[1].give_up(found[2], message.attempt.number, adrift=False)


@_plant
class FailedTasksAreForgotten(_WithJobs):
    """A task whose attempt ended badly does not wait in line again."""

    class WrongPhase(Phase):
        def _push_idle(self, task: Task) -> None:
            return


# ------------------------------------------------------------------------------- sums, bad records, backups


@_plant
class CountersOfEveryAttempt(_WithJobs):
    """What is counted is what attempts did, not what tasks are."""

    class WrongJob(Job):
        def count(self, task: Task, result: TaskCompleted) -> None:
            task.counted = None
            super().count(task, result)


@_plant
class LostCountersAreLost(_WithJobs):
    """A map whose output is lost counts nothing until it has run again, though reduces have read it."""

    class WrongPhase(Phase):
        def reopen(self, task: Task) -> None:
            super().reopen(task)
            task.counted = None


@_plant
class SkipListsAreForgotten(Master):
    """A bad record is found, and met again by every further attempt."""

    def _start(self, job: Job, task: Task, worker: Worker, now: float, *, backup: bool = False) -> None:
        task.skips = ()
        super()._start(job, task, worker, now, backup=backup)


@_plant
class SkipsWithoutEnd(Master):
    """The bound on bad records is not looked at."""

    def on_attempt_failed(self, message: AttemptFailed, sender: NodeId, now: float) -> None:
        job = self.jobs.get(message.attempt.job)
        if job is not None:
            job.skips_pending = job.quarantined = -100
        super().on_attempt_failed(message, sender, now)


@_plant
class TheSlowGetCompany(Master):
    """A backup starts for whatever is not done when the others are, however young it is."""

    def _schedule(self, now: float) -> None:
        super()._schedule(now)
        for job in self.jobs.values():
            for task in list(job.open_phase.working.values()):
                worker = self.workers.first_idle()
                if job.spec.backup_tasks and worker is not None and len(task.running) == 1:
                    self._start(job, task, worker, now, backup=True)


@_plant
class ResultsAreNotJournalled(_WithEndings):
    """The client is told of the end before it is durable, and it never will be."""

    class Wrong(Endings):
        def end_job(self, job: Job, *arguments: Any) -> None:
            super().end_job(job, *arguments)
            self._outbox.pending.writes.pop()
            self._outbox.pending.applied.pop()
