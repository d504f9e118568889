"""Random schedules of the store under raft: nothing is found, and the same seed is the same run in any process."""

from __future__ import annotations

import pytest

from onerack.sim.kv import run_schedule, tell
from tests.sim.elsewhere import hashes_elsewhere


@pytest.mark.parametrize("part", range(4))
def test_nothing_is_found(part: int) -> None:
    reports = [run_schedule(seed) for seed in range(part * 30, (part + 1) * 30)]
    assert sum(report.operations for report in reports) > 25 * len(reports)
    assert sum(report.faults for report in reports) > 15 * len(reports)
    assert sum(report.restores for report in reports) > 0
    assert sum(report.unknown for report in reports) <= len(reports) // 5


def test_the_same_seed_gives_the_same_run_in_another_process() -> None:
    expected = [run_schedule(seed).trace_hash for seed in range(10)]
    assert len(set(expected)) == 10
    for printed in hashes_elsewhere("onerack.sim.kv", 10):
        assert printed == expected


def test_a_story_is_told() -> None:
    assert "becomes_leader" in tell(1)
    assert "answers_are_right" in tell(2, "refused_transactions_take_a_revision")
