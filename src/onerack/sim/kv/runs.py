"""Runs: one seed of the store under raft, or its story, or the hunt for a planted bug."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from onerack.sim.hunt import Hunt, hunt
from onerack.sim.kv.kit import KvKit
from onerack.sim.kv.options import draw
from onerack.sim.kv.planted import PLANTED
from onerack.sim.kv.schedule import KvSchedule
from onerack.sim.raft.runs import carried_out, told
from onerack.sim.raft.schedule import Report
from onerack.sim.raft.story import Story
from onerack.sim.seeds import stream


def run_schedule(seed: int, planted: str | None = None, *, story: Story | None = None) -> Report:
    """Raises: ScheduleFailed: something was wrong, for the store, for a client, a watcher, or raft itself."""
    kit = PLANTED[planted]() if planted is not None else KvKit()
    return carried_out(KvSchedule(seed, kit, story), f"onerack sim kv --seed {seed} --trace", planted)


def tell(seed: int, planted: str | None = None) -> str:
    """The story of one seed."""
    story = Story(draw(stream(seed, "options")))
    return told(story, partial(run_schedule, seed, planted, story=story))


def hunt_planted(bug: str, seeds: Sequence[int]) -> Hunt:
    """How long it takes to find it."""
    return hunt("kv", bug, partial(run_schedule, planted=bug), seeds)
