"""The workload: small jobs over records that are made up, and the sequential run that every schedule must equal.

The idea: a map record is a list of (key, value) pairs, to be emitted as they are; a reduce gives each key with the
list of its values. The list keeps the order in which values arrived, so output that is merely a permutation of the
right one is wrong. Some records are bad: they raise, kill their process, or hang, each time they are touched.

The rule: nothing here depends on how the schedule went; `expected` is worked out from the records alone.
"""

from __future__ import annotations

import random
import zlib
from typing import Literal

import msgspec

from onerack.mapreduce.messages import Fragment, JobSpec, Program, Split, TaskKind
from onerack.sim.mapreduce.options import CONFIG, Options

Pair = tuple[int, int]
Rows = list[tuple[int, list[int]]]
"""What a reduce (or, with R = 0, a map: one value a row) writes."""
Badness = Literal["raise", "crash", "hang"]
Place = tuple[TaskKind, int, int]
"""(map or reduce, index of the task, number of the record or group)."""

KEYS = 7


class SimJob:
    """One job's records, bad places, and what must come out."""

    def __init__(self, spec: JobSpec, records: list[list[list[Pair]]], bad: dict[Place, Badness]) -> None:
        self.spec = spec
        self.records = records
        self._bad = bad
        self.found_bad: set[Place] = set()
        """The bad places that exist: a group's place may turn out to hold nothing."""
        self.expected_counters: dict[str, int] = {}
        self.expected = self._run_sequentially()

    @property
    def reducers(self) -> int:
        return self.spec.reducers

    @property
    def must_fail(self) -> bool:
        """More bad records than the job allows."""
        return len(self.found_bad) > self.spec.skip_max

    def badness(self, kind: TaskKind, index: int, number: int) -> Badness | None:
        return self._bad.get((kind, index, number))

    def _run_sequentially(self) -> list[Rows]:
        """One process, in order: the parts that every schedule must give."""
        emitted: list[list[Pair]] = []
        for index, records in enumerate(self.records):
            pairs: list[Pair] = []
            for number, record in enumerate(records):
                if self.badness("map", index, number) is None:
                    pairs += record
                    self._count("records", 1)
                    self._count(f"emitted.{index}", len(record))
                else:
                    self.found_bad.add(("map", index, number))
            emitted.append(pairs)
        if self.reducers == 0:
            return [[(key, [value]) for key, value in pairs] for pairs in emitted]
        parts = []
        for partition in range(self.reducers):
            gathered = gather([[pair for pair in pairs if pair[0] % self.reducers == partition] for pairs in emitted])
            rows: Rows = []
            for number, (key, values) in enumerate(gathered):
                if self.badness("reduce", partition, number) is None:
                    rows.append((key, values))
                    self._count("groups", 1)
                else:
                    self.found_bad.add(("reduce", partition, number))
            parts.append(rows)
        return parts

    def _count(self, name: str, n: int) -> None:
        if n:
            self.expected_counters[name] = self.expected_counters.get(name, 0) + n


def gather(sections: list[list[Pair]]) -> Rows:
    """Groups by key: keys in order, values in the order of (section, emission)."""
    groups: dict[int, list[int]] = {}
    for section in sections:
        for key, value in section:
            groups.setdefault(key, []).append(value)
    return sorted(groups.items())


def checksum(rows: Rows) -> int:
    return zlib.crc32(repr(rows).encode())


def make_jobs(chance: random.Random, options: Options) -> list[SimJob]:
    return [_make_job(chance, options, number) for number in range(options.jobs)]


def _make_job(chance: random.Random, options: Options, number: int) -> SimJob:
    maps = chance.randint(0 if chance.random() < 0.1 else 1, options.maps_max)
    reducers = chance.randint(min(1, options.reduces_max), options.reduces_max)
    records = [
        [
            [(chance.randrange(KEYS), chance.randrange(100)) for _ in range(chance.randint(0, 3))]
            for _ in range(chance.randint(1, 3))
        ]
        for _ in range(maps)
    ]
    bad: dict[Place, Badness] = {}
    for _ in range(options.bad_records):
        kind: TaskKind = "reduce" if reducers and (maps == 0 or chance.random() < 0.3) else "map"
        badness: Badness = chance.choice(["raise", "crash", "crash", "hang"])
        index = chance.randrange(reducers if kind == "reduce" else max(1, maps))
        bad[kind, index, chance.randrange(3)] = badness
    spec = JobSpec(
        job=f"job{number}",
        name="simulated",
        program=Program("builtin", "simulated"),
        splits=tuple(Split(index, (Fragment(f"input-{index}", 0, len(split)),)) for index, split in enumerate(records)),
        reducers=reducers,
        directory="/job",
        staging="/staging",
        skip_max=0,
        backup_tasks=options.backup_tasks,
        config=CONFIG,
    )
    found = len(SimJob(spec, records, bad).found_bad)
    return SimJob(msgspec.structs.replace(spec, skip_max=max(0, found + options.skip_slack)), records, bad)
