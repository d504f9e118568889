"""Many seeds over several processes: the same outcomes, in the same order, as one process would give.

The idea: a seed needs nothing of any other seed, so they can run anywhere. Workers are fresh interpreters (nothing is
inherited, not even the seed of hashes, so that a run that depended on it would show), and get seeds in small handfuls.

The rule: whoever asks decides when it ends: an exception on his side, also Ctrl-C, ends the workers at once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from onerack.sim.failed import ScheduleFailed

Seed = TypeVar("Seed")
Outcome = TypeVar("Outcome")

HANDFUL = 16
"""Seeds that a worker takes at a time, where there are many."""


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(
    run: Callable[[Seed], Outcome], seeds: Sequence[Seed], jobs: int, handful: int = HANDFUL
) -> Iterator[Outcome | ScheduleFailed]:
    """What `run` says of each of `seeds`, or how it failed. Requires: `run` can be pickled, if there are many jobs."""
    jobs = min(jobs, len(seeds))
    if jobs <= 1:
        yield from map(partial(outcome_of, run), seeds)
        return
    handful = max(1, min(handful, len(seeds) // (4 * jobs)))
    pool = multiprocessing.get_context("spawn").Pool(jobs, initializer=_leave_interrupts_to_the_parent)
    try:
        yield from pool.imap(partial(outcome_of, run), seeds, handful)
    finally:
        pool.terminate()
        pool.join()


def outcome_of(run: Callable[[Seed], Outcome], seed: Seed) -> Outcome | ScheduleFailed:
    try:
        return run(seed)
    except ScheduleFailed as failed:
        return failed


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
