"""The embedded rack: master and workers on this machine, for the time of one `run`.

The idea: binding, no decisions. The pure `Master` (core) is driven by the runtime's `Host` on an event loop in a
thread of its own, so that it works the same in a script, in a notebook (whose own loop is running) and in a thread.
What the core sends to a worker goes to the pool; what the pool hears goes to the core. Two messages are the host's
own to carry out: `KillAttempt` and `Dismiss` end a process.

The rule: one master for each stage, because its journal lies in that stage's directory; the workers stay, and are
introduced to the next master. A stage is over when its last decision is made *and* no process is left that could still
write for it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from onerack.config import MapReduceConfig
from onerack.errors import OnerackError
from onerack.mapreduce.core import Master
from onerack.mapreduce.messages import (
    CancelJob,
    Dismiss,
    Failure,
    JobEnded,
    JobSpec,
    JobStatus,
    KillAttempt,
    SubmitJob,
    ToMaster,
)
from onerack.mapreduce.nursery_process import NurseryProcess
from onerack.mapreduce.pool import Pool
from onerack.runtime.host import Host
from onerack.runtime.real import FileJournal, RealClock, RealDisk
from onerack.runtime.seam import Envelope
from onerack.runtime.trace import EventLog

_CLIENT = "client"
_PICTURE_INTERVAL_S = 0.2
_CANCEL_WAIT_S = 0.5
"""How long an interrupted job may take to write its last journal record."""


class EmbeddedRack:
    """Master and workers. `directory` is made for the workers' own files. `close` ends everything, `nursery` too."""

    def __init__(self, nursery: NurseryProcess, directory: Path, config: MapReduceConfig) -> None:
        directory.mkdir()
        self._directory = directory
        self._config = config
        self._clock = RealClock()
        self._host: Host | None = None
        self._ended: asyncio.Future[JobEnded] | None = None
        self._failure: OnerackError | None = None
        self._grace_s = 0.0
        self._started = threading.Event()
        self._nursery = nursery
        self._thread = threading.Thread(target=self._live, name="onerack-rack", daemon=True)
        self._thread.start()
        self._started.wait()

    # ------------------------------------------------------------------------------------ from the caller's thread

    def compile(self) -> None:
        """Workers made from now on have the compiled kernels loaded."""
        self._loop.call_soon_threadsafe(self._pool.compile)

    def run(self, spec: JobSpec, *, workers: int, on_status: Callable[[JobStatus], None]) -> JobEnded:
        """Runs one stage to its end. `on_status` is called in this thread, some times a second.

        Raises: StorageFull: no room for the journal. NotExecuted: no worker process can be started.
        """
        pictures: queue.SimpleQueue[JobStatus | None] = queue.SimpleQueue()
        stage = asyncio.run_coroutine_threadsafe(self._stage(spec, workers, pictures.put), self._loop)
        stage.add_done_callback(lambda _: pictures.put(None))
        try:
            while (picture := _latest(pictures)) is not None:
                on_status(picture)
        except BaseException:
            self._cancel(spec.job, "interrupted")
            raise
        return stage.result()

    def close(self, grace_s: float = 0.0) -> None:
        """Ends workers and nursery, and returns when they have ended. May be called again."""
        self._grace_s = grace_s
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()

    def _cancel(self, job: str, reason: str) -> None:
        """Has the journal say that the job was given up; does not insist."""
        done = threading.Event()

        def ask() -> None:
            if self._host is None or self._ended is None:
                done.set()
                return
            self._ended.add_done_callback(lambda _: done.set())
            self._host.post(CancelJob(job, reason), _CLIENT)

        self._loop.call_soon_threadsafe(ask)
        done.wait(_CANCEL_WAIT_S)

    # ------------------------------------------------------------------------------------ in the rack's thread

    def _live(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._pool = Pool(
            self._nursery,
            directory=self._directory,
            config=self._config,
            deliver=self._deliver,
            broken=self._broken,
        )
        self._started.set()
        await self._closing.wait()
        await self._pool.stop(self._grace_s)

    async def _stage(self, spec: JobSpec, workers: int, show: Callable[[JobStatus], None]) -> JobEnded:
        if self._failure is not None:
            raise self._failure
        core = Master(spec.config)
        with (
            closing(FileJournal(RealDisk(), str(Path(spec.directory, "journal.log")), sync=False)) as journal,
            closing(TraceFile(Path(spec.directory, "trace.log"))) as trace,
        ):
            log = EventLog(self._clock, "master", trace.write_line)
            host = Host(core, name="master", clock=self._clock, send=self._send, journal=journal, on_event=log.write)
            picturing = self._loop.create_task(self._show(core, spec.job, show))
            try:
                return await self._lead(host, spec, workers)
            finally:
                picturing.cancel()
                if (picture := core.status(spec.job, self._clock.now())) is not None:
                    show(picture)

    async def _lead(self, host: Host, spec: JobSpec, workers: int) -> JobEnded:
        """Drives the master until it has decided on the job and nobody works for it any more."""
        ended: asyncio.Future[JobEnded] = self._loop.create_future()
        self._host, self._ended = host, ended
        hosting = self._loop.create_task(host.run())
        self._pool.limit(spec.memory_bytes)
        for introduction in self._pool.registered():
            host.post(introduction, introduction.worker)
        host.post(SubmitJob(spec), _CLIENT)
        self._pool.want(workers)
        try:
            either: set[asyncio.Future[Any]] = {hosting, ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                hosting.result()  # Raises what halted the host.
            await self._pool.settle()
            return ended.result()
        finally:
            self._host = None
            host.stop()
            await asyncio.gather(hosting, return_exceptions=True)  # What halted it has been raised above.

    async def _show(self, core: Master, job: str, show: Callable[[JobStatus], None]) -> None:
        while True:
            if (picture := core.status(job, self._clock.now())) is not None:
                show(picture)
            await asyncio.sleep(_PICTURE_INTERVAL_S)

    def _send(self, envelope: Envelope) -> None:
        match envelope.message:
            case JobEnded() as ended:
                if self._ended is not None and not self._ended.done():
                    self._ended.set_result(ended)
            case KillAttempt(attempt, reason):
                self._pool.kill_attempt(envelope.to, attempt, reason)
            case Dismiss(_, reason):
                self._pool.kill(envelope.to, Failure("lost", reason))
            case message:
                self._pool.send(envelope.to, message)

    def _deliver(self, message: ToMaster, worker: str) -> None:
        if self._host is not None:
            self._host.post(message, worker)

    def _broken(self, error: OnerackError) -> None:
        self._failure = error
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)


def _latest(pictures: queue.SimpleQueue[JobStatus | None]) -> JobStatus | None:
    """Waits for a picture and passes over those that newer ones have replaced; None when there will be no more."""
    picture = pictures.get()
    while picture is not None and not pictures.empty():
        newer = pictures.get()
        if newer is None:
            pictures.put(None)  # For the next call: the last picture has yet to be shown.
            break
        picture = newer
    return picture


class TraceFile:
    """The master's events as text, one a line, for people who want to know what happened."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=64 * 1024)

    def write_line(self, line: str) -> None:
        self._file.write(line + "\n")

    def close(self) -> None:
        self._file.close()
