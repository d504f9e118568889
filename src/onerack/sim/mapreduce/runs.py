"""Runs: one seed, many seeds, or the story of one; what tests and people call.

The rule: whatever goes wrong in a schedule, a broken invariant or a plain bug, comes out as `ScheduleFailed`, whose
message says how to see the whole of it again.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from onerack.errors import InvariantBroken
from onerack.mapreduce.core import Master
from onerack.sim.failed import ScheduleFailed
from onerack.sim.mapreduce.options import CONFIG, draw
from onerack.sim.mapreduce.planted import PLANTED
from onerack.sim.mapreduce.schedule import Report, Schedule
from onerack.sim.mapreduce.story import Story
from onerack.sim.seeds import stream


class Tally(msgspec.Struct):
    """Many schedules, summed up."""

    schedules: int = 0
    seconds: float = 0.0
    steps: int = 0
    faults: int = 0
    attempts: int = 0
    tasks: int = 0


def run_schedule(seed: int, planted: str | None = None, *, story: Story | None = None) -> Report:
    """One seed. Raises: ScheduleFailed: a property does not hold, or the output is wrong, or a job does not end."""
    make_master = PLANTED[planted] if planted is not None else _honest_master
    schedule = Schedule(seed, make_master, story)
    try:
        return schedule.run()
    except InvariantBroken as broken:
        raise ScheduleFailed(seed, f"at {schedule.world.now:.3f} s: {broken}", _again(seed, planted)) from broken
    except Exception as error:
        raise ScheduleFailed(seed, f"at {schedule.world.now:.3f} s: {error!r}", _again(seed, planted)) from error


def run_many(seeds: Iterable[int]) -> Tally:
    """Each of the seeds. Raises: ScheduleFailed: at the first that fails."""
    tally = Tally()
    for seed in seeds:
        report = run_schedule(seed)
        tally.schedules += 1
        tally.seconds += report.seconds
        tally.steps += report.steps
        tally.faults += report.faults
        tally.attempts += report.attempts
        tally.tasks += report.tasks
    return tally


def tell(seed: int, planted: str | None = None) -> str:
    """The story of one seed: its options, every message that arrived, every event; at the end what was wrong, if so."""
    story = Story(draw(stream(seed, "options")))
    try:
        report = run_schedule(seed, planted, story=story)
    except ScheduleFailed as failed:
        return f"{story}\n{failed.reason}\n"
    return f"{story}\n{report}\n"


def _honest_master() -> Master:
    return Master(CONFIG)


def _again(seed: int, planted: str | None) -> str:
    arguments = f"{seed}" if planted is None else f"{seed}, {planted!r}"
    return f"onerack.sim.mapreduce.tell({arguments})"
