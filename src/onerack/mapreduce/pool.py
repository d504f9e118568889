"""The pool: the parent's side of its worker processes.

The idea: a worker is a name, a process id and what was last heard from it; what is said to and fro passes the front
desk (front_desk.py). The pool starts the nursery, has workers forked, hands their messages on, and turns every end of a
process into one `WorkerLost` that says how it came. It watches three things that no message can tell: silence, memory,
and the nursery itself.

The rules:
- each process gets a new worker id, so that nothing said by a dead worker is ever taken for its successor's word;
- a worker that ends is replaced at once, while the pool is wanted;
- a worker that is silent because its user code sits in one long C call (which holds the interpreter's lock, so that
  its speaker cannot run) is not dead while it uses processor time: the pool says the heartbeat for it, as one that has
  not moved, and the stall deadline decides. One that uses none (stopped, lost) is killed after `worker_timeout_s`.

Everything here belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from onerack.config import MapReduceConfig
from onerack.errors import NotExecuted, OnerackError
from onerack.mapreduce.front_desk import FrontDesk
from onerack.mapreduce.messages import (
    AttemptId,
    Failure,
    FromWorker,
    Heartbeat,
    RecordAt,
    Register,
    RunMap,
    RunReduce,
    ToMaster,
    ToWorker,
    WorkerLost,
)
from onerack.mapreduce.nursery_process import NurseryProcess
from onerack.mapreduce.worker import death, limits
from onerack.mapreduce.worker.orders import EXIT_ORPHAN, Compile, Exited, Fork, Forked, Kill
from onerack.mapreduce.worker.probe import read_position

_NURSERIES_MAX = 5
"""A nursery that is killed is started again, so many times in the life of a pool."""
_STILLBORN_MAX = 5
"""So many workers in a row that end before they have registered: something is wrong with all of them."""
_ENDING_S = 1.0
"""How long a process may take to end after its connection has."""


class Worker:
    """One worker process: what is known of it."""

    def __init__(self, name: str, position_path: str, now: float) -> None:
        self.name = name
        self.position_path = position_path
        self.pid = 0
        self.registered: Register | None = None
        self.running: AttemptId | None = None
        self.tracked = False
        self.verdict: Failure | None = None
        """Why the pool has had it killed; it is as good as dead then."""
        self.out_of_reach: Failure | None = None
        """Why its connection has ended, once it has."""
        self.heard_at = now
        self.ticks = 0


class Pool:
    """All workers of one run. `deliver(message, worker)` gets their messages; `broken(error)` the pool's own end."""

    def __init__(
        self,
        nursery: NurseryProcess,
        *,
        directory: Path,
        config: MapReduceConfig,
        deliver: Callable[[ToMaster, str], None],
        broken: Callable[[OnerackError], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._directory = directory
        self._config = config
        self._deliver = deliver
        self._broken = broken
        self._workers: dict[str, Worker] = {}
        self._wanted = 0
        self._born = 0
        self._stillborn = 0
        self._nurseries = 0
        self._compiled = False
        self._memory_limit_bytes = config.memory_bytes
        self._baseline_bytes = 0
        self._kernel_kills = death.kernel_kills()
        self._desk = FrontDesk(self._heard, self._disconnected)
        self._quiet = asyncio.Event()
        self._adopt(nursery)
        self._watching = self._loop.create_task(self._watch())

    def now(self) -> float:
        return self._loop.time()

    # ------------------------------------------------------------------------------------------ what the owner asks

    def want(self, count: int) -> None:
        """From now on `count` workers are kept alive; those that are there already stay."""
        self._wanted = max(self._wanted, count)
        self._replenish()

    def compile(self) -> None:
        """Workers forked from now on have the compiled kernels loaded, where there is a compiler."""
        if not self._compiled:
            self._compiled = True
            self._order(Compile())

    def limit(self, memory_bytes: int) -> None:
        """What a worker may hold before the watch ends it."""
        self._memory_limit_bytes = memory_bytes

    def registered(self) -> list[Register]:
        """The idle workers' introductions, for a master that has not met them."""
        return [w.registered for w in self._workers.values() if w.registered is not None and w.verdict is None]

    def send(self, name: str, message: ToWorker) -> None:
        """To a worker; a message to one that is gone is lost, as its sender must expect of any message."""
        worker = self._workers.get(name)
        if worker is None or worker.verdict is not None:
            return
        if isinstance(message, RunMap | RunReduce):
            worker.running = message.attempt
            worker.tracked = message.tracked
        self._desk.order(name, message)

    def kill(self, name: str, verdict: Failure) -> None:
        """Ends a worker's process group; `WorkerLost` with `verdict` follows when it has ended."""
        worker = self._workers.get(name)
        if worker is None or worker.verdict is not None:
            return
        worker.verdict = verdict
        self._order(Kill(name))

    def kill_attempt(self, name: str, attempt: AttemptId, reason: str) -> None:
        """Ends the worker if it is (still) running `attempt`; one that has reported it already may live."""
        worker = self._workers.get(name)
        if worker is not None and worker.running == attempt:
            self.kill(name, Failure("killed", reason))

    async def settle(self) -> None:
        """Ends what still runs, and returns when nobody is left who could still write for a task."""
        for worker in list(self._workers.values()):
            if worker.running is not None:
                self.kill(worker.name, Failure("killed", "the job is over"))
        while any(worker.verdict is not None for worker in self._workers.values()):
            self._quiet.clear()
            await self._quiet.wait()

    async def stop(self, grace_s: float) -> None:
        """Ends all workers and the nursery; blocks until they have ended."""
        self._watching.cancel()
        self._wanted = 0
        if self._nursery.channel.connection.fileno() >= 0:
            self._loop.remove_reader(self._nursery.channel.connection)
        for name in self._workers:
            self._desk.show_out(name)
        self._nursery.stop(grace_s, self._processes())
        self._workers.clear()
        await self._desk.close()

    def _processes(self) -> list[int]:
        return [worker.pid for worker in self._workers.values() if worker.pid]

    # ------------------------------------------------------------------------------------------ workers

    def _heard(self, name: str, message: FromWorker) -> None:
        worker = self._workers[name]
        worker.heard_at = self.now()
        if isinstance(message, Register):
            worker.registered = message
            self._stillborn = 0
        elif not isinstance(message, Heartbeat):
            worker.running = None
        if worker.verdict is None:
            self._deliver(message, worker.name)

    def _disconnected(self, name: str, reason: str) -> None:
        """The process is ending, and the nursery will tell how; or it lives on unheard, and is of no use."""
        words = f"the worker is out of reach: {reason}; does user code close or use descriptors that are not its own?"
        verdict = self._workers[name].out_of_reach = Failure("lost", words)
        self._loop.call_later(_ENDING_S, self.kill, name, verdict)

    def _replenish(self) -> None:
        alive = sum(worker.verdict is None for worker in self._workers.values())
        for _ in range(self._wanted - alive):
            self._fork()

    def _fork(self) -> None:
        self._born += 1
        name = f"w{self._born}"
        ours, theirs = socket.socketpair()
        worker = self._workers[name] = Worker(name, str(self._directory / f"{name}.position"), self.now())
        self._desk.seat(name, ours)
        fork = Fork(name, worker.position_path, self._config.heartbeat_interval_s)
        with theirs:
            self._order(fork, theirs.fileno())

    def _ended(self, worker: Worker, failure: Failure) -> None:
        """The one place where a worker leaves the pool."""
        del self._workers[worker.name]
        self._desk.show_out(worker.name)
        if failure.record is None:
            failure = msgspec.structs.replace(failure, record=self._record_of(worker))
        Path(worker.position_path).unlink(missing_ok=True)
        self._deliver(WorkerLost(worker.name, failure), worker.name)
        self._quiet.set()
        if worker.registered is None:  # Whether it ended by itself or was killed for its silence.
            self._stillborn += 1
            if self._stillborn >= _STILLBORN_MAX:
                words = self._nursery.last_words() or failure.message
                self._break(f"workers end before they have started: {words}")
                return
        self._replenish()

    def _record_of(self, worker: Worker) -> RecordAt | None:
        """The record that the worker's task has, or had, in hand, if it notes them."""
        if worker.tracked and worker.running is not None:
            return read_position(worker.position_path, worker.running)
        return None

    # ------------------------------------------------------------------------------------------ the nursery

    def _adopt(self, nursery: NurseryProcess) -> None:
        self._nursery = nursery
        self._loop.add_reader(nursery.channel.connection, self._on_nursery)

    def _order(self, order: Any, *descriptors: int) -> None:
        with contextlib.suppress(OSError):  # Its end shows as end-of-file, and is dealt with there.
            self._nursery.channel.send(order, descriptors)

    def _on_nursery(self) -> None:
        alive = self._nursery.channel.read(socket.MSG_DONTWAIT)
        for message in self._nursery.channel.arrived():
            worker = self._workers.get(message.worker)
            if worker is None:
                continue
            match message:
                case Forked(_, pid):
                    worker.pid = pid
                    self._baseline_bytes = self._baseline_bytes or limits.resident_bytes(self._nursery.pid)
                case Exited(_, _, status, memory_bytes_max):
                    self._ended(worker, worker.verdict or self._describe(worker, status, memory_bytes_max))
        if not alive:
            self._nursery_lost()

    def _describe(self, worker: Worker, status: int, memory_bytes_max: int) -> Failure:
        if os.waitstatus_to_exitcode(status) == EXIT_ORPHAN and worker.out_of_reach is not None:
            return worker.out_of_reach
        kernel_kills = death.kernel_kills()
        killed_by_kernel = kernel_kills > self._kernel_kills
        self._kernel_kills = kernel_kills
        return death.describe(
            status,
            memory_bytes_max=memory_bytes_max,
            memory_limit_bytes=self._memory_limit_bytes,
            killed_by_kernel=killed_by_kernel,
        )

    def _nursery_lost(self) -> None:
        """The nursery has ended, and its workers with it. What they had started is ended here; all start anew."""
        self._loop.remove_reader(self._nursery.channel.connection)
        started = bool(self._processes()) or self._nurseries > 0
        words = self._nursery.last_words()
        for pid in self._processes():
            limits.kill_group(pid)
        self._nursery.stop(0.0, ())
        self._nurseries += 1
        wanted, self._wanted = self._wanted, 0
        if not started or self._nurseries > _NURSERIES_MAX:
            self._break(f"the process that forks workers has ended: {words or 'killed'}")
            return
        self._adopt(NurseryProcess())
        if self._compiled:
            self._order(Compile())
        for worker in list(self._workers.values()):
            failure = Failure("killed", "the process that had forked the worker was killed")
            self._ended(worker, worker.verdict or failure)
        self.want(wanted)

    def _break(self, reason: str) -> None:
        self._wanted = 0
        self._broken(NotExecuted(f"no worker process can be started: {reason}", cause="pool"))

    # ------------------------------------------------------------------------------------------ the watch

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._config.heartbeat_interval_s)
            for worker in list(self._workers.values()):
                if worker.pid and worker.verdict is None:
                    self._watch_memory(worker)
                    self._watch_silence(worker)

    def _watch_memory(self, worker: Worker) -> None:
        held = limits.resident_bytes(worker.pid) - self._baseline_bytes
        limit = self._memory_limit_bytes + 2 * limits.HEADROOM_BYTES
        if held > limit:
            reason = (
                f"the worker held {held >> 20} MiB; its share of the job's memory is "
                f"{self._memory_limit_bytes >> 20} MiB (raise the job's memory, or run fewer workers)"
            )
            self.kill(worker.name, Failure("memory", reason))

    def _watch_silence(self, worker: Worker) -> None:
        silent_s = self.now() - worker.heard_at
        if silent_s < self._config.worker_timeout_s / 2:
            return
        ticks = limits.processor_ticks(worker.pid)
        if ticks is not None and ticks > worker.ticks:
            worker.ticks = ticks
            worker.heard_at = self.now()
            record = self._record_of(worker)
            self._deliver(Heartbeat(worker.name, running=worker.running, moved=False, record=record), worker.name)
        elif silent_s >= self._config.worker_timeout_s:
            self.kill(worker.name, Failure("lost", f"the worker was silent for {silent_s:.0f} s"))
