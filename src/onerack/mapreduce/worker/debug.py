"""`onerack debug`: one task of a stored job again, in this process, with the debugger where user code failed.

The idea: a job's directory holds its spec (program, splits) and its journal (where each map's output lies), so any
task can be run again by the function that ran it before. Here it runs tracked, in the foreground, and the first
exception of user code is not turned into a report but handed to pdb, with the engine's frames cut away.

The rule: nothing of the stored job is touched. The task writes to a folder of its own, which is removed at the end.

A job directory that its own user stored holds that user's code: whoever debugs it runs it, pickled programs included.
"""

from __future__ import annotations

import os
import pdb as debugger
import shutil
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from onerack.codec import decode_file
from onerack.errors import UsageError
from onerack.mapreduce.context import running
from onerack.mapreduce.inputs.reader import open_split
from onerack.mapreduce.messages import (
    AttemptId,
    Failure,
    JobSpec,
    JournalRecord,
    MapOutputLost,
    MapSection,
    RunMap,
    RunReduce,
    TaskCompleted,
    TaskKind,
)
from onerack.mapreduce.program import load
from onerack.mapreduce.worker.attempt import Attempt, seed_dice
from onerack.mapreduce.worker.careful import BY_RECORDS_FROM, Unit, as_pairs, units
from onerack.mapreduce.worker.failures import AttemptEnded, failure_of
from onerack.mapreduce.worker.probe import Probe
from onerack.mapreduce.worker.task import group_units, map_body, reduce_body
from onerack.mapreduce.worker.traceback import user_frames

EMISSIONS_SHOWN = 100


def debug_task(job_directory: str, task: str, record: int | None = None, pdb: bool = True) -> Failure | None:
    """Runs task `task` (m17, r3; stage-2/m17 of a chain) again; with `record`, that record or group alone.

    Prints what happens. `pdb`: at the first exception of user code the debugger opens in its frame. Returns what the
    task failed of; None: it did not fail.

    Raises: UsageError: no such job, task or record; the job's intermediate files are gone.
    """
    stage, _, name = task.rpartition("/")
    directory = Path(job_directory, stage)
    spec = stored_spec(directory)
    attempt = parse_task(name, spec)
    scratch = tempfile.mkdtemp(prefix="onerack-debug-")
    try:
        staging = Path(scratch, "staging")
        staging.mkdir()
        here = msgspec.structs.replace(spec, directory=scratch, staging=str(staging), skip_max=0)
        order = _order(here, attempt, directory)
        job = load(spec.program, spec.stage)
        _say_if_changed(spec)
        return _run(Attempt(here, job.fresh(), order, Probe("debug")), order, record, pdb)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


# ---------------------------------------------------------------------------------------------- what was stored


def stored_spec(directory: Path) -> JobSpec:
    """The spec of a stored job (one stage of it)."""
    path = directory / "spec.msgpack"
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=JobSpec)
    except FileNotFoundError:
        raise UsageError(f"{directory} is no job directory: there is no spec.msgpack in it") from None
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path} cannot be read (another version of onerack may have written it): {error}") from None


def parse_task(task: str, spec: JobSpec) -> AttemptId:
    """m17 or r3 as an attempt of its own, late enough to go record by record."""
    kinds: dict[str, TaskKind] = {"m": "map", "r": "reduce"}
    sizes = {"m": len(spec.splits), "r": spec.reducers}
    letter, number = task[:1], task[1:]
    if letter in kinds and number.isascii() and number.isdigit() and int(number) < sizes[letter]:
        return AttemptId(spec.job, kinds[letter], int(number), BY_RECORDS_FROM)
    known = [f"{letter}0 ... {letter}{size - 1}" for letter, size in sizes.items() if size]
    raise UsageError(f"there is no task {task!r}; this job has {' and '.join(known) or 'no tasks'}")


def _order(spec: JobSpec, attempt: AttemptId, directory: Path) -> RunMap | RunReduce:
    if attempt.kind == "map":
        return RunMap(attempt, tracked=True)
    found = _map_outputs(directory / "journal.log")
    missing = [f"m{split.index}" for split in spec.splits if split.index not in found]
    if missing:
        raise UsageError(f"{attempt.task} cannot run: the job ended before {', '.join(missing[:10])} were completed")
    sections = [
        MapSection(found[index].attempt, found[index].sections[attempt.index])
        for index in sorted(found)
        if found[index].sections[attempt.index].rows
    ]
    gone = [each.section.path for each in sections if not os.path.exists(each.section.path)]
    if gone:
        raise UsageError(
            f"{attempt.task} cannot run: what the maps wrote for it is gone ({gone[0]}); it is kept only when a job "
            "fails. Map tasks can be debugged: they read the input itself"
        )
    return RunReduce(attempt, tuple(sections), tracked=True)


