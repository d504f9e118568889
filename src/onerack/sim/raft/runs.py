"""Runs: one seed, many seeds, or the story of one; what tests and people call.

The rule: whatever goes wrong in a schedule, a broken property or a plain bug, comes out as `ScheduleFailed`, whose
message says how to see the whole of it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import msgspec

from onerack.sim.failed import ScheduleFailed
from onerack.sim.hunt import Hunt, hunt
from onerack.sim.raft.judge import Broken
from onerack.sim.raft.kit import Kit
from onerack.sim.raft.options import Options, draw
from onerack.sim.raft.planted import PLANTED
from onerack.sim.raft.scenarios import SCENARIOS, ScenarioFailed, play
from onerack.sim.raft.schedule import Report, Schedule
from onerack.sim.raft.story import Story
from onerack.sim.seeds import stream


class Tally(msgspec.Struct):
    """Many schedules, summed up."""

    schedules: int = 0
    seconds: float = 0.0
    node_seconds: float = 0.0
    steps: int = 0
    faults: int = 0
    elections: int = 0
    entries: int = 0
    restores: int = 0
    operations: int = 0
    unknown: int = 0

    def add(self, report: Report) -> None:
        self.schedules += 1
        self.node_seconds += report.nodes * report.seconds
        for name in ("seconds", "steps", "faults", "elections", "entries", "restores", "operations", "unknown"):
            setattr(self, name, getattr(self, name) + getattr(report, name))


def run_schedule(
    seed: int, planted: str | None = None, *, options: Options | None = None, story: Story | None = None
) -> Report:
    """One seed; in a world of its own choice, or in that of `options`.

    Raises: ScheduleFailed: a property does not hold, or an operation does not end.
    """
    kit = PLANTED[planted]() if planted is not None else Kit()
    return carried_out(Schedule(seed, kit, story, options=options), f"onerack sim raft --seed {seed} --trace", planted)


def carried_out(schedule: Schedule, command: str, planted: str | None) -> Report:
    """`command` tells the story of the honest run. Raises: ScheduleFailed."""
    again = f"{command} --planted {planted}" if planted else command
    try:
        return schedule.run()
    except Broken as broken:
        raise ScheduleFailed(schedule.seed, f"at {schedule.world.now:.4f} s: {broken}", again) from broken
    except Exception as error:
        raise ScheduleFailed(schedule.seed, f"at {schedule.world.now:.4f} s: {error!r}", again) from error


def run_many(seeds: Iterable[int]) -> Tally:
    """Each of the seeds. Raises: ScheduleFailed: at the first that fails."""
    tally = Tally()
    for seed in seeds:
        tally.add(run_schedule(seed))
    return tally


def hunt_planted(bug: str, seeds: Sequence[int]) -> Hunt:
    """How long it takes to find it. An honest cluster must pass all that finds a bug."""
    scenarios = [(name, partial(_play, name, bug)) for name in sorted(SCENARIOS)]
    return hunt("raft", bug, partial(run_schedule, planted=bug), seeds, scenarios)


def _play(name: str, bug: str) -> None:
    try:
        play(name, bug)
    except ScenarioFailed as failed:
        # That a script cannot go on as it was written says nothing yet.
        if "the_script_goes_on" not in str(failed):
            raise


def tell(seed: int, planted: str | None = None) -> str:
    """The story of one seed: its options, every message that arrived, what fate did; at the end what was wrong."""
    story = Story(draw(stream(seed, "options")))
    return told(story, partial(run_schedule, seed, planted, story=story))


def told(story: Story, run: Callable[[], Report]) -> str:
    try:
        report = run()
    except ScheduleFailed as failed:
        return f"{story}\n{failed.reason}\n"
    return f"{story}\n{report}\n"
