"""Events become lines, the same for log, golden trace and story."""

from __future__ import annotations

from onerack.runtime.seam import Event
from onerack.runtime.trace import EventLog, trace_line


class StoppedClock:
    def __init__(self) -> None:
        self.moment = 100.0

    def now(self) -> float:
        return self.moment

    async def sleep(self, seconds: float) -> None:
        self.moment += seconds


def test_a_line_says_when_who_and_what() -> None:
    event = Event("task_assigned", {"attempt": "m3.1", "worker": "w2"})
    assert trace_line(12.3456, "master", event) == "   12.346 master task_assigned attempt=m3.1 worker=w2"


def test_a_log_counts_from_its_beginning() -> None:
    clock, lines = StoppedClock(), list[str]()
    log = EventLog(clock, "master", lines.append)
    clock.moment = 101.5
    log.write(Event("job_submitted"))
    assert lines == ["    1.500 master job_submitted"]
