"""Progress as plain lines, for logs, pipes and continuous integration.

    onerack: map 11/16 tasks, 69 %, 344 MB of 500 MB, 88.1 MB/s, 1.8 s left
    onerack: reduce 0/4 tasks, 0 %

The idea: a log wants few lines that each say something. One is written when a phase begins or ends, when something
went wrong, and otherwise at most every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from onerack.cli.amounts import rate_text, seconds_text
from onerack.cli.live import fraction_done, troubles_text
from onerack.cli.pace import Pace
from onerack.mapreduce.messages import JobStatus, PhaseStatus
from onerack.mapreduce.sizes import format_size

_QUIET_S = 5.0


class LineDisplay:
    """Writes occasional lines to `stream`."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._said_at = float("-inf")
        self._milestone: tuple[object, ...] = ()
        self._pace = Pace()

    def __enter__(self) -> LineDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.flush()

    def show(self, status: JobStatus) -> None:
        """Takes a new picture of the job; writes a line if it is worth one."""
        now = self._clock()
        name, phase = current_phase(status)
        if (status.job, name) != self._milestone[:2]:
            self._pace = Pace()
        self._pace.saw(now, phase.bytes_done)
        milestone = (status.job, name, status.attempts_failed, status.workers_lost, status.quarantined, status.state)
        if milestone == self._milestone and now - self._said_at < _QUIET_S:
            return
        self._milestone, self._said_at = milestone, now
        print(f"onerack: {self._line(status, name, phase)}", file=self._stream, flush=True)

    def _line(self, status: JobStatus, name: str, phase: PhaseStatus) -> str:
        parts = [f"{name} {phase.completed}/{phase.tasks} tasks"]
        if phase.tasks:
            parts.append(f"{fraction_done(phase):.0%}")
        if phase.bytes_total:
            parts.append(f"{format_size(phase.bytes_done)} of {format_size(phase.bytes_total)}")
        if self._pace.rate:
            parts.append(rate_text(self._pace.rate))
        left = self._pace.seconds_left(phase.bytes_done, phase.bytes_total)
        if left is not None and phase.completed < phase.tasks:
            parts.append(f"{seconds_text(left)} left")
        if status.attempts_failed or status.workers_lost or status.quarantined:
            parts.append(troubles_text(status))
        return ", ".join(parts)


def current_phase(status: JobStatus) -> tuple[str, PhaseStatus]:
    """The phase that people wait for: map until all maps are completed, then reduce."""
    if status.maps.completed < status.maps.tasks or not status.reduces.tasks:
        return "map", status.maps
    return "reduce", status.reduces
