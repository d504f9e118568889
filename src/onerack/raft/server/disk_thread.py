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
