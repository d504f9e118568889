"""Runs a whole job in this process, task after task, by the functions that workers run; for tests of user code.

No master, no process, no final names: what is left out is exactly what other tests are about.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from onerack.mapreduce.job import LoadedJob, normalise
from onerack.mapreduce.messages import (
    AttemptFailed,
    AttemptId,
    Failure,
    FetchFailed,
    Fragment,
    JobSpec,
    MapCompleted,
    MapSection,
    Program,
    Quarantined,
    ReduceCompleted,
    RunMap,
    RunReduce,
    Skip,
    Split,
)
from onerack.mapreduce.worker.probe import Probe
from onerack.mapreduce.worker.task import run_map, run_reduce

MapReport = MapCompleted | AttemptFailed
ReduceReport = ReduceCompleted | AttemptFailed | FetchFailed


class Ran(NamedTuple):
    """What came of a job."""

    lines: list[str]
    """Of all parts, in order."""
    counters: dict[str, int]
    quarantined: list[Quarantined]


class SequentialRun:
    """One job over some files, one split per file unless `splits` says otherwise."""

    def __init__(self, job: Any, folder: Path, inputs: Sequence[Path], **settings: Any) -> None:
        self.job: LoadedJob = normalise(job)
        self.folder = folder
        self.probe = Probe("tester", str(folder / "position"))
        (folder / "staging").mkdir(exist_ok=True)
        splits = tuple(
            Split(index, (Fragment(str(path), 0, os.path.getsize(path)),)) for index, path in enumerate(inputs)
        )
        settings.setdefault("splits", splits)
        settings.setdefault("reducers", 0 if self.job.is_map_only else 2)
        settings.setdefault("program", Program("dotted", "unused"))
        settings.setdefault("skip_max", self.job.skip_max)
        settings.setdefault("input", self.job.input_format)
        settings.setdefault("output", self.job.output_format)
        self.spec = JobSpec(
            job="j", name=self.job.name, directory=str(folder), staging=str(folder / "staging"), **settings
        )

    def map(self, index: int = 0, number: int = 1, *, tracked: bool = False, skips: tuple[Skip, ...] = ()) -> MapReport:
        order = RunMap(AttemptId("j", "map", index, number), tracked=tracked, skips=skips)
        return run_map(self.spec, self.job, order, self.probe)

    def maps(self, *, tracked: bool = False) -> list[MapCompleted]:
        """All map tasks, each of which must complete."""
        return [
            completed(self.map(index, 2 if tracked else 1, tracked=tracked)) for index in range(len(self.spec.splits))
        ]

    def reduce(
        self,
        maps: Sequence[MapCompleted],
        index: int = 0,
        number: int = 1,
        *,
        tracked: bool = False,
        skips: tuple[Skip, ...] = (),
    ) -> ReduceReport:
        sections = [MapSection(each.attempt, each.sections[index]) for each in maps if each.sections[index].rows]
        order = RunReduce(AttemptId("j", "reduce", index, number), tuple(sections), tracked=tracked, skips=skips)
        return run_reduce(self.spec, self.job, order, self.probe)

    def reduces(self, maps: Sequence[MapCompleted], *, tracked: bool = False) -> list[ReduceCompleted]:
        return [
            reduced(self.reduce(maps, index, 2 if tracked else 1, tracked=tracked))
            for index in range(self.spec.reducers)
        ]

    def whole(self, *, tracked: bool = False) -> Ran:
        """The job, all of whose tasks must complete."""
        maps = self.maps(tracked=tracked)
        tasks: list[MapCompleted | ReduceCompleted] = list(maps)
        parts = [part for each in maps for part in each.parts]
        if self.spec.reducers:
            reduces = self.reduces(maps, tracked=tracked)
            tasks += reduces
            parts = [part for each in reduces for part in each.parts]
        counters: dict[str, int] = {}
        for task in tasks:
            for name, n in task.counters.items():
                counters[name] = counters.get(name, 0) + n
        lines = [line for part in parts for line in self.lines_of(part.path)]
        return Ran(lines, counters, [each for task in tasks for each in task.quarantined])

    def lines_of(self, part: str) -> list[str]:
        return (self.folder / "staging" / part).read_text(encoding="utf-8").splitlines()

    def left_over(self) -> list[str]:
        """Files in the folders where attempts write."""
        return sorted(path.name for name in ("staging", "shuffle") for path in (self.folder / name).rglob("*"))


def completed(report: MapReport) -> MapCompleted:
    assert isinstance(report, MapCompleted), report
    return report


def reduced(report: ReduceReport) -> ReduceCompleted:
    assert isinstance(report, ReduceCompleted), report
    return report


def failure(report: MapReport | ReduceReport) -> Failure:
    assert isinstance(report, AttemptFailed), report
    return report.failure


def write_lines(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def function_job(**functions: Any) -> SimpleNamespace:
    """A job made of functions, as `run(map=..., reduce=...)` makes it."""
    door = functions.get("map", functions.get("map_block"))
    return SimpleNamespace(job_name=getattr(door, "__name__", "job"), **functions)
