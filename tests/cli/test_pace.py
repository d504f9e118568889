"""Pace: the rate over a window, and no estimate where nothing is known."""

from __future__ import annotations

import pytest

from onerack.cli.pace import Pace


def test_nothing_is_known_before_some_progress_was_seen() -> None:
    pace = Pace()
    assert pace.seconds_left(0, 100) is None
    pace.saw(0.0, 0)
    pace.saw(0.1, 10)  # too short a time to judge by
    assert pace.rate == 0.0
    pace.saw(5.0, 10)
    assert pace.rate == 2.0


def test_what_remains_is_divided_by_the_rate() -> None:
    pace = Pace()
    pace.saw(0.0, 0)
    pace.saw(2.0, 50)
    assert pace.seconds_left(50, 100) == pytest.approx(2.0)
    assert pace.seconds_left(50, 0) is None  # a total of zero means that it is not known
    assert pace.seconds_left(110, 100) == 0.0


def test_old_progress_is_forgotten() -> None:
    pace = Pace()
    pace.saw(0.0, 0)
    pace.saw(1.0, 1000)
    for second in range(2, 30):
        pace.saw(float(second), 1000)
    assert pace.rate == 0.0
    assert pace.seconds_left(1000, 2000) is None


def test_a_lost_task_starts_the_window_anew() -> None:
    pace = Pace()
    pace.saw(0.0, 0)
    pace.saw(1.0, 500)
    pace.saw(2.0, 300)
    assert pace.rate == 0.0
    pace.saw(3.0, 400)
    assert pace.rate == pytest.approx(100.0)
