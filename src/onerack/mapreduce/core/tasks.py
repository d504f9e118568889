"""Tasks and phases: which task is idle, which runs where, which is completed, and by which attempt.

The idea: a task's state is not stored but follows from what it holds (an accepted result, running attempts, or
neither), so it cannot disagree with them. Idle tasks wait in a heap of indexes: the lowest runs first, and taking
one costs O(log n) however many there are.

The rule: an attempt is *running* (the master counts on it), *adrift* (given up, yet its report may still come and
is then welcome), or *over* (it reported its end, was told to stop, or its accepted output was lost). What an
attempt that is over says is never believed. Numbers are never used again.

Source: section 3.2 of the paper (states), 3.3 (the first completion counts, later ones are ignored).
"""

from __future__ import annotations

import bisect
import heapq

from onerack.mapreduce.messages import AttemptId, Skip, TaskCompleted, TaskKind, TaskState


class Running:
    """One running attempt, as its task sees it."""

    __slots__ = ("backup", "number", "started", "worker")

    def __init__(self, number: int, worker: str, started: float, backup: bool) -> None:
        self.number = number
        self.worker = worker
        self.started = started
        self.backup = backup


class Task:
    """One map or reduce task."""

    __slots__ = (
        "adrift",
        "counted",
        "failed_on",
        "failures",
        "fetch_reports",
        "holder",
        "index",
        "issued",
        "kind",
        "losses",
        "queued",
        "record_failures",
        "result",
        "running",
        "skips",
        "skips_pending",
        "tracked",
    )

    def __init__(self, kind: TaskKind, index: int) -> None:
        self.kind: TaskKind = kind
        self.index = index
        self.issued = 0
        """Attempts begun so far; also the highest number used."""
        self.running: list[Running] = []
        self.adrift: tuple[int, ...] = ()
        self.result: TaskCompleted | None = None
        self.counted: TaskCompleted | None = None
        """The result that stands in the job's sums: the last one accepted, even while it is lost and made anew,
        since what has read it stays."""
        self.holder = ""
        """The worker that made `result`."""
        self.fetch_reports = 0
        """Reduce attempts that could not read `result`."""
        self.failures = 0
        """Failed attempts since the skip list last grew."""
        self.losses = 0
        """Attempts lost with their worker, and results found unreadable."""
        self.record_failures: dict[int, int] = {}
        self.skips: tuple[Skip, ...] = ()
        self.skips_pending = 0
        """How many of them the counted result does not know."""
        self.tracked = False
        """An attempt ended badly, so the next ones note where they are."""
        self.failed_on = ""
        """The worker of the last failed attempt; the next one runs elsewhere when there is a choice."""
        self.queued = True

    @property
    def state(self) -> TaskState:
        if self.result is not None:
            return "completed"
        return "in_progress" if self.running else "idle"

    def find_running(self, number: int) -> Running | None:
        for running in self.running:
            if running.number == number:
                return running
        return None

    def may_report(self, number: int, worker: str) -> bool:
        """Whether the end of attempt `number` is still news, and `worker` the one to bring it."""
        if self.result is not None:
            return False
        running = self.find_running(number)
        return running.worker == worker if running is not None else number in self.adrift


class Phase:
    """All tasks of one kind of one job. Every change of a task's state goes through here, so the counts are exact."""

    def __init__(self, job: str, kind: TaskKind, size: int) -> None:
        self.job = job
        self.kind: TaskKind = kind
        self.tasks = [Task(kind, index) for index in range(size)]
        self.completed = 0
        self.working: dict[int, Task] = {}
        """The tasks in progress, by index."""
        self.durations: list[float] = []
        """Seconds that accepted attempts took, in increasing order."""
        self._idle = list(range(size))

    @property
    def size(self) -> int:
        return len(self.tasks)

    @property
    def in_progress(self) -> int:
        return len(self.working)

    @property
    def idle(self) -> int:
        return len(self.tasks) - self.completed - len(self.working)

    @property
    def is_completed(self) -> bool:
        return self.completed == len(self.tasks)

    def attempt_id(self, task: Task, number: int) -> AttemptId:
        return AttemptId(job=self.job, kind=self.kind, index=task.index, number=number)

    def take_idle(self, worker: str) -> Task | None:
        """The idle task that `worker` should run: the first, but rather not the one that has just failed there."""
        first = self._pop_idle()
        if first is None or first.failed_on != worker:
            return first
        second = self._pop_idle()
        if second is None:
            return first
        self._push_idle(first)
        return second

    def start(self, task: Task, worker: str, now: float, *, backup: bool = False) -> int:
        """Begins an attempt and gives its number. Requires: the task is not completed."""
        assert task.result is None
        task.issued += 1
        self._run(task, Running(task.issued, worker, now, backup))
        return task.issued

    def resume(self, task: Task, number: int, worker: str, now: float) -> None:
        """Counts again on an attempt that was given up. Requires: it is adrift and its task idle."""
        assert number in task.adrift
        assert task.state == "idle"
        task.adrift = tuple(other for other in task.adrift if other != number)
        self._run(task, Running(number, worker, now, backup=False))

    def give_up(self, task: Task, number: int, *, adrift: bool) -> None:
        """Attempt `number` runs no more; adrift: its report may still come. The task is idle if no other runs."""
        task.running = [running for running in task.running if running.number != number]
        task.adrift = tuple(other for other in task.adrift if other != number) + ((number,) if adrift else ())
        if not task.running and self.working.pop(task.index, None) is not None:
            self._push_idle(task)

    def accept(self, task: Task, result: TaskCompleted, worker: str, now: float) -> list[Running]:
        """Completes the task; gives the attempts that lost. Requires: the attempt may report."""
        number = result.attempt.number
        assert task.may_report(number, worker)
        winner = task.find_running(number)
        if winner is not None:
            bisect.insort(self.durations, now - winner.started)
        losers = [running for running in task.running if running.number != number]
        self.working.pop(task.index, None)
        self.completed += 1
        task.result = result
        task.holder = worker
        task.running = []
        task.adrift = ()
        task.fetch_reports = 0
        return losers

    def reopen(self, task: Task) -> None:
        """Forgets the accepted result; the task is idle again. Requires: it is completed."""
        assert task.result is not None
        task.result = None
        task.holder = ""
        self.completed -= 1
        self._push_idle(task)

    def _run(self, task: Task, running: Running) -> None:
        task.running.append(running)
        self.working[task.index] = task

    def _push_idle(self, task: Task) -> None:
        if not task.queued:
            task.queued = True
            heapq.heappush(self._idle, task.index)

    def _pop_idle(self) -> Task | None:
        # A task leaves the heap only here: entries of tasks that a late report has completed are dropped on the way.
        while self._idle:
            task = self.tasks[heapq.heappop(self._idle)]
            task.queued = False
            if task.state == "idle":
                return task
        return None
