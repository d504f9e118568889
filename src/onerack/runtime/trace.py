"""Trace: events as lines of text. Log file, golden trace and simulator's story are this one text.

The idea: cores say what happened as `Event`s; one place turns them into lines, so that what a test pins, what a
log holds and what a person reads are the same words.

The rule: a line depends on its arguments only, never on an address in memory, a hash or the locale.
"""

from __future__ import annotations

from collections.abc import Callable

from onerack.runtime.env import Clock
from onerack.runtime.seam import Event, NodeId


def trace_line(at: float, node: NodeId, event: Event) -> str:
    """`  12.345 master task_assigned attempt=m3.1 worker=w2`: seconds since some start, who, what."""
    return f"{at:9.3f} {node} {event}"


class EventLog:
    """Writes each event as a line; give its `write` to a host as `on_event`. Time counts from its making."""

    def __init__(self, clock: Clock, node: NodeId, write_line: Callable[[str], object]) -> None:
        self._clock = clock
        self._node = node
        self._write_line = write_line
        self._start = clock.now()

    def write(self, event: Event) -> None:
        self._write_line(trace_line(self._clock.now() - self._start, self._node, event))
