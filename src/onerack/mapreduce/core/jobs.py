"""Jobs: two phases, the sums over them, and what a job that is over has to say.

The idea: a job is its spec, its map phase, its reduce phase, and numbers that follow from what was accepted. Which
phase may run is one question with one answer: maps while any map is not completed, else reduces. So a reduce starts
only after all maps are completed, and goes back to waiting when a map's output is lost.

The rule: R = 0 has no reduces and its maps write the parts; M = 0 with R > 0 still has R (empty) partitions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from onerack.mapreduce.core.tasks import Phase, Task
from onerack.mapreduce.core.totals import Totals, sum_results
from onerack.mapreduce.messages import (
    AttemptId,
    Failure,
    JobEnded,
    JobSpec,
    MapSection,
    Part,
    Quarantined,
    TaskCompleted,
)


class Job:
    """One job that is not over."""

    def __init__(self, spec: JobSpec, submitter: str) -> None:
        self.spec = spec
        self.submitter = submitter
        self.maps = Phase(spec.job, "map", len(spec.splits))
        self.reduces = Phase(spec.job, "reduce", spec.reducers)
        self.totals = Totals()
        self.map_bytes_total = sum(split.size_bytes for split in spec.splits)
        self.map_bytes_done = 0
        self.shuffled_bytes = [0] * spec.reducers
        """Of each partition, over the counted maps."""
        self.reduce_bytes_done = 0
        self.quarantined = 0
        """Bad records in counted results."""
        self.first_keyed: TaskCompleted | None = None
        """The first accepted map with keys: those of all others must be of its kinds."""
        self.skips_pending = 0
        """Entries of skip lists that no counted result knows yet."""
        self.attempts_failed = 0
        self.attempts_killed = 0
        self.backups = 0
        self.maps_lost = 0
        self.workers_lost = 0
        self.backups_checked_until = 0.0
        """No task becomes a straggler before this, unless something ends or starts first."""

    @property
    def name(self) -> str:
        return self.spec.job

    @property
    def open_phase(self) -> Phase:
        """The phase whose tasks may start now."""
        return self.reduces if self.maps.is_completed else self.maps

    @property
    def is_done(self) -> bool:
        # A map output that is lost after the last reduce is nobody's loss, hence no look at the maps if R > 0.
        return self.reduces.is_completed if self.spec.reducers else self.maps.is_completed

    def find(self, attempt: AttemptId) -> tuple[Phase, Task] | None:
        """The task of an attempt that was issued; None for one that never was."""
        phase = self.maps if attempt.kind == "map" else self.reduces
        if not 0 <= attempt.index < phase.size:
            return None
        task = phase.tasks[attempt.index]
        return (phase, task) if 1 <= attempt.number <= task.issued else None

    def output_outlives(self, attempt: AttemptId, keeps_output: bool) -> bool:
        """Whether the result of an attempt can be read after its worker's end. Parts always can."""
        return keeps_output or attempt.kind == "reduce" or self.spec.reducers == 0

    def sections_of(self, partition: int) -> tuple[MapSection, ...]:
        """Where a reduce attempt finds its input, in the order of map index. Requires: all maps are completed."""
        found = []
        for task in self.maps.tasks:
            assert task.result is not None
            section = task.result.sections[partition]
            if section.rows:
                found.append(MapSection(task.result.attempt, section))
        return tuple(found)

    # ------------------------------------------------------------------------------------------- what adds up

    def count(self, task: Task, result: TaskCompleted) -> None:
        """An accepted result enters the sums, in the place of the one that the task had there before."""
        if task.counted is not None:
            self._count(task.counted, -1)
            self.totals.take_back(task.counted)
        task.counted = result
        self._count(result, 1)
        self.totals.add(result)
        self.skips_pending -= task.skips_pending
        task.skips_pending = 0

    def _count(self, result: TaskCompleted, sign: int) -> None:
        self.quarantined += sign * len(result.quarantined)
        for partition, section in enumerate(result.sections):
            self.shuffled_bytes[partition] += sign * section.size_bytes

    def results(self) -> Iterator[TaskCompleted]:
        """The results that count: maps, then reduces, by index."""
        for phase in (self.maps, self.reduces):
            for task in phase.tasks:
                if task.counted is not None:
                    yield task.counted

    def ended(
        self,
        outcome: Literal["done", "failed", "cancelled"],
        failure: Failure | None = None,
        failed_attempt: AttemptId | None = None,
    ) -> JobEnded:
        """The last word on this job."""
        results = list(self.results())
        totals = sum_results(results)
        parts: list[Part] = []
        quarantined: list[Quarantined] = []
        for result in results:
            quarantined += result.quarantined
            if outcome == "done":
                parts += result.parts
        return JobEnded(
            job=self.name,
            outcome=outcome,
            parts=tuple(parts),
            counters=totals.counters,
            metrics=totals.metrics,
            partition_bytes=tuple(self.shuffled_bytes),
            quarantined=tuple(quarantined),
            failure=failure,
            failed_attempt=failed_attempt,
        )


def spec_fault(spec: JobSpec) -> str:
    """What is wrong with a spec that no client of ours would send; "" when nothing is."""
    if spec.reducers < 0:
        return f"reducers={spec.reducers}; expected 0 or more"
    for position, split in enumerate(spec.splits):
        if split.index != position:
            return f"split {position} calls itself {split.index}; splits must be numbered 0, 1, 2, ... in order"
    if spec.splitters and len(spec.splitters) != spec.reducers - 1:
        return f"{len(spec.splitters)} splitters for {spec.reducers} partitions; expected {spec.reducers - 1}"
    return ""
