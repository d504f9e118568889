"""The displays: what a terminal, a pipe and --quiet show of the same job."""

from __future__ import annotations

import io
import sys

import msgspec
import pytest
from rich.console import Console

from onerack.cli.display import NoDisplay, display_for
from onerack.cli.lines import LineDisplay, current_phase
from onerack.cli.live import LiveDisplay, fraction_done, picture_of, troubles_text
from onerack.cli.pace import Pace
from onerack.mapreduce.messages import JobStatus, PhaseStatus
from tests.cli.pictures import picture


def drawn(status: JobStatus, *, seconds: float = 2.0, width: int = 120) -> str:
    """The live picture as text, half of it having been done in `seconds`."""
    paces = {"map": Pace(), "reduce": Pace()}
    paces["map"].saw(0.0, 0)
    paces["map"].saw(seconds, status.maps.bytes_done)
    console = Console(file=io.StringIO(), width=width)
    console.print(picture_of(status, paces, seconds))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_live_picture_says_phases_tasks_rate_and_estimate() -> None:
    text = drawn(picture(maps=(2, 4), megabytes=(50, 100)))
    assert "wordcount" in text
    assert "2 workers" in text
    assert "2/4 tasks" in text
    assert "50.0 MB of 100.0 MB" in text
    assert "25.0 MB/s" in text
    assert "2.00 s left" in text
    assert "0/2 tasks" in text
    assert "0 retries · 0 records skipped" in text


@pytest.mark.parametrize("width", [80, 60])
def test_the_live_picture_of_a_narrow_terminal_has_a_line_for_each_phase(width: int) -> None:
    lines = drawn(picture(maps=(12, 15), megabytes=(50, 100)), width=width).splitlines()
    assert len([line for line in lines if line.strip()]) == 4
    assert width < 80 or "50.0 MB of 100.0 MB  25.0 MB/s  2.00 s left" in lines[1]


def test_the_live_picture_says_what_is_waited_for_at_first() -> None:
    assert "starting workers" in drawn(msgspec.structs.replace(picture(), workers=0))


def test_the_live_picture_of_a_map_only_job_has_no_reduce() -> None:
    assert "reduce" not in drawn(picture(maps=(2, 4), reduces=(0, 0), megabytes=(50, 100)))


def test_the_live_picture_says_what_went_wrong() -> None:
    text = troubles_text(picture(retries=3, workers_lost=1, quarantined=2))
    assert text == "3 retries · 1 worker lost · 2 records skipped"


def test_only_a_completed_phase_is_full() -> None:
    phase = PhaseStatus(tasks=4, idle=0, in_progress=1, completed=3, bytes_total=100, bytes_done=100)
    assert fraction_done(phase) < 1.0
    assert fraction_done(PhaseStatus(tasks=4, completed=4, bytes_total=100, bytes_done=90)) == 1.0
    assert fraction_done(PhaseStatus(tasks=4, completed=1)) == 0.25


def test_the_live_display_leaves_the_terminal_clean() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    with LiveDisplay(console) as display:
        display.show(picture(maps=(1, 4), megabytes=(25, 100)))
        display.show(picture(maps=(1, 4), megabytes=(25, 100), job="20261123-101502-0000"))
    assert "1/4 tasks" in stream.getvalue()
    assert stream.getvalue().rstrip().endswith("\x1b[2K")  # the last thing it did was to erase its lines


def test_lines_are_written_at_milestones_and_otherwise_seldom() -> None:
    now = [0.0]
    stream = io.StringIO()
    display = LineDisplay(stream, clock=lambda: now[0])
    for second in range(12):
        now[0] = float(second)
        display.show(picture(maps=(second // 4, 4), megabytes=(8 * second, 100)))
    quiet_lines = len(stream.getvalue().splitlines())
    assert quiet_lines == 3  # at 0, 5 and 10 seconds
    display.show(picture(maps=(2, 4), megabytes=(90, 100), retries=1))
    display.show(picture(maps=(4, 4), megabytes=(100, 100), retries=1))
    last_lines = stream.getvalue().splitlines()[quiet_lines:]
    assert [line.split(",")[0] for line in last_lines] == ["onerack: map 2/4 tasks", "onerack: reduce 0/2 tasks"]
    assert "1 retry" in last_lines[0]


def test_a_line_says_rate_and_estimate() -> None:
    now = [0.0]
    stream = io.StringIO()
    display = LineDisplay(stream, clock=lambda: now[0])
    display.show(picture())
    now[0] = 5.0
    display.show(picture(maps=(2, 4), megabytes=(50, 100)))
    assert stream.getvalue().splitlines()[-1] == (
        "onerack: map 2/4 tasks, 50%, 50.0 MB of 100.0 MB, 10.0 MB/s, 5.00 s left"
    )


def test_people_wait_for_the_maps_first() -> None:
    assert current_phase(picture(maps=(3, 4)))[0] == "map"
    assert current_phase(picture(maps=(4, 4)))[0] == "reduce"
    assert current_phase(picture(maps=(4, 4), reduces=(0, 0)))[0] == "map"


def test_the_display_suits_where_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(display_for(quiet=True), NoDisplay)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(display_for(quiet=False), LineDisplay)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert isinstance(display_for(quiet=False), LiveDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(display_for(quiet=False), LineDisplay)


def test_quiet_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with display_for(quiet=True) as display:
        display.show(picture(megabytes=(50, 100)))
    assert capfd.readouterr() == ("", "")
