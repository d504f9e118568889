"""A worker process: takes orders, runs tasks, says how they ended.

The idea: two threads. The main thread waits for an order, runs it to its end, and waits again. The speaker
(speaker.py) has the connection to the parent; every `heartbeat_interval_s` it says that the worker lives and how far
its task is. An order to stop needs no reading, because the pool kills the process.

The rule: what user code prints goes to the attempt's own file in the job's `logs`; what it reads from stdin is the end
of file. What becomes of a worker that cannot reach its parent, and in which order things are said, is the speaker's.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import resource
import signal
import socket
import sys
import traceback
from pathlib import Path

import msgspec

from onerack.errors import ProtocolError, UsageError
from onerack.mapreduce.loaded import LoadedJob
from onerack.mapreduce.messages import (
    AttemptFailed,
    AttemptId,
    Failure,
    FromWorker,
    Heartbeat,
    JobSpec,
    LoadJob,
    Metrics,
    Register,
    RunMap,
    RunReduce,
)
from onerack.mapreduce.program import load
from onerack.mapreduce.worker import limits
from onerack.mapreduce.worker.desk import encoded
from onerack.mapreduce.worker.orders import EXIT_DONE, Fork
from onerack.mapreduce.worker.probe import Probe
from onerack.mapreduce.worker.sample import run_sample
from onerack.mapreduce.worker.speaker import Speaker
from onerack.mapreduce.worker.task import run_map, run_reduce

_YOUNG_OBJECTS = 50_000
"""The cyclic collector looks at new objects after so many. A block of pairs makes 65,536 tuples that are all still
needed; with Python's own 700 the collector walks through them nearly a hundred times for nothing."""


class Worker:
    """What the process knows between orders."""

    def __init__(self, connection: socket.socket, order: Fork) -> None:
        self.name = order.worker
        self._probe = Probe(order.worker, order.position_path)
        self._baseline_bytes = limits.data_bytes()
        self._specs: dict[str, JobSpec] = {}
        self._jobs: dict[str, LoadedJob] = {}
        self._log: AttemptLog | None = None
        self._speaker = Speaker(connection, self._heartbeat, order.heartbeat_interval_s)

    def run(self) -> int:
        """Until the parent closes the connection. Returns the exit status."""
        self._speaker.start(Register(self.name, os.getpid(), socket.gethostname(), keeps_output=True))
        while (order := self._speaker.orders.get()) is not None:
            match order:
                case LoadJob(spec):
                    self._specs[spec.job] = spec
                    limits.limit_memory(spec.memory_bytes, baseline_bytes=self._baseline_bytes)
                case RunMap() | RunReduce():
                    self._execute(order)
        return EXIT_DONE

    def _execute(self, order: RunMap | RunReduce) -> None:
        spec = self._specs[order.attempt.job]
        self._log = log = AttemptLog(spec.directory, order.attempt, spec.config.log_bytes_max)
        self._speaker.running = order.attempt
        try:
            report: FromWorker = self._attempt(spec, order)
        except BaseException as error:
            # Nothing of the task's own is left to go wrong here but a bug of ours; the job's user must see it whole.
            report = AttemptFailed(
                self.name, order.attempt, Failure("exception", f"onerack failed: {error!r}", traceback.format_exc())
            )
        finally:
            self._log = None
            log.close()
        self._speaker.report(self._sendable(order.attempt, report))

    def _sendable(self, attempt: AttemptId, report: FromWorker) -> msgspec.Raw:
        try:
            return encoded(report)
        except (ProtocolError, OverflowError, UnicodeError) as error:
            # Too long for a message, or a counter beyond 64 bits: no other attempt will have less to say.
            failure = Failure("program", f"what the task has to report cannot be sent: {error}", final=True)
            return encoded(AttemptFailed(self.name, attempt, failure))

    def _attempt(self, spec: JobSpec, order: RunMap | RunReduce) -> FromWorker:
        """Runs one attempt to its report. `run_map` and `run_reduce` turn every failure of user code into one."""
        if spec.job not in self._jobs:
            try:
                self._jobs[spec.job] = load(spec.program, spec.stage)
            except UsageError as error:
                failure = Failure("program", f"the job cannot be loaded in a worker: {error}", final=True)
                return AttemptFailed(self.name, order.attempt, failure)
        job = self._jobs[spec.job]
        if isinstance(order, RunMap):
            if spec.sample_keys:
                return run_sample(spec, job, order, self._probe)
            return run_map(spec, job, order, self._probe)
        return run_reduce(spec, job, order, self._probe)

    def _heartbeat(self) -> Heartbeat:
        """How it goes. Called in the speaker's thread."""
        if (log := self._log) is not None:
            log.cut()
        running = self._speaker.running
        metrics = self._probe.metrics if running is not None else Metrics()
        record = self._probe.record if running is not None else None
        return Heartbeat(self.name, running, metrics, moved=self._probe.take_moved(), record=record)


class AttemptLog:
    """Sends this process's stdout and stderr to `logs/<attempt>.log`, of which it keeps the first `bytes_max` bytes.

    The user's own child processes write there too, so it is cut, now and then, and not guarded. No empty file is left.
    """

    def __init__(self, directory: str, attempt: AttemptId, bytes_max: int) -> None:
        self._path = Path(directory, "logs", f"{attempt}.log")
        self._bytes_max = bytes_max
        self._kept = (os.dup(1), os.dup(2))
        self._redirect()

    def cut(self) -> None:
        """Takes away what is too much. For any thread, at any time; after `close` there is nothing to take."""
        try:
            if self._path.stat().st_size > self._bytes_max:
                os.truncate(self._path, self._bytes_max)
        except OSError:
            return  # Removed by user code; the kernel frees it when the attempt ends.

    def _redirect(self) -> None:
        try:
            log = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError:
            # A job must not fail for a log: a full disk will be named by whatever needs the space.
            log = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)

    def close(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                continue  # Closed or replaced by user code.
        for descriptor, kept in zip((1, 2), self._kept, strict=True):
            os.dup2(kept, descriptor)
            os.close(kept)
        self.cut()
        try:
            if self._path.stat().st_size == 0:
                self._path.unlink()
        except OSError:
            return


def work(connection: socket.socket, order: Fork) -> int:
    """A forked child's life as a worker. Returns its exit status."""
    for interrupt in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(interrupt, signal.SIG_DFL)  # User code's own children expect no less.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    # Prints must be in the log when the process is killed a moment later.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 50)
    return Worker(connection, order).run()
