"""The simulated worker: obeys orders, reads made-up records, reports, beats its heart; dies and hangs when told.

The idea: it speaks the production messages and keeps the production contract (an order counts only if its number is
new, a kill makes its order count as seen, a dismissed worker registers again), so what the master may rely on in
reality, and no more, it may rely on here.

The rule: a process that has died does nothing ever again, and one that is paused does everything later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from onerack.mapreduce.messages import (
    AttemptFailed,
    AttemptId,
    Dismiss,
    Extent,
    Failure,
    FetchFailed,
    Heartbeat,
    KillAttempt,
    LoadJob,
    MapCompleted,
    Metrics,
    Part,
    Quarantined,
    RecordAt,
    ReduceCompleted,
    Register,
    RunMap,
    RunReduce,
    Section,
    Skip,
    ToMaster,
    ToWorker,
)
from onerack.sim.mapreduce.options import CONFIG, Options
from onerack.sim.mapreduce.workload import Badness, Pair, Rows, SimJob, checksum, gather
from onerack.sim.world import NS, World


class Surroundings(Protocol):
    """What a worker process finds around it."""

    world: World
    options: Options

    def job(self, name: str) -> SimJob: ...
    def draw_duration(self, attempt: AttemptId) -> float | None:
        """Seconds of work; None: the attempt hangs."""

    def draws_flaky(self, attempt: AttemptId) -> bool: ...
    def tell_master(self, worker: SimWorker, message: ToMaster) -> None: ...
    def keep(self, worker: SimWorker, path: str, sections: list[list[Pair]]) -> None: ...
    def fetch(self, worker: SimWorker, attempt: AttemptId, section: Section, lost: AttemptId) -> list[Pair] | str:
        """The section's pairs, or why it cannot be read."""

    def write_part(self, path: str, rows: Rows) -> None: ...
    def died(self, worker: SimWorker, failure: Failure) -> None: ...


