"""Workers: who lives, what each was told to do, and who is free.

The idea: the table keeps what the master *said* (an assignment, under a number that is never used again) apart from
what the worker *says* (its heartbeats). Silence is found by a heap of deadlines that is touched only when the oldest
one comes due, not at every heartbeat; a heartbeat only notes the time.

The rule: a worker has one slot. It is free when it has no assignment, and an assignment ends only by the worker's
word or the worker's loss, never because the master would like it to: after a KillAttempt the worker is busy until
it says that it is not.

Source: section 3.3 of the paper (the master pings every worker).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

from onerack.mapreduce.messages import AttemptId, Metrics, Register, RunMap, RunReduce


class Assignment:
    """What one worker was told to run."""

    __slots__ = (
        "attempt",
        "begun_at",
        "confirmed",
        "killed",
        "message",
        "metrics",
        "missing_since",
        "moved_at",
        "order",
        "said_at",
    )

    def __init__(self, attempt: AttemptId, order: int, message: RunMap | RunReduce | None, now: float) -> None:
        self.attempt = attempt
        self.order = order
        self.message = message
        """None: the worker told us that it runs this, not we it."""
        self.begun_at = now
        self.said_at = now
        """When the order, or the kill, was last said."""
        self.moved_at = now
        """When the attempt last made progress."""
        self.confirmed = False
        """The worker has said that it runs this."""
        self.missing_since: float | None = None
        """Since when the worker, which has had the order, says that it does not run it."""
        self.killed = ""
        """Why the attempt is no longer wanted."""
        self.metrics = Metrics()


class Worker:
    """One live worker."""

    __slots__ = (
        "assignment",
        "doomed",
        "gone",
        "heard_at",
        "holds",
        "host",
        "keeps_output",
        "last_over",
        "loaded",
        "name",
        "pid",
        "waiting",
    )

    def __init__(self, word: Register, now: float) -> None:
        self.name = word.worker
        self.pid = word.pid
        self.host = word.host
        self.keeps_output = word.keeps_output
        self.heard_at = now
        self.assignment: Assignment | None = None
        self.last_over: AttemptId | None = None
        """The attempt whose end it reported last; a heartbeat that still names it was overtaken by the report."""
        self.loaded: set[str] = set()
        """Jobs that it was told to load."""
        self.holds: dict[str, list[int]] = {}
        """Job -> maps whose accepted output lies with this worker and goes when it goes."""
        self.doomed = False
        """It was told to end an attempt, for which its host may end the whole process: that is not the fault of
        whatever it was given since."""
        self.waiting = False
        """It stands in the line of idle workers."""
        self.gone = False


class Workers:
    """The table of live workers. Order is the order of registration, everywhere."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._by_name: dict[str, Worker] = {}
        self._line: deque[Worker] = deque()
        self._deadlines: list[tuple[float, int, Worker]] = []
        self._entries = 0

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._by_name.values())

    def find(self, name: str) -> Worker | None:
        return self._by_name.get(name)

    def add(self, word: Register, now: float) -> Worker:
        """Requires: no worker of that name is here."""
        assert word.worker not in self._by_name
        worker = Worker(word, now)
        self._by_name[worker.name] = worker
        self._watch(worker, now + self._timeout_s)
        return worker

    def remove(self, worker: Worker) -> None:
        del self._by_name[worker.name]
        worker.gone = True

    # ------------------------------------------------------------------------------------------ who is idle

    def stand_in_line(self, worker: Worker) -> None:
        """A worker without assignment waits for one; the longest idle is served first."""
        if worker.assignment is None and not worker.waiting and not worker.gone:
            worker.waiting = True
            self._line.append(worker)

    def first_idle(self) -> Worker | None:
        while self._line:
            worker = self._line[0]
            if worker.assignment is None and not worker.gone:
                return worker
            self._line.popleft().waiting = False
        return None

    def idle_elsewhere(self, host: str) -> Worker | None:
        """An idle worker, on another host if there is one."""
        if self.first_idle() is None:
            return None
        idle = [worker for worker in self._line if worker.assignment is None and not worker.gone]
        return next((worker for worker in idle if worker.host != host), idle[0])

    # ----------------------------------------------------------------------------------------- who is silent

    @property
    def next_deadline(self) -> float | None:
        """The earliest moment at which a worker may be found silent."""
        while self._deadlines and self._deadlines[0][2].gone:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def take_silent(self, now: float) -> list[Worker]:
        """The workers that were silent for too long, each named once."""
        silent = []
        while (deadline := self.next_deadline) is not None and deadline <= now:
            worker = heapq.heappop(self._deadlines)[2]
            due = worker.heard_at + self._timeout_s
            if due <= now:
                silent.append(worker)
            else:
                self._watch(worker, due)
        return silent

    def pardon(self, now: float, grace_s: float) -> None:
        """It was the master that did not listen: everybody gets `grace_s` more to be heard."""
        for worker in self:
            worker.heard_at = max(worker.heard_at, now - self._timeout_s + grace_s)

    def _watch(self, worker: Worker, deadline: float) -> None:
        self._entries += 1
        heapq.heappush(self._deadlines, (deadline, self._entries, worker))
