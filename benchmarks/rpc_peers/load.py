"""The load: N callers in a closed loop, each with one call open, each checking every reply.

The idea: all peers are driven by the same few lines, so that what differs is the library. The first second is not
counted. The time of a call runs from the end of its caller's call before to its own end: one look at the clock a call.

The rule: a reply that is not the expected one ends the measurement.
"""

from __future__ import annotations

import asyncio
import threading
import time
from array import array
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from benchmarks.rpc_peers.server_process import ServerProcess
from benchmarks.rpc_peers.task import Task

WARM_UP_S = 1.0
GB = 1e9


class WrongReply(Exception):
    """A call was answered with something else than what was asked for."""


class Reading(NamedTuple):
    """Three clocks at one moment."""

    wall_s: float
    client_cpu_s: float
    server_cpu_s: float


class Meter:
    """What happens between `open` and `close`: calls with their times, and the processors of both sides."""

    def __init__(self, server: ServerProcess) -> None:
        self.times_s = array("d")
        """One entry for each call, in order of completion."""
        self.is_closed = False
        self._server = server
        self._opened = self._closed = self._reading()
        self._measured = self.times_s

    def open(self) -> None:
        del self.times_s[:]
        self._opened = self._reading()

    def close(self) -> None:
        self._closed = self._reading()
        self._measured = self.times_s[:]
        self.is_closed = True

    def figures(self, bytes_per_call: int = 0) -> dict[str, float]:
        calls = len(self._measured)
        if not calls:
            raise RuntimeError("not one call was completed in the measured time")
        wall, client, server = (after - before for before, after in zip(self._opened, self._closed, strict=True))
        ordered = sorted(self._measured)
        return {
            "calls_per_s": calls / wall,
            "client_us": client / calls * 1e6,
            "server_us": server / calls * 1e6,
            "p50_us": ordered[calls // 2] * 1e6,
            "p99_us": ordered[calls * 99 // 100] * 1e6,
            **({"gb_per_s": calls * bytes_per_call / wall / GB} if bytes_per_call else {}),
        }

    def _reading(self) -> Reading:
        return Reading(time.perf_counter(), time.process_time(), self._server.cpu_s())


async def coroutine_load(
    task: Task, server: ServerProcess, call: Callable[[], Awaitable[object]], expected: object
) -> Meter:
    """As many coroutines as the task has callers."""
    meter = Meter(server)

    async def caller() -> None:
        clock, note = time.perf_counter, meter.times_s.append
        before = clock()
        while not meter.is_closed:
            if await call() != expected:
                raise WrongReply
            now = clock()
            note(now - before)
            before = now

    async def watch() -> None:
        await asyncio.sleep(WARM_UP_S)
        meter.open()
        await asyncio.sleep(task.seconds)
        meter.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        for _ in range(task.callers):
            group.create_task(caller())
    return meter


def thread_load(task: Task, server: ServerProcess, call: Callable[[], object], expected: object) -> Meter:
    """As many threads as the task has callers, for libraries whose calls block."""
    meter = Meter(server)
    failures: list[BaseException] = []

    def caller() -> None:
        clock, note = time.perf_counter, meter.times_s.append
        before = clock()
        try:
            while not meter.is_closed:
                if call() != expected:
                    raise WrongReply
                now = clock()
                note(now - before)
                before = now
        except BaseException as failure:
            failures.append(failure)
            raise

    threads = [threading.Thread(target=caller, daemon=True) for _ in range(task.callers)]
    for thread in threads:
        thread.start()
    watch(meter, task)
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return meter


def watch(meter: Meter, task: Task) -> None:
    time.sleep(WARM_UP_S)
    meter.open()
    time.sleep(task.seconds)
    meter.close()


def watched(task: Task, meter: Meter) -> threading.Thread:
    """Opens and closes the meter from beside, for a peer whose one thread makes all calls. Started."""
    thread = threading.Thread(target=watch, args=(meter, task), daemon=True)
    thread.start()
    return thread