class SimWorker:
    """One worker process; on a rack the process that outlives its task's child."""

    def __init__(self, around: Surroundings, name: str, pid: int) -> None:
        self.around = around
        self.name = name
        self.pid = pid
        self.address = f"{name}~{pid}"
        """Where messages for this very process go; no later process of the same name gets them."""
        self.alive = True
        self.running: AttemptId | None = None
        self._counts = around.options.counts_orders
        self._seen = 0
        self._loaded: set[str] = set()
        self._work = 0
        """Grows whenever the worker turns to something else; what was planned before is void."""
        self._paused_until_ns = 0
        self._moves = True
        self._record: RecordAt | None = None

    def begin(self, first_heartbeat_s: float) -> None:
        self._register()
        self.around.world.after(first_heartbeat_s, self._beat)

    # ------------------------------------------------------------------------------------- what befalls it

    def pause(self, seconds: float) -> None:
        self._paused_until_ns = self.around.world.now_ns + round(seconds * NS)

    def die(self, failure: Failure) -> None:
        if self.alive:
            self.alive = False
            self.running = None
            self.around.died(self, failure)

    def _awake(self, action: Callable[..., None], *arguments: object) -> bool:
        """Whether the process can act now; if it is paused, the action is put off."""
        if not self.alive:
            return False
        if self.around.world.now_ns < self._paused_until_ns:
            self.around.world.at(self._paused_until_ns, action, *arguments)
            return False
        return True

    # --------------------------------------------------------------------------------------- what it is told

    def receive(self, message: ToWorker) -> None:
        if not self._awake(self.receive, message):
            return
        match message:
            case LoadJob(spec):
                self._loaded.add(spec.job)
            case RunMap() | RunReduce():
                self._obey(message)
            case KillAttempt(attempt, _, order):
                self._seen = max(self._seen, order)
                if self.running == attempt:
                    self._turn_to(None)
            case Dismiss(_, _, order):
                if self._counts and self._seen > order:
                    return
                self._turn_to(None)
                self._loaded.clear()
                self._register()

    def _obey(self, order: RunMap | RunReduce) -> None:
        if self._counts:
            if order.order <= self._seen or order.attempt.job not in self._loaded:
                # Old, or its LoadJob was lost: then it stays unseen and will be said again.
                return
            self._seen = order.order
        elif order.attempt.job not in self._loaded:
            raise AssertionError(f"load_before_run: {order.attempt} came before its job to {self.name}")
        self._turn_to(order.attempt)
        duration = self.around.draw_duration(order.attempt)
        if duration is None:
            self._moves = False
        elif self.around.draws_flaky(order.attempt):
            self._plan(duration / 2, self._fail, Failure("exception", "a passing fault"))
        elif isinstance(order, RunMap):
            self._plan(duration, self._map, order)
        else:
            self._plan(duration / 2, self._fetch, order, duration / 2)

    def _turn_to(self, attempt: AttemptId | None) -> None:
        self.running = attempt
        self._work += 1
        self._moves = True
        self._record = None

    def _plan(self, seconds: float, action: Callable[..., None], *arguments: object) -> None:
        self.around.world.after(seconds, self._do, self._work, action, *arguments)

    def _do(self, work: int, action: Callable[..., None], *arguments: object) -> None:
        if self._awake(self._do, work, action, *arguments) and work == self._work:
            action(*arguments)

    # ------------------------------------------------------------------------------------------ what it says

    def _register(self) -> None:
        options = self.around.options
        seen = self._seen if self._counts else None
        self._say(Register(self.name, self.pid, f"host-{self.name}", options.keeps_output, self.running, seen))

    def _beat(self) -> None:
        if not self._awake(self._beat):
            return
        self._say(
            Heartbeat(
                self.name,
                self.running,
                Metrics(records_in=1) if self.running else Metrics(),
                self._moves,
                self._seen if self._counts else None,
                self._record,
            )
        )
        self.around.world.after(CONFIG.heartbeat_interval_s, self._beat)

    def _say(self, message: ToMaster) -> None:
        self.around.tell_master(self, message)

    def _report(self, message: ToMaster) -> None:
        self._turn_to(None)
        self._say(message)

    def _fail(self, failure: Failure) -> None:
        assert self.running is not None
        self._report(AttemptFailed(self.name, self.running, failure))

    # ------------------------------------------------------------------------------------------ what it does

    def _map(self, order: RunMap) -> None:
        attempt = order.attempt
        job = self.around.job(attempt.job)
        records = job.records[attempt.index]
        quarantined = self._walk(job, order, len(records))
        if quarantined is None:
            return
        aside = {bad.record.number for bad in quarantined}
        good = [record for number, record in enumerate(records) if number not in aside]
        pairs = [pair for record in good for pair in record]
        counters = {name: n for name, n in (("records", len(good)), (f"emitted.{attempt.index}", len(pairs))) if n}
        metrics = Metrics(records_in=len(records), records_out=len(pairs))
        path = f"{self.address}/{attempt.job}/{attempt}"
        if job.reducers == 0:
            part = self._write(path, [(key, [value]) for key, value in pairs])
            self._report(MapCompleted(self.name, attempt, (), (part,), counters, metrics, quarantined))
            return
        split = [[pair for pair in pairs if pair[0] % job.reducers == partition] for partition in range(job.reducers)]
        self.around.keep(self, path, split)
        sections = tuple(
            Section(f"{path}/{partition}", (Extent(0, len(section), len(section), 0),))
            for partition, section in enumerate(split)
        )
        self._report(MapCompleted(self.name, attempt, sections, (), counters, metrics, quarantined))

    def _fetch(self, order: RunReduce, rest_s: float) -> None:
        fetched = []
        for source in order.sections:
            pairs = self.around.fetch(self, order.attempt, source.section, source.attempt)
            if isinstance(pairs, str):
                corrupt = pairs == "corrupt"
                self._report(FetchFailed(self.name, order.attempt, source.attempt, pairs, corrupt))
                return
            fetched.append(pairs)
        self._plan(rest_s, self._reduce, order, gather(fetched))

    def _reduce(self, order: RunReduce, groups: Rows) -> None:
        attempt = order.attempt
        quarantined = self._walk(self.around.job(attempt.job), order, len(groups))
        if quarantined is None:
            return
        aside = {bad.record.number for bad in quarantined}
        rows = [row for number, row in enumerate(groups) if number not in aside]
        part = self._write(f"{self.address}/{attempt.job}/{attempt}", rows)
        counters = {"groups": len(rows)} if rows else {}
        self._report(ReduceCompleted(self.name, attempt, (part,), counters, Metrics(groups=len(rows)), quarantined))

    def _write(self, path: str, rows: Rows) -> Part:
        self.around.write_part(path, rows)
        return Part(path, len(rows), len(rows), checksum(rows))

    def _walk(self, job: SimJob, order: RunMap | RunReduce, size: int) -> tuple[Quarantined, ...] | None:
        """Touches every record in order; what was set aside, or None when that was the attempt's end."""
        attempt = order.attempt
        skips = {skip.record.number: skip for skip in order.skips}
        quarantined: list[Quarantined] = []
        for number in range(size):
            badness = job.badness(attempt.kind, attempt.index, number)
            record = RecordAt(number)
            if number in skips:
                quarantined.append(_aside(skips[number]))
            elif badness == "raise" and order.tracked and len(quarantined) < job.spec.skip_max:
                quarantined.append(Quarantined(record, b"", "it raised"))
            elif badness is not None:
                self._suffer(badness, record if order.tracked else None)
                return None
        return tuple(quarantined)

    def _suffer(self, badness: Badness, record: RecordAt | None) -> None:
        if badness == "raise":
            self._fail(Failure("exception", "it raised", record=record, final=record is not None))
        elif badness == "hang":
            self._moves = False
            self._record = record
        elif self.around.options.mode == "rack":
            self._fail(Failure("exit", "its child ended", record=record))
        else:
            self.die(Failure("killed", "it ended", record=record))


def _aside(skip: Skip) -> Quarantined:
    return Quarantined(skip.record, b"", skip.traceback)
