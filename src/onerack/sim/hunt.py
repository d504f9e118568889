"""The hunt: how many seeds, and how many seconds, it takes to find each planted bug.

The idea: a bug is hunted with a few seeds first, then with every scenario that was written for a hazard, which costs
little, and then with more seeds. Found means that anything at all was wrong: a property, a history, a liveness bound.

The rule: seeds are the ordinary ones, from one on without a choice, so that the figures say what a run of so many
seeds would have found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from onerack.sim.failed import ScheduleFailed

SEEDS_FIRST: Final = 60
"""Before scenarios are asked."""

Trial = Callable[[], None]
"""Fails with an AssertionError if it finds something."""


class Hunt(msgspec.Struct, frozen=True):
    """One bug, and what became of it."""

    system: str
    bug: str
    found_by: str
    """`seed 17`, or `scenario ...`; nothing if it survived."""
    seeds: int
    """That were run, the last one included."""
    seconds: float
    """Of one processor."""
    said: str
    """What was wrong, in a few words."""


def hunt(
    system: str,
    bug: str,
    run: Callable[[int], object],
    seeds: Sequence[int],
    scenarios: Iterable[tuple[str, Trial]] = (),
) -> Hunt:
    """Until it is found, or all is tried."""
    began = time.process_time()

    def told(found_by: str, run_so_far: int, said: str) -> Hunt:
        words = said.strip().partition("\n")[0][:160]
        return Hunt(system, bug, found_by, run_so_far, round(time.process_time() - began, 3), words)

    for number, seed in enumerate(seeds, 1):
        try:
            run(seed)
        except ScheduleFailed as failed:
            return told(f"seed {seed}", number, failed.reason)
        if number == min(SEEDS_FIRST, len(seeds)):
            for name, play in scenarios:
                try:
                    play()
                except AssertionError as failed:
                    return told(f"scenario {name}", number, str(failed))
    return told("", len(seeds), "")
