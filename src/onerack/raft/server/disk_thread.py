"""The disk's thread: writes what a core wants durable while the event loop lives on.

The idea: one thread, one job at a time, because one Output is in flight at a time. A plain queue and one wake-up of the
loop cost less than an executor's future, and they are paid for each batch.

The rule: a write or sync that fails is final. The error is handed on once, and nothing is tried again.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Final

FAST_S: Final = 0.001
"""A write and its sync, together, that hold nobody up: a fiftieth of the time between two heartbeats."""
FAST_IN_A_ROW: Final = 16


class DiskPace:
    """Whether the disk is so fast that the event loop had better write to it itself.

    To hand a job to the thread and hear that it is done costs a quarter of a millisecond of processor time; a good disk
    syncs in less. A sync that is slow is waited for in the loop once; then the thread has the disk until all of the
    last few were fast.
    """

    __slots__ = ("_fast_in_a_row", "is_fast")

    def __init__(self) -> None:
        self.is_fast = False
        self._fast_in_a_row = 0

    def took(self, seconds: float) -> None:
        """A write and its sync."""
        self._fast_in_a_row = self._fast_in_a_row + 1 if seconds < FAST_S else 0
        self.is_fast = self._fast_in_a_row >= FAST_IN_A_ROW


class DiskThread:
    """Runs jobs in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[tuple[Callable[[], None], Callable[[BaseException | None], None]] | None]
        self._jobs = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def do(self, job: Callable[[], None], done: Callable[[BaseException | None], None]) -> None:
        """`done` is called in the loop's thread, with the error if there was one."""
        self._jobs.put((job, done))

    def close(self) -> None:
        """Returns when the last job has ended."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (order := self._jobs.get()) is not None:
            job, done = order
            error: BaseException | None = None
            try:
                job()
            except BaseException as raised:  # The loop decides what an error means, of whatever kind.
                error = raised
            try:
                self._loop.call_soon_threadsafe(done, error)
            except RuntimeError:
                return  # The loop is closed: nobody waits any more.
