"""The host: drives one core against the world. Written once, used by every system, in all its rules.

    inbox (bounded) -> step each, in order of arrival -> tick if due -> drain once
        -> writes durable -> sends -> applied -> events -> arm the timer

The idea: the batch forms by itself. While one Output is carried out, messages gather; the next turn takes them all,
drains once, and pays for one write. The host knows nothing of the protocol that it drives.

The rules: nothing of an Output leaves before its writes are durable; one Output is in flight at a time; a journal
that fails, or a core that fails an assertion, halts the host: `run` raises, and nothing more of that core leaves.
Messages are stepped before the tick, so that a peer whose message is already here is not taken for silent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from onerack.errors import NotExecuted
from onerack.runtime.env import Clock, Journal
from onerack.runtime.seam import Core, Envelope, Event, NodeId, Output, Tick

INBOX_MAX: Final = 65536
"""Messages that may wait; one more is refused, so that memory stays flat however fast they come."""
TURN_MAX: Final = 1024
"""Messages stepped before one drain, so that sends are never held back for long."""


class Host:
    """Binds a core to a clock, a way to send, and a journal.

    `send` must not block. `journal` None: the core's writes are not kept. `journal_in_thread`: append in a thread
    while the loop lives on; right when the journal syncs. `on_applied` and `on_event` are called in the loop's
    thread, after the sends.

    A view for people (a status picture) may read the core between turns: call it in the loop's thread.
    """

    def __init__(
        self,
        core: Core,
        *,
        name: NodeId,
        clock: Clock,
        send: Callable[[Envelope], None],
        journal: Journal | None,
        journal_in_thread: bool = False,
        on_applied: Callable[[Any], None] | None = None,
        on_event: Callable[[Event], None] | None = None,
        inbox_max: int = INBOX_MAX,
    ) -> None:
        self.core = core
        self.name = name
        self._clock = clock
        self._send = send
        self._journal = journal
        self._journal_in_thread = journal_in_thread
        self._on_applied = on_applied
        self._on_event = on_event
        self._inbox: deque[tuple[Any, NodeId]] = deque()
        self._inbox_max = inbox_max
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bell = asyncio.Event()
        self._rung = False
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at: float | None = None

    # ------------------------------------------------------------------------------------------- from anywhere

    def post(self, message: Any, sender: NodeId) -> None:
        """Puts a message into the inbox. Any thread may call it, also before `run`.

        Raises: NotExecuted: the inbox is full; the message was not taken.
        """
        if len(self._inbox) >= self._inbox_max:
            raise NotExecuted(
                f"{self.name} has {self._inbox_max} messages waiting and takes no more for now", cause="overloaded"
            )
        self._inbox.append((message, sender))
        self._ring()

    def stop(self) -> None:
        """Lets `run` return after its present turn. Any thread may call it."""
        self._stopping = True
        self._ring()

    def _ring(self) -> None:
        # The flag is cleared before the inbox is read: whoever finds it set may rely on a turn yet to come.
        if self._rung or self._loop is None:
            return
        self._rung = True
        try:
            self._loop.call_soon_threadsafe(self._bell.set)
        except RuntimeError:
            # The loop is closed: the host has ended, and nobody will read this inbox again.
            self._loop = None

    # ------------------------------------------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Turns until `stop`. Raises whatever halted the core or the journal."""
        self._loop = asyncio.get_running_loop()
        try:
            while not self._stopping:
                await self._turn()
                if not self._inbox and not self._stopping:
                    await self._bell.wait()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def _turn(self) -> None:
        self._bell.clear()
        self._rung = False
        now = self._clock.now()
        for _ in range(min(len(self._inbox), TURN_MAX)):
            message, sender = self._inbox.popleft()
            self.core.step(message, sender, now)
        if self._wake_at is not None and now >= self._wake_at:
            self.core.step(Tick(), self.name, now)
        await self._carry_out(self.core.drain())

    async def _carry_out(self, output: Output) -> None:
        if output.writes and self._journal is not None:
            if self._journal_in_thread:
                await asyncio.to_thread(self._journal.append, output.writes)
            else:
                self._journal.append(output.writes)
        for envelope in output.sends:
            self._send(envelope)
        if self._on_applied is not None:
            for decision in output.applied:
                self._on_applied(decision)
        if self._on_event is not None:
            for event in output.events:
                self._on_event(event)
        self._arm(output.wake_at)
        # Sockets and other tasks of this loop get their turn even when the inbox never runs empty.
        await asyncio.sleep(0)

    def _arm(self, wake_at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake_at = wake_at
        if wake_at is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wake_at - self._clock.now()), self._bell.set)
