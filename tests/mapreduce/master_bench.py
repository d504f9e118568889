"""A bench to put the master on: says messages for workers and clients, and keeps what the master answers.

The idea: a test reads like a story. Each method is one message; `sent` and `events` hold what came of the last one.
"""

from __future__ import annotations

from typing import Any

import msgspec

from onerack.config import MapReduceConfig
from onerack.mapreduce.core import Master
from onerack.mapreduce.invariants import Ledger, StragglersOnly, check_basic
from onerack.mapreduce.messages import (
    AttemptFailed,
    AttemptId,
    CancelJob,
    Extent,
    Failure,
    FetchFailed,
    Fragment,
    Heartbeat,
    JobEnded,
    JobSpec,
    JobStatus,
    KillAttempt,
    MapCompleted,
    Metrics,
    Part,
    Program,
    Quarantined,
    RecordAt,
    ReduceCompleted,
    Register,
    RunMap,
    RunReduce,
    Section,
    Split,
    SubmitJob,
    TaskKind,
    WorkerLost,
)
from onerack.runtime.seam import Envelope, Output, Tick


def make_spec(maps: int = 2, reducers: int = 1, job: str = "j1", **changes: Any) -> JobSpec:
    spec = JobSpec(
        job=job,
        name="a job",
        program=Program("builtin", "wordcount"),
        splits=tuple(Split(index, (Fragment("input", index * 100, 100),)) for index in range(maps)),
        reducers=reducers,
        directory="/job",
        staging="/staging",
    )
    return msgspec.structs.replace(spec, **changes)


def attempt_id(name: str, job: str = "j1") -> AttemptId:
    """`m3.1` in words that a master understands."""
    task, _, number = name.partition(".")
    kind: TaskKind = "map" if task[0] == "m" else "reduce"
    return AttemptId(job, kind, int(task[1:]), int(number))


class Bench:
    """Checks the invariants after every message."""

    def __init__(self, config: MapReduceConfig | None = None) -> None:
        self.master = Master(config or MapReduceConfig())
        self.now = 0.0
        self.output = Output()
        self._ledger = Ledger()
        self._backups = StragglersOnly()
        self._reducers: dict[str, int] = {}

    # ------------------------------------------------------------------------------------------------ speaking

    def say(self, message: Any, sender: str = "w") -> None:
        self.master.step(message, sender, self.now)
        check_basic(self.master)
        self._backups.check(self.master, self.now)
        self._ledger.check(self.master.outbox.pending)
        self.output = self.master.drain()

    def submit(self, maps: int = 2, reducers: int = 1, job: str = "j1", **changes: Any) -> None:
        self._reducers[job] = reducers
        self.say(SubmitJob(make_spec(maps, reducers, job, **changes)), "client")

    def register(self, *workers: str, **fields: Any) -> None:
        for worker in workers:
            self.say(Register(worker, **fields), worker)

    def beat(self, worker: str, running: str | None = None, job: str = "j1", **fields: Any) -> None:
        self.say(Heartbeat(worker, attempt_id(running, job) if running else None, **fields), worker)

    def complete(self, worker: str, name: str, job: str = "j1", rows: int = 1, **fields: Any) -> None:
        attempt = attempt_id(name, job)
        if attempt.kind == "reduce":
            self.say(ReduceCompleted(worker, attempt, (Part(f"{name}@{worker}", 1, 1, 1),), **fields), worker)
            return
        reducers = self._reducers[job]
        sections = tuple(Section(f"{name}@{worker}", (Extent(0, 10, rows, 0),)) for _ in range(reducers))
        parts = () if reducers else (Part(f"{name}@{worker}", 1, 1, 1),)
        self.say(MapCompleted(worker, attempt, sections, parts, **fields), worker)

    def fail(self, worker: str, name: str, record: int | None = None, final: bool = False, job: str = "j1") -> None:
        at = None if record is None else RecordAt(record, "input", record * 10)
        failure = Failure("exception", "ValueError: no", "the user's frames", at, final)
        self.say(AttemptFailed(worker, attempt_id(name, job), failure), worker)

    def fetch_failed(self, worker: str, name: str, lost: str, corrupt: bool = False) -> None:
        self.say(FetchFailed(worker, attempt_id(name), attempt_id(lost), "gone", corrupt), worker)

    def lose(self, worker: str, cause: Any = "killed", record: int | None = None) -> None:
        at = None if record is None else RecordAt(record)
        self.say(WorkerLost(worker, Failure(cause, "signal 9", record=at)), "host")

    def cancel(self, job: str = "j1") -> None:
        self.say(CancelJob(job, "interrupted"), "client")

    def tick(self, at: float) -> None:
        self.now = at
        self.say(Tick(), "master")

    # ------------------------------------------------------------------------------------------------ listening

    def sent(self, kind: type) -> list[Envelope]:
        return [envelope for envelope in self.output.sends if isinstance(envelope.message, kind)]

    @property
    def runs(self) -> dict[str, str]:
        """Worker -> the attempt that it was just told to run."""
        return {envelope.to: str(envelope.message.attempt) for envelope in self.output.sends if _is_run(envelope)}

    @property
    def kills(self) -> dict[str, str]:
        return {envelope.to: str(envelope.message.attempt) for envelope in self.sent(KillAttempt)}

    def order(self, worker: str) -> RunMap | RunReduce:
        """The order that this worker was just given."""
        order: RunMap | RunReduce = next(e.message for e in self.output.sends if e.to == worker and _is_run(e))
        return order

    @property
    def events(self) -> list[str]:
        return [event.name for event in self.output.events]

    @property
    def ended(self) -> JobEnded:
        (envelope,) = self.sent(JobEnded)
        ended: JobEnded = envelope.message
        return ended

    def status(self, job: str = "j1") -> JobStatus:
        status = self.master.status(job, self.now)
        assert status is not None
        return status


def _is_run(envelope: Envelope) -> bool:
    return isinstance(envelope.message, RunMap | RunReduce)


def bad_record(number: int) -> Quarantined:
    return Quarantined(RecordAt(number, "input", number * 10), b"raw", "the user's frames")


def metrics(**fields: Any) -> Metrics:
    return Metrics(**fields)
