"""The speaker: the thread that is in touch with the parent while the main thread runs user code.

The idea: an event loop with one call of the parent's desk (desk.py). Orders come out of the call and are put where the
main thread waits for them; the main thread's reports go into it, and so does a heartbeat, every now and then.

The rules:
- a report is the last word about its attempt: from the moment that the loop has it, no heartbeat names the attempt;
- heartbeats do not pile up: one is made when the connection takes it, and says what is so then;
- the end of the connection ends the process: at once if it has an order, whatever the main thread is doing, and else
  by telling the main thread, which has nothing to do;
- a lack of memory does not end the beat. User code may have taken all, and still hold it; so nothing is begun before
  it is clear that there is room for it. User code will be told, or killed, and the beat goes on.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import queue
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec

from onerack.config import MIB
from onerack.errors import NotExecuted, Unknown
from onerack.mapreduce.messages import AttemptId, Heartbeat, Register, RunMap, RunReduce, ToWorker
from onerack.mapreduce.worker.desk import CHANNEL, Desk, encoded
from onerack.mapreduce.worker.orders import EXIT_ORPHAN
from onerack.rpc import connect

_ROOM_BYTES: Final = 4 * MIB
"""More than it takes to make and send a heartbeat: Python asks for memory in pieces of 1 MiB."""
_BREATH_S: Final = 0.05
"""After a lack of memory."""


class Speaker:
    """Of one worker. `heartbeat` is called in the speaker's thread."""

    def __init__(self, connection: socket.socket, heartbeat: Callable[[], Heartbeat], interval_s: float) -> None:
        self.orders: queue.SimpleQueue[ToWorker | None] = queue.SimpleQueue()
        """For the main thread. None: the parent is gone, and there is nothing to do."""
        self.running: AttemptId | None = None
        """What heartbeats name. The main thread sets it when it begins; a report ends it."""
        self._connection = connection
        self._heartbeat = heartbeat
        self._interval_s = interval_s
        self._reports: deque[msgspec.Raw] = deque()
        self._has_order = False
        self._is_due = False
        self._thread = threading.Thread(target=self._live, name="speaker", daemon=True)

    def start(self, introduction: Register) -> None:
        self._reports.append(encoded(introduction))
        self._thread.start()

    def report(self, report: msgspec.Raw) -> None:
        """Has it sent. For the main thread, once for each order."""
        self._loop.call_soon_threadsafe(self._take, report)

    # ------------------------------------------------------------------------------------------------ the thread

    def _live(self) -> None:
        try:
            asyncio.run(self._attend())
        except BaseException:
            # Whatever it is, nobody would hear this worker any more.
            traceback.print_exc()
            os._exit(EXIT_ORPHAN)

    async def _attend(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._bell = asyncio.Event()
        beating = self._loop.create_task(self._beat())
        try:
            async with await connect(Desk, over=self._connection, config=CHANNEL) as desk:
                async for order in desk.attend(self._said()):
                    if isinstance(order, RunMap | RunReduce):
                        self._has_order = True
                    self.orders.put(order)
        except (Unknown, NotExecuted):
            pass  # The connection is lost.
        if self._has_order:
            os._exit(EXIT_ORPHAN)
        beating.cancel()
        self.orders.put(None)

    async def _beat(self) -> None:
        while True:
            try:
                await asyncio.sleep(self._interval_s)
                if has_room():
                    self._is_due = True
                    self._bell.set()
            except MemoryError:
                time.sleep(_BREATH_S)  # noqa: ASYNC251 - the loop's own sleep is what there was no memory for

    def _take(self, report: msgspec.Raw) -> None:
        self.running = None
        self._has_order = False
        self._reports.append(report)
        self._bell.set()

    # ------------------------------------------------------------------------------------------------ what is said

    async def _said(self) -> AsyncIterator[Any]:
        """What there is to say, `encoded`. The next thing is asked for when the connection takes it."""
        while True:
            while self._reports or self._is_due:
                if self._reports:
                    yield self._reports.popleft()
                elif (heartbeat := self._now()) is not None:
                    yield heartbeat
            self._bell.clear()
            await self._bell.wait()

    def _now(self) -> msgspec.Raw | None:
        self._is_due = False
        try:
            return encoded(self._heartbeat())
        except MemoryError:
            return None


def has_room() -> bool:
    """Whether this process may take some more memory, without taking it."""
    try:
        mmap.mmap(-1, _ROOM_BYTES, mmap.MAP_PRIVATE).close()
    except (OSError, MemoryError):
        return False
    return True
