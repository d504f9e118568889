"""Runs: one seed, many seeds, or the story of one; what tests and people call.

The rule: whatever goes wrong in a schedule, a broken invariant or a plain bug, comes out as `ScheduleFailed`, whose
message says how to see the whole of it again.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from onerack.errors import InvariantBroken
from onerack.sim.failed import ScheduleFailed
from onerack.sim.rpc.kit import Honest
from onerack.sim.rpc.options import Options, draw
from onerack.sim.rpc.planted import PLANTED
from onerack.sim.rpc.schedule import Report, Schedule
from onerack.sim.rpc.story import Story
from onerack.sim.seeds import stream


class Tally(msgspec.Struct):
    """Many schedules, summed up."""

    schedules: int = 0
    seconds: float = 0.0
    steps: int = 0
    faults: int = 0
    calls: dict[str, int] = {}
    outcomes: dict[str, int] = {}

    def add(self, report: Report) -> None:
        self.schedules += 1
        self.seconds += report.seconds
        self.steps += report.steps
        self.faults += report.faults
        for total, part in ((self.calls, report.calls), (self.outcomes, report.outcomes)):
            for name, n in part.items():
                total[name] = total.get(name, 0) + n


def run_schedule(
    seed: int,
    planted: str | None = None,
    *,
    options: Options | None = None,
    crash_at: tuple[int, ...] = (),
    watches: bool = True,
    story: Story | None = None,
) -> Report:
    """One seed; in a world of its own choice, or in that of `options`.

    `crash_at` and `watches`: see Schedule.
    Raises: ScheduleFailed: a property does not hold, or an outcome is wrong, or a call does not end.
    """
    kit = PLANTED[planted]() if planted is not None else Honest()
    schedule = Schedule(seed, kit, story, options=options, crash_at=crash_at, watches=watches)
    try:
        return schedule.run()
    except InvariantBroken as broken:
        raise ScheduleFailed(
            seed, f"at {schedule.world.now:.4f} s: {broken}", _again(seed, planted, crash_at)
        ) from broken
    except Exception as error:
        raise ScheduleFailed(
            seed, f"at {schedule.world.now:.4f} s: {error!r}", _again(seed, planted, crash_at)
        ) from error


def run_many(seeds: Iterable[int]) -> Tally:
    """Each of the seeds. Raises: ScheduleFailed: at the first that fails."""
    tally = Tally()
    for seed in seeds:
        tally.add(run_schedule(seed))
    return tally


def tell(seed: int, planted: str | None = None, *, crash_at: tuple[int, ...] = ()) -> str:
    """The story of one seed: its options, every message that arrived, what fate did; at the end what was wrong."""
    story = Story(draw(stream(seed, "options")))
    try:
        report = run_schedule(seed, planted, crash_at=crash_at, story=story)
    except ScheduleFailed as failed:
        return f"{story}\n{failed.reason}\n"
    return f"{story}\n{report}\n"


def _again(seed: int, planted: str | None, crash_at: tuple[int, ...]) -> str:
    arguments = [str(seed)]
    if planted is not None:
        arguments.append(repr(planted))
    if crash_at:
        arguments.append(f"crash_at={crash_at}")
    return f"onerack.sim.rpc.tell({', '.join(arguments)})"
