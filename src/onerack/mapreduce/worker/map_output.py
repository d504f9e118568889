"""Where a map task's pairs go: into the shuffle, or, in a map-only job, into a part of the output.

The idea: the doors emit to one small object and do not know which it is. The rule: every pair goes in once, in order
of emission, and `close` gives either all of the sections and parts or raises and leaves nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from onerack.mapreduce.calls import check_pairs
from onerack.mapreduce.columns import Columns
from onerack.mapreduce.messages import KeyKinds, Part, Section
from onerack.mapreduce.outputs.writer import PartWriter, open_part
from onerack.mapreduce.reducers import parse_reducer
from onerack.mapreduce.shuffle.collector import Collector
from onerack.mapreduce.worker.attempt import Attempt


class Results(NamedTuple):
    """What a map task reports."""

    sections: tuple[Section, ...] = ()
    parts: tuple[Part, ...] = ()
    kinds: KeyKinds = KeyKinds()


class MapOutput(Protocol):
    """The doors' view."""

    target: Any
    """What a builtin job's `map_split` writes to."""

    def add_pairs(self, pairs: list[Any]) -> None:
        """Pairs of user code. Raises: BadPair and its kin: something cannot be shuffled or written."""

    def add_columns(self, columns: Columns) -> None:
        """Pairs as arrays."""

    def close(self) -> Results:
        """Everything is where it will be read."""

    def abort(self) -> None:
        """Leaves nothing behind."""


class ToShuffle:
    """R > 0: a collector, and one shuffle file."""

    def __init__(self, attempt: Attempt) -> None:
        self._probe = attempt.probe
        path = shuffle_path(attempt, "shuffle")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        make = attempt.job.make_collector
        self.target: Any = make(path, attempt.spec) if make is not None else _collector(attempt, path)

    def add_pairs(self, pairs: list[Any]) -> None:
        self.target.add_pairs(pairs)
        self._moved()

    def add_columns(self, columns: Columns) -> None:
        self.target.add_columns(columns)
        self._moved()

    def _moved(self) -> None:
        self._probe.bytes_shuffled = self.target.bytes_written
        self._probe.spills = self.target.spills

    def close(self) -> Results:
        sections: Sequence[Section] = self.target.close()
        self._probe.bytes_shuffled = sum(section.size_bytes for section in sections)
        self._probe.spills = self.target.spills
        return Results(sections=tuple(sections), kinds=self.target.kinds)

    def abort(self) -> None:
        self.target.abort()


class ToPart:
    """R = 0: a part of the output."""

    def __init__(self, attempt: Attempt) -> None:
        self._probe = attempt.probe
        self._door = attempt.job.door
        self.target: Any = open_attempt_part(attempt)

    def add_pairs(self, pairs: list[Any]) -> None:
        check_pairs(pairs, self._door)
        self.target.write_pairs(pairs)
        self._probe.bytes_out = self.target.bytes_written

    def add_columns(self, columns: Columns) -> None:
        self.target.write_columns(columns)
        self._probe.bytes_out = self.target.bytes_written

    def close(self) -> Results:
        part: Part = self.target.close()
        self._probe.records_out, self._probe.bytes_out = part.rows, part.size
        return Results(parts=(part,))

    def abort(self) -> None:
        self.target.abort()


def open_output(attempt: Attempt) -> MapOutput:
    """The output of a map attempt."""
    return ToShuffle(attempt) if attempt.spec.reducers else ToPart(attempt)


def open_attempt_part(attempt: Attempt) -> PartWriter:
    """The attempt's own part of the output."""
    spec, job = attempt.spec, attempt.job
    return open_part(spec.staging, attempt.id, spec.output, write=job.write, allow_pickle=job.allow_pickle)


def shuffle_path(attempt: Attempt, kind: str) -> str:
    """A path in the job's shuffle folder that no other attempt uses."""
    return os.path.join(attempt.spec.directory, "shuffle", f"{attempt.id}.{kind}")


def _collector(attempt: Attempt, path: str) -> Collector:
    spec, job = attempt.spec, attempt.job
    partition = job.partition
    if job.ranged and not spec.splitters:
        partition = _first_partition  # The sample found no keys, so there is nothing to spread.
    return Collector(
        path,
        reducers=spec.reducers,
        reduce=parse_reducer(job.reduce) if isinstance(job.reduce, str) else None,
        combine=job.combine,
        partition=partition,
        splitters=spec.splitters,
        sort_key=job.sort_key,
        memory_bytes=spec.memory_bytes,
        allow_pickle=job.allow_pickle,
        accelerate=spec.accelerate,
    )


def _first_partition(key: object, reducers: int) -> int:
    return 0