def _map_outputs(journal: Path) -> dict[int, TaskCompleted]:
    """The accepted attempt of each map task."""
    found: dict[int, TaskCompleted] = {}
    decoder = msgspec.msgpack.Decoder(JournalRecord)
    content = journal.read_bytes() if journal.exists() else b""
    for payload in decode_file(content, str(journal)):
        match decoder.decode(payload):
            case TaskCompleted(attempt) as completed if attempt.kind == "map":
                found[attempt.index] = completed
            case MapOutputLost(attempt):
                found.pop(attempt.index, None)
    return found


def _say_if_changed(spec: JobSpec) -> None:
    program = spec.program
    if program.form == "source" and os.path.exists(program.path):
        with open(program.path, encoding="utf-8", errors="replace") as file:
            if file.read() != program.source:
                print(f"{program.path} was changed since; this runs it as it was when the job was started")


# ---------------------------------------------------------------------------------------------- running it


def _run(attempt: Attempt, order: RunMap | RunReduce, record: int | None, pdb: bool) -> Failure | None:
    try:
        with running(attempt.context):
            seed_dice(attempt.spec.seed, attempt.id.task)
            if record is not None:
                _run_one(attempt, order, record)
            else:
                _run_whole(attempt, order)
    except UsageError:
        raise
    except BaseException as error:
        return _failed(error, pdb)
    return None


def _run_whole(attempt: Attempt, order: RunMap | RunReduce) -> None:
    completed = map_body(attempt) if isinstance(order, RunMap) else reduce_body(attempt, order)
    done = completed.metrics
    counts = f"{done.groups} groups" if isinstance(order, RunReduce) else f"{done.records_in} records"
    print(f"{attempt.id.task} did not fail: {counts} in {done.seconds:.1f} s")
    for name, n in sorted(completed.counters.items()):
        print(f"  counter {name}: {n}")


def _run_one(attempt: Attempt, order: RunMap | RunReduce, number: int) -> None:
    if attempt.job.setup is not None:
        attempt.job.setup()
    unit = next((unit for unit in _units(attempt, order) if unit.record.number == number), None)
    if unit is None:
        raise UsageError(f"{attempt.id.task} has no record {number}")
    where = f" at {unit.record.path}, byte {unit.record.offset}" if unit.record.path else ""
    print(f"record {number}{where}: {unit.record.preview}")
    emitted = as_pairs(list(islice(iter(unit.call()), EMISSIONS_SHOWN + 1)))
    for pair in emitted[:EMISSIONS_SHOWN]:
        print(f"  emitted {pair!r}")
    if len(emitted) > EMISSIONS_SHOWN:
        print("  and more")
    print(f"  {'nothing was emitted' if not emitted else 'it did not fail'}")


def _units(attempt: Attempt, order: RunMap | RunReduce) -> Iterator[Unit]:
    """The records of a map task or the groups of a reduce task, each ready to be called."""
    job, spec = attempt.job, attempt.spec
    if isinstance(order, RunReduce):
        if not callable(job.reduce):
            raise UsageError(f"{attempt.id.task} runs no code of yours: its reduce is a builtin reducer")
        yield from group_units(attempt, [each.section for each in order.sections], job.reduce)
        return
    if job.door == "map_split":
        raise UsageError(f"{attempt.id.task} runs no code of yours: {job.name} is a builtin job")
    reader = open_split(spec.splits[attempt.id.index], spec.input)
    try:
        yield from units(attempt, reader, None)
    finally:
        reader.close()


def _failed(error: BaseException, pdb: bool) -> Failure:
    """Shows how it failed. What user code raised stands behind the engine's own verdict about it."""
    raised = error
    if isinstance(error, AttemptEnded):
        raised = error.__cause__ or error.__context__ or error
    failure = failure_of(error)
    print(failure.traceback or failure.message)
    if failure.record is not None:
        record = failure.record
        where = f" at {record.path}, byte {record.offset}" if record.path else ""
        print(f"record {record.number}{where}: {record.preview}")
    frames = user_frames(raised)
    if pdb and frames is not None:
        session = debugger.Pdb()
        session.reset()
        session.interaction(None, frames)
    return failure
