"""An attempt: what every way of running a task has in common.

The idea: an attempt is a stretch of time in which user code runs under known conditions: its own fresh job object,
the current context, dice seeded by the task. All of that is set up here, and everything that may go wrong in between
comes out as one message for the master.

The rule: `random` draws the same numbers in every attempt of a task (section 2.6 of the notes), and nothing of one
attempt is visible in the next.
"""

from __future__ import annotations

import gc
import random
import sys
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from onerack.mapreduce.context import TaskContext, running
from onerack.mapreduce.footprint import footprint
from onerack.mapreduce.loaded import LoadedJob
from onerack.mapreduce.messages import AttemptFailed, AttemptId, JobSpec, RunMap, RunReduce
from onerack.mapreduce.worker.bad_records import BadRecords
from onerack.mapreduce.worker.failures import failure_of
from onerack.mapreduce.worker.portions import PAIRS_FIRST, Portions
from onerack.mapreduce.worker.probe import Probe

HELD_SHARE = 8
"""A tracked attempt holds back this part of its memory, in pairs of one record or values of one group."""

Report = TypeVar("Report")


class Attempt:
    """One execution of one task, while it lasts."""

    def __init__(self, spec: JobSpec, job: LoadedJob, order: RunMap | RunReduce, probe: Probe) -> None:
        self.spec = spec
        self.job = job
        self.id: AttemptId = order.attempt
        self.tracked = order.tracked or bool(order.skips)
        self.probe = probe
        self.portions = Portions()
        self.bad_records = BadRecords(spec, order.skips)
        fragments = spec.splits[self.id.index].fragments if isinstance(order, RunMap) else ()
        self.context = TaskContext(
            order.attempt,
            files=spec.files,
            path=fragments[0].path if fragments else "",
            counters=job.counters,
            progress_to=probe,
            memory_bytes=spec.memory_bytes,
            accelerate=spec.accelerate,
        )

    @property
    def keeps_state(self) -> bool:
        """Whether what a call leaves on the job may change what the next call gives: `setup` has made room for it."""
        return self.job.setup is not None or self.job.teardown is not None

    @property
    def held_bytes_max(self) -> int:
        return self.spec.memory_bytes // HELD_SHARE

    def can_hold(self, pairs: Sequence[Any]) -> bool:
        """Whether these pairs may be held back until it is known that they are good. A handful always may."""
        return len(pairs) <= PAIRS_FIRST or footprint(pairs) <= self.held_bytes_max

    def counters(self) -> dict[str, int]:
        self.context.settle()
        return self.context.counters


def run(
    spec: JobSpec,
    job: LoadedJob,
    order: RunMap | RunReduce,
    probe: Probe,
    body: Callable[[Attempt], Report],
) -> Report | AttemptFailed:
    """Runs `body` as an attempt; every exception, whoever raised it, becomes the attempt's failure."""
    probe.begin(order.attempt)
    try:
        fresh = job.fresh()
        attempt = Attempt(spec, fresh, order, probe)
        with running(attempt.context):
            seed_dice(spec.seed, order.attempt.task)
            return body(attempt)
    except BaseException as error:
        failed = AttemptFailed(probe.worker, order.attempt, failure_of(error))
    finally:
        probe.end()
        give_memory_back()
    # The traceback held the user's frames, and these a block of pairs: the next attempt needs the memory.
    gc.collect()
    return failed


def give_memory_back() -> None:
    """Returns what malloc keeps of freed memory: between tasks it would count for this worker and serve nobody."""
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is not None:
        pyarrow.default_memory_pool().release_unused()


def seed_dice(seed: int, task: str) -> None:
    """Seeds `random`, and numpy's global generator when something has imported numpy."""
    random.seed(f"{seed}/{task}")
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(zlib.crc32(f"{seed}/{task}".encode()))
