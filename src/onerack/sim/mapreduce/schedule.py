"""One schedule: a master, workers, a client and a network live through what one seed has in store for them.

The idea: this file is the host of the production master (inbox, turn, drain, sends, timer) and the hand of fate
(crashes, pauses, cuts, lost disks). After every turn the invariants are checked; when the client hears that a job
ended, its output and counters are compared with the sequential run; when all is over, nothing may still run, and no
task may have run twice without a reason.

The rule: faults strike before `HEAL_S` and are mended then; every job must end before `END_S`. A run that cannot be
told from its seed alone is a bug here: nothing is drawn but from streams of the seed.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from onerack.errors import InvariantBroken
from onerack.mapreduce.core import Master
from onerack.mapreduce.invariants import Ledger, StragglersOnly, check_basic
from onerack.mapreduce.messages import (
    AttemptId,
    CancelJob,
    Dismiss,
    Failure,
    JobEnded,
    KillAttempt,
    RunMap,
    RunReduce,
    Section,
    SubmitJob,
    ToMaster,
    ToWorker,
    WorkerLost,
)
from onerack.runtime.seam import Tick
from onerack.sim.mapreduce.judge import Judge
from onerack.sim.mapreduce.options import CONFIG, draw
from onerack.sim.mapreduce.story import Story
from onerack.sim.mapreduce.worker import SimWorker
from onerack.sim.mapreduce.workload import Pair, Rows, SimJob, make_jobs
from onerack.sim.network import Network
from onerack.sim.seeds import stream
from onerack.sim.world import NS, World

HEAL_S = 15.0
END_S = 120.0
QUIET_S = 1.5
"""How long the world goes on after the last job, so that what is late comes and finds nobody to harm."""
STANDSTILL_S = 2 * CONFIG.worker_timeout_s

_CODEC = (msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(ToMaster | ToWorker | JobEnded))
_ENCODE = msgspec.msgpack.Encoder().encode

MakeMaster = Callable[[], Master]


class Report(msgspec.Struct, frozen=True):
    """What one schedule was like."""

    seed: int
    seconds: float
    """Simulated."""
    events: int
    steps: int
    """Messages that the master took."""
    faults: int
    attempts: int
    tasks: int
    trace_hash: str


class Schedule:
    """One run. The worker's `Surroundings`, too."""

    def __init__(self, seed: int, make_master: MakeMaster, story: Story | None) -> None:
        self.seed = seed
        self.options = draw(stream(seed, "options"))
        self.world = World()
        self.story = story
        self.faults = 0
        self.steps = 0
        self.jobs = {job.spec.job: job for job in make_jobs(stream(seed, "workload"), self.options)}
        self.judge = Judge(self.jobs)
        self._work = stream(seed, "work")
        self._fate = stream(seed, "fate")
        codec = _CODEC if self.options.codec else None
        self._network = Network(
            self.world, stream(seed, "network"), self.options.weather, self._deliver, self._disturbed, codec
        )
        self.master = make_master()
        self._ledger = Ledger()
        self._backups = StragglersOnly()
        self._inbox: deque[tuple[Any, str]] = deque()
        self._turn_planned = False
        self._frozen_until_ns = 0
        self._wake_at: float | None = None
        self._alarm_ns: int | None = None
        self._hash = hashlib.blake2b(digest_size=8)
        self._processes: dict[str, SimWorker] = {}
        self._latest: dict[str, SimWorker] = {}
        """The last process of each name that was ever borne, dead ones too."""
        self._births = 0
        self._outputs: dict[str, list[list[Pair]]] = {}
        self._healed = False

    # ----------------------------------------------------------------------------------------------- the run

    def run(self) -> Report:
        """Raises: InvariantBroken."""
        for number in range(self.options.workers):
            self._start_worker(f"w{number}")
        for number, name in enumerate(self.jobs):
            self.world.after(0.5 * number, self._submit, name)
            if self.options.cancel:
                self.world.after(
                    self._fate.uniform(0.0, 3.0), self._network.send, "client", "master", CancelJob(name, "")
                )
        at = 0.0
        for _ in range(self.options.faults):
            at += self._fate.expovariate(1.0 / self.options.fault_mean_s)
            self.world.after(min(at, HEAL_S - 1.0), self._strike)
        if self.options.stop_and_go:
            self.world.after(self._fate.uniform(0.0, 2.0), self._freeze)
        self.world.after(HEAL_S, self._heal)
        self._live_until_all_ended()
        self._live_until_all_quiet()
        self.judge.check_attempts()
        return Report(
            seed=self.seed,
            seconds=self.world.now,
            events=self.world.events,
            steps=self.steps,
            faults=self.faults + self._network.lost + self._network.repeated,
            attempts=self.judge.attempts,
            tasks=sum(len(job.records) + job.reducers for job in self.jobs.values()),
            trace_hash=self._hash.hexdigest(),
        )

    def _live_until_all_ended(self) -> None:
        end_ns = round(END_S * NS)
        judge, world = self.judge, self.world
        while not judge.all_ended:
            if not world.step() or world.now_ns > end_ns:
                raise InvariantBroken("every_job_ends", f"{judge.open_jobs} still run after {world.now:.1f} s")

    def _live_until_all_quiet(self) -> None:
        self._heal()
        quiet_ns = self.world.now_ns + round(QUIET_S * NS)
        end_ns = self.world.now_ns + round(STANDSTILL_S * 4 * NS)
        while self.world.now_ns < quiet_ns or any(worker.running for worker in self._processes.values()):
            self.world.step()
            if self.world.now_ns > end_ns:
                raise InvariantBroken("nothing_runs_after_the_end", "an attempt of a job that is over still runs")

    def _submit(self, name: str) -> None:
        # The client says it again until it hears the end: the answer may be lost as well as the question.
        if name in self.judge.open_jobs:
            self._network.send("client", "master", SubmitJob(self.jobs[name].spec))
            self.world.after(3.0, self._submit, name)

    # ------------------------------------------------------------------------------------- the master's host

    def _deliver(self, to: str, message: Any, sender: str) -> None:
        if self.story is not None:
            self.story.message(self.world.now, sender, to, message)
        if to == "master":
            self._inbox.append((message, sender))
            self._plan_turn(self.options.turn_s)
        elif to == "client":
            self.judge.job_ended(message)
        else:
            self._processes[to].receive(message)

    def _plan_turn(self, seconds: float) -> None:
        if not self._turn_planned:
            self._turn_planned = True
            self.world.at(max(self.world.now_ns + round(seconds * NS), self._frozen_until_ns), self._turn)

    def _turn(self) -> None:
        self._turn_planned = False
        if self.world.now_ns < self._frozen_until_ns:
            self._plan_turn(0.0)
            return
        now = self.world.now
        if self._frozen_until_ns == self.world.now_ns and self._wake_at is not None and now >= self._wake_at:
            # The process has just gone on: its alarm rings before it has read its sockets.
            self._step(Tick(), "master", now)
            self._carry_out(now)
        while self._inbox:
            message, sender = self._inbox.popleft()
            self._step(message, sender, now)
        if self._wake_at is not None and now >= self._wake_at:
            self._step(Tick(), "master", now)
        self._carry_out(now)

    def _step(self, message: Any, sender: str, now: float) -> None:
        self.steps += 1
        self._hash.update(_ENCODE((self.world.now_ns, sender, message)))
        self.master.step(message, sender, now)
        if isinstance(message, WorkerLost):
            # A host that gives names again does so once the master has taken the loss of the last who bore it.
            self.world.after(0.1, self._restart, message.worker)
        check_basic(self.master)
        self._backups.check(self.master, now)
        self._ledger.check(self.master.outbox.pending)

    def _carry_out(self, now: float) -> None:
        output = self.master.drain()
        for record in output.writes:
            self._hash.update(record)
        if self.story is not None:
            self.story.events(now, output.events)
        for event in output.events:
            if event.name == "backup_started":
                # Whether it had a reason to start is an invariant of its own.
                self.judge.backup_started(event.fields["job"], event.fields["attempt"])
        for envelope in output.sends:
            self._send(envelope.to, envelope.message)
        self._arm(output.wake_at)

    def _arm(self, wake_at: float | None) -> None:
        self._wake_at = wake_at
        if wake_at is None:
            return
        # One nanosecond later, so that rounding never lets the alarm ring before the moment that it stands for.
        at_ns = max(math.ceil(wake_at * NS) + 1, self.world.now_ns)
        if self._alarm_ns is None or at_ns < self._alarm_ns:
            self._alarm_ns = at_ns
            self.world.at(at_ns, self._ring, at_ns)

    def _ring(self, at_ns: int) -> None:
        if at_ns == self._alarm_ns:
            self._alarm_ns = None
        if self._wake_at is not None and self.world.now >= self._wake_at:
            self._plan_turn(0.0)
        else:
            self._arm(self._wake_at)

    def _send(self, to: str, message: Any) -> None:
        if to == "client":
            self._network.send("master", "client", message)
            return
        process = self._latest[to]
        if isinstance(message, RunMap | RunReduce):
            self.judge.ordered(message.attempt, to)
        if self.options.mode == "embedded" and isinstance(message, KillAttempt | Dismiss):
            self.world.after(0.005, process.die, Failure("killed", "ended by its host"))
        else:
            self._network.send("master", process.address, message)

    # --------------------------------------------------------------------------------- what workers find here

    def job(self, name: str) -> SimJob:
        return self.jobs[name]

    def draw_duration(self, attempt: AttemptId) -> float | None:
        if not self._healed and self._work.random() < self.options.hang:
            self.faults += 1
            self.judge.excuse(attempt)
            return None
        if self._work.random() < self.options.slow:
            return self._work.uniform(1.0, 6.0)
        return self._work.uniform(0.02, 0.6)

    def draws_flaky(self, attempt: AttemptId) -> bool:
        flaky = not self._healed and self._work.random() < self.options.flaky
        if flaky:
            self.faults += 1
            self.judge.excuse(attempt)
        return flaky

    def tell_master(self, worker: SimWorker, message: ToMaster) -> None:
        self._network.send(worker.address, "master", message)

    def keep(self, worker: SimWorker, path: str, sections: list[list[Pair]]) -> None:
        self._outputs[path] = sections

    def fetch(self, worker: SimWorker, attempt: AttemptId, section: Section, lost: AttemptId) -> list[Pair] | str:
        path, _, partition = section.path.rpartition("/")
        holder = self._processes[path.partition("/")[0]]
        chance = self._work.random() if not self._healed else 1.0
        reason = ""
        if path not in self._outputs:
            reason = "lost"
        elif not self.options.keeps_output and self._network.is_cut(holder.address):
            reason = "unreachable"
        elif chance < self.options.fetch_fault:
            reason = "unreadable"
        elif chance < self.options.fetch_fault + self.options.corrupt:
            reason = "corrupt"
        if not reason:
            return self._outputs[path][int(partition)]
        self.faults += 1
        self.judge.excuse(attempt)
        self.judge.excuse(lost)
        return reason

    def write_part(self, path: str, rows: Rows) -> None:
        self.judge.written(path, rows)

    # --------------------------------------------------------------------------------------- lives and deaths

    def _start_worker(self, name: str) -> None:
        self._births += 1
        worker = SimWorker(self, name, pid=self._births)
        self._processes[worker.address] = worker
        self._latest[name] = worker
        worker.begin(self._fate.uniform(0.0, CONFIG.heartbeat_interval_s))

    def died(self, worker: SimWorker, failure: Failure) -> None:
        self._disturbed(worker.address)
        if not self.options.keeps_output:
            for path in [path for path in self._outputs if path.startswith(worker.address + "/")]:
                del self._outputs[path]
        if self.options.mode == "embedded":
            self._network.send(worker.address, "master", WorkerLost(worker.name, failure))
        else:
            self.world.after(self._fate.choice([0.3, 3.0]), self._restart, worker.name)

    def _restart(self, name: str) -> None:
        if not self._latest[name].alive:
            self._start_worker(name if self.options.keeps_name else f"{name.partition('.')[0]}.{self._births}")

    def _strike(self) -> None:
        """One fault hits one worker."""
        if self._healed:
            return
        self.faults += 1
        alive = [worker for worker in self._processes.values() if worker.alive]
        busy = [worker for worker in alive if worker.running]
        draw = self._fate.random()
        if not alive:
            return
        worker = self._fate.choice(busy if busy and draw < 0.9 else alive)
        kind = self._fate.choice(["crash", "crash", "crash", "pause", "cut", "disk"])
        if self.story is not None:
            self.story.fault(self.world.now, kind, worker.address)
        if kind == "crash":
            worker.die(Failure("killed", "SIGKILL"))
        elif kind == "pause":
            self._disturbed(worker.address)
            worker.pause(self._fate.choice([0.5, 2.0, 4.0, 7.0]))
        elif kind == "cut":
            self._network.cut(worker.address, self._fate.choice([0.5, 2.0, 4.0, 7.0]))
        else:
            self._lose_disk(worker)

    def _lose_disk(self, worker: SimWorker) -> None:
        """The worker lives on, but some of its map output does not."""
        for path in sorted(self._outputs):
            if path.startswith(worker.address + "/") and self._fate.random() < 0.7:
                del self._outputs[path]

    def _freeze(self) -> None:
        """The master's own process stands still; when it goes on, its alarm rings before it reads its sockets."""
        self.faults += 1
        self._frozen_until_ns = self.world.now_ns + round(STANDSTILL_S * NS)
        if self.story is not None:
            self.story.fault(self.world.now, "standstill", "master")

    def _heal(self) -> None:
        if not self._healed:
            self._healed = True
            self._network.heal()

    def _disturbed(self, address: str) -> None:
        self.judge.disturbed(address.partition("~")[0])
