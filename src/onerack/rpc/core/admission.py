"""Admission: which handlers run, which wait, and which calls there is no room for.

The idea: plain handlers run at once and need no queue. Those that wait for something run `running_max` at a time; calls
beyond wait in order of arrival, and one that has waited past its deadline is dropped instead of run: its caller has
gone, and under overload such work would be all that is done.

Streams have places of their own: one that nobody reads may last for ever, and must not keep ordinary calls waiting.

The rule: the queue is bounded, and whoever finds it full is told so at once.
"""

from __future__ import annotations

from collections import deque

from onerack.rpc.core.runs import Execution
from onerack.runtime.seam import NodeId


class Admission:
    """Executions of handlers that are not inline."""

    def __init__(self, running_max: int, waiting_max: int, streams_max: int) -> None:
        self._running_max = running_max
        self._waiting_max = waiting_max
        self._streams_max = streams_max
        self._streams: set[int] = set()
        """Tickets of the streams among the running."""
        self.running: dict[int, Execution] = {}
        self._waiting: deque[Execution] = deque()
        self._by_call: dict[NodeId, dict[int, Execution]] = {}

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def is_full(self, *, streaming: bool) -> bool:
        if streaming:
            return len(self._streams) >= self._streams_max
        return not self._has_place and len(self._waiting) >= self._waiting_max

    @property
    def _has_place(self) -> bool:
        return len(self.running) - len(self._streams) < self._running_max

    def take(self, execution: Execution, *, streaming: bool) -> bool:
        """True: run it now. Requires: not `is_full`."""
        self._by_call.setdefault(execution.link, {})[execution.request.call] = execution
        if streaming:
            self._streams.add(execution.ticket)
        if streaming or self._has_place:
            self.running[execution.ticket] = execution
            return True
        self._waiting.append(execution)
        return False

    def end(self, execution: Execution) -> None:
        """It has ended, or will never begin."""
        self.running.pop(execution.ticket, None)
        self._streams.discard(execution.ticket)
        calls = self._by_call.get(execution.link)
        if calls is not None and calls.get(execution.request.call) is execution:
            del calls[execution.request.call]
            if not calls:
                del self._by_call[execution.link]

    def next(self) -> Execution | None:
        """The next that may run, now that another has ended. The caller looks at its deadline."""
        if not self._waiting or not self._has_place:
            return None
        execution = self._waiting.popleft()
        self.running[execution.ticket] = execution
        return execution

    def withdraw(self, execution: Execution) -> bool:
        """Takes it from the queue; False when it runs already."""
        if execution.ticket in self.running:
            return False
        self._waiting.remove(execution)
        self.end(execution)
        return True

    def find(self, link: NodeId, call: int) -> Execution | None:
        return self._by_call.get(link, {}).get(call)

    def of_link(self, link: NodeId) -> list[Execution]:
        return list(self._by_call.get(link, {}).values())

    def overdue(self, now: float) -> list[Execution]:
        """Executions, running or waiting, whose deadline has passed."""
        return [
            execution
            for execution in (*self.running.values(), *self._waiting)
            if execution.deadline_at is not None and execution.deadline_at <= now
        ]

    def next_deadline(self) -> float | None:
        every = (*self.running.values(), *self._waiting)
        return min((each.deadline_at for each in every if each.deadline_at is not None), default=None)
