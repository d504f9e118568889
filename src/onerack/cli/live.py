"""The live display: what a terminal shows while a job runs.

    wordcount  20261123-101502-3f9a   2 workers   0:00:04
    map     ━━━━━━━━━━━━━━━━━━━━╸━━━━━━━   11/16 tasks   344 MB of 500 MB   88.1 MB/s   1.8 s left
    reduce  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━    0/4 tasks
    1 retry · 1 worker lost · 0 records skipped

The idea: a picture is drawn anew from each `JobStatus`, which holds everything; the display keeps only the pace of
each phase. The rule: it never asks the job anything and never slows it; a picture that cannot be drawn in time is
simply replaced by the next. Pictures come in the thread that called `run`, rich
redraws in its own; rich's lock makes that safe.
"""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from onerack.cli.amounts import plural, rate_text, seconds_text
from onerack.cli.pace import Pace
from onerack.mapreduce.messages import JobStatus, PhaseStatus
from onerack.mapreduce.sizes import format_size

_BAR_COLUMNS = 32


class LiveDisplay:
    """Shows one job, or one stage after another, at the bottom of the terminal."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, transient=True, refresh_per_second=8, redirect_stdout=False)
        self._began = time.monotonic()
        self._job = ""
        self._paces: dict[str, Pace] = {}

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, status: JobStatus) -> None:
        """Takes a new picture of the job."""
        now = time.monotonic()
        if status.job != self._job:
            self._job, self._paces = status.job, {"map": Pace(), "reduce": Pace()}
        self._paces["map"].saw(now, status.maps.bytes_done)
        self._paces["reduce"].saw(now, status.reduces.bytes_done)
        self._live.update(picture_of(status, self._paces, now - self._began))


def picture_of(status: JobStatus, paces: dict[str, Pace], elapsed_s: float) -> RenderableType:
    """One moment of a job, as a few lines."""
    title = Text.assemble(
        (status.name, "bold"), f"  {status.job}   {_workers_text(status)}   {seconds_text(elapsed_s)}"
    )
    phases = Table.grid(padding=(0, 2, 0, 0))
    phases.add_column(no_wrap=True)
    phases.add_column(max_width=_BAR_COLUMNS)  # Where there is too little room, the bar gives way.
    for _ in range(4):
        phases.add_column(no_wrap=True)
    for name, phase in (("map", status.maps), ("reduce", status.reduces)):
        if phase.tasks:
            phases.add_row(*_phase_row(name, phase, paces[name]))
    return Group(title, phases, Text(troubles_text(status), style="yellow" if _has_troubles(status) else "dim"))


def _workers_text(status: JobStatus) -> str:
    """The first time that kernels are used they are compiled, which takes a while: say what is being waited for."""
    return plural(status.workers, "worker") if status.workers else "starting workers"


def _phase_row(name: str, phase: PhaseStatus, pace: Pace) -> list[RenderableType]:
    tasks = f"{phase.completed}/{phase.tasks} tasks"
    if phase.completed == phase.tasks:
        return [name, _bar(phase), tasks, format_size(phase.bytes_done), Text("done", style="green"), ""]
    if not phase.bytes_done and not phase.in_progress:
        return [name, _bar(phase), tasks, "", "", ""]
    left = pace.seconds_left(phase.bytes_done, phase.bytes_total)
    return [
        name,
        _bar(phase),
        tasks,
        f"{format_size(phase.bytes_done)} of {format_size(phase.bytes_total)}",
        rate_text(pace.rate) if pace.rate else "",
        f"{seconds_text(left)} left" if left is not None else "",
    ]


def _bar(phase: PhaseStatus) -> ProgressBar:
    done = fraction_done(phase)
    return ProgressBar(total=1.0, completed=done)


def fraction_done(phase: PhaseStatus) -> float:
    """By bytes where they are known, else by tasks; 1.0 only when every task is completed."""
    if phase.completed == phase.tasks:
        return 1.0
    if phase.bytes_total > 0:
        return min(phase.bytes_done / phase.bytes_total, 0.99)
    return phase.completed / phase.tasks


def troubles_text(status: JobStatus) -> str:
    """What went wrong and was made good so far."""
    troubles = [plural(status.attempts_failed, "retry")]
    if status.workers_lost:
        troubles.append(f"{plural(status.workers_lost, 'worker')} lost")
    if status.maps_lost:
        troubles.append(f"{plural(status.maps_lost, 'map')} run again")
    if status.backups:
        troubles.append(plural(status.backups, "backup task"))
    troubles.append(f"{plural(status.quarantined, 'record')} skipped")
    return " · ".join(troubles)


def _has_troubles(status: JobStatus) -> bool:
    return bool(status.attempts_failed or status.workers_lost or status.maps_lost or status.quarantined)
