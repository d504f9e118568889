"""The two functions that do all the work: `run_map` and `run_reduce`.

The idea: a task is a function of the job and its order; it knows no pool, no socket and no master, and its result is
the message that reports it. So the same two functions serve the embedded pool, a rack's workers, and engines that a
user already has.

The rule: neither raises, whatever user code does short of ending the process; and an attempt that failed leaves no
file behind that anybody would read.

Source: Dean & Ghemawat, OSDI 2004, section 3.1.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any

from onerack.errors import storing
from onerack.mapreduce.calls import ReduceCall
from onerack.mapreduce.inputs.reader import open_split
from onerack.mapreduce.loaded import LoadedJob
from onerack.mapreduce.messages import (
    AttemptFailed,
    FetchFailed,
    JobSpec,
    MapCompleted,
    ReduceCompleted,
    RunMap,
    RunReduce,
    Section,
)
from onerack.mapreduce.outputs.writer import PartWriter
from onerack.mapreduce.reducers import parse_reducer
from onerack.mapreduce.shuffle.format import SectionUnreadable
from onerack.mapreduce.shuffle.merge import fold_partition, group_windows
from onerack.mapreduce.worker.attempt import Attempt, run
from onerack.mapreduce.worker.careful import Unit, as_pairs, read_carefully
from onerack.mapreduce.worker.doors import drain, read_all
from onerack.mapreduce.worker.groups import Group, each_value, group_at, reduce_all, reduce_carefully, write
from onerack.mapreduce.worker.map_output import MapOutput, Results, open_attempt_part, open_output, shuffle_path
from onerack.mapreduce.worker.probe import Probe


def run_map(spec: JobSpec, job: LoadedJob, order: RunMap, probe: Probe) -> MapCompleted | AttemptFailed:
    """Runs one attempt of a map task: reads its split, and writes one shuffle file, or a part when R = 0."""
    return run(spec, job, order, probe, map_body)


def run_reduce(
    spec: JobSpec, job: LoadedJob, order: RunReduce, probe: Probe
) -> ReduceCompleted | AttemptFailed | FetchFailed:
    """Runs one attempt of a reduce task: reads its sections of all maps, and writes one part."""

    def body(attempt: Attempt) -> ReduceCompleted | FetchFailed:
        try:
            return reduce_body(attempt, order)
        except SectionUnreadable as error:
            return fetch_failed(attempt, order, error)

    return run(spec, job, order, probe, body)


# ---------------------------------------------------------------------------------------------- map


def map_body(attempt: Attempt) -> MapCompleted:
    """A map attempt, inside its surroundings."""
    out = open_output(attempt)
    try:
        results = _mapped(attempt, out)
    except BaseException:
        out.abort()
        raise
    return MapCompleted(
        attempt.probe.worker,
        attempt.id,
        results.sections,
        parts=results.parts,
        counters=attempt.counters(),
        metrics=attempt.probe.metrics,
        quarantined=tuple(attempt.bad_records.quarantined),
        kinds=results.kinds,
    )


def _mapped(attempt: Attempt, out: MapOutput) -> Results:
    job, spec = attempt.job, attempt.spec
    if job.setup is not None:
        job.setup()
        attempt.context.settle()
    reader = open_split(spec.splits[attempt.id.index], spec.input)
    try:
        (read_carefully if attempt.tracked else read_all)(attempt, reader, out)
    finally:
        reader.close()
    if job.teardown is not None:
        drain(iter(job.teardown()), attempt, out)
    return out.close()


# ---------------------------------------------------------------------------------------------- reduce


def reduce_body(attempt: Attempt, order: RunReduce) -> ReduceCompleted:
    """A reduce attempt, inside its surroundings. Raises: SectionUnreadable."""
    writer = open_attempt_part(attempt)
    scratch = shuffle_path(attempt, "scratch")
    try:
        with storing(scratch):
            os.makedirs(scratch, exist_ok=True)
        _reduced(attempt, [each.section for each in order.sections], writer, scratch)
        part = writer.close()
    except BaseException:
        writer.abort()
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    attempt.probe.records_out, attempt.probe.bytes_out = part.rows, part.size
    # A builtin job's progress. What is read here is no input of the job, whose totals are sums over all tasks.
    attempt.probe.records_in = attempt.probe.bytes_in = 0
    return ReduceCompleted(
        attempt.probe.worker,
        attempt.id,
        (part,),
        counters=attempt.counters(),
        metrics=attempt.probe.metrics,
        quarantined=tuple(attempt.bad_records.quarantined),
    )


def _reduced(attempt: Attempt, sections: list[Section], writer: PartWriter, scratch: str) -> None:
    job = attempt.job
    if job.setup is not None:
        job.setup()
        attempt.context.settle()
    if job.reduce_partition is not None:
        job.reduce_partition(sections, writer, attempt.context)
    elif isinstance(job.reduce, str):
        _folded(attempt, job.reduce, sections, writer, scratch)
    else:
        groups = _group_windows(attempt, sections, scratch)
        every = reduce_carefully if attempt.tracked else reduce_all
        every(attempt, job.reduce or each_value, groups, writer)
    if job.teardown is not None:
        _write_all(attempt, job.teardown(), writer)


def _group_windows(attempt: Attempt, sections: list[Section], scratch: str) -> Iterator[Iterator[Group]]:
    return group_windows(
        sections,
        memory_bytes=attempt.spec.memory_bytes,
        scratch=scratch,
        sorted_by_order=attempt.job.sort_key is not None,
        accelerate=attempt.spec.accelerate,
        progress=attempt.probe.step,
    )


def group_units(attempt: Attempt, sections: list[Section], function: ReduceCall) -> Iterator[Unit]:
    """The groups of a partition, each as a call to be made before the next is asked for."""
    scratch = shuffle_path(attempt, "scratch")
    os.makedirs(scratch, exist_ok=True)
    for number, (key, values) in enumerate(chain.from_iterable(_group_windows(attempt, sections, scratch))):
        record = group_at(number, key)
        yield Unit(record, partial(bytes, record.preview, "utf-8"), partial(function, key, values))


def _folded(attempt: Attempt, reduce: str, sections: list[Section], writer: PartWriter, scratch: str) -> None:
    probe, spec = attempt.probe, attempt.spec
    folded = fold_partition(
        sections,
        parse_reducer(reduce),
        memory_bytes=spec.memory_bytes,
        scratch=scratch,
        accelerate=spec.accelerate,
        progress=probe.step,
    )
    for columns in folded:
        writer.write_columns(columns)
        probe.groups += columns.rows
        probe.records_out += columns.rows


def _write_all(attempt: Attempt, emissions: Iterable[Any], writer: PartWriter) -> None:
    for pairs in attempt.portions.of(iter(emissions)):
        write(attempt, as_pairs(pairs), writer, "teardown")


def fetch_failed(attempt: Attempt, order: RunReduce, error: SectionUnreadable) -> FetchFailed:
    """Which map attempt's output cannot be read."""
    lost = next(each.attempt for each in order.sections if each.section.path == error.path)
    return FetchFailed(attempt.probe.worker, attempt.id, lost, error.reason, error.corrupt)
