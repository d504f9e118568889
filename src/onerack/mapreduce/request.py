"""A request: everything `run` was asked for, checked and made exact.

The idea: what the caller says goes before what the job says, and that before onerack's defaults; here, once, the three
become one. The rule: when a `Request` exists, nothing about it can turn out to be nonsense later; whatever is wrong
was a `UsageError` that names the setting, what was found and what is allowed, and no process had been started.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onerack.config import MIB, MapReduceConfig
from onerack.errors import UsageError
from onerack.mapreduce.inputs.sources import absolute_path, is_remote, refuse_undecodable
from onerack.mapreduce.loaded import LoadedJob, normalise, stages_of
from onerack.mapreduce.messages import InputFormat, OutputFormat, Program
from onerack.mapreduce.program import load_stages, program_of
from onerack.mapreduce.settings import (
    input_format_of,
    output_format_of,
    parse_on_error,
    resolve_files,
    strings_of,
)
from onerack.mapreduce.sizes import format_size, parse_size

if TYPE_CHECKING:
    from onerack.mapreduce.inputs.plan import Plan

WORKER_MEMORY_BYTES_MIN = 64 * MIB
"""With less a worker would spill at every block."""
WORKER_MEMORY_BYTES_DEFAULT = 256 * MIB
"""On machines with many cores the default memory grows, so that each worker has at least this."""
WORKERS_MAX = 4096
REDUCERS_MAX = 100_000


@dataclass(frozen=True, kw_only=True)
class Request:
    """A job to run."""

    name: str
    program: Program
    stages: tuple[LoadedJob, ...]
    inputs: tuple[str, ...]
    input_format: InputFormat
    """Of the first stage."""
    output: str
    output_format: OutputFormat
    """Of the last stage."""
    reducers: int | None
    """For every stage that reduces; None: as the stage says, or by size."""
    workers: int
    split_bytes: int
    memory_bytes: int
    """For the whole job."""
    files: tuple[str, ...]
    skip_max: int | None
    """None: as each stage says."""
    overwrite: bool
    backup_tasks: bool
    accelerate: bool
    seed: int
    config: MapReduceConfig

    @property
    def worker_memory_bytes(self) -> int:
        return self.memory_bytes // self.workers

    def check_apart(self, planned: Plan) -> None:
        """The output must not hold the input (it would be replaced), nor lie where the next run would read it.

        Raises: UsageError.
        """
        output = _place_of(self.output)
        for name in self.inputs:
            place = _place_of(name)
            if (is_remote(name) or os.path.isdir(place)) and _holds(place, output):
                raise UsageError(f"the output {self.output} lies inside the input {name}; choose another place for it")
        for fragment in {fragment.path for split in planned.splits for fragment in split.fragments}:
            if _holds(output, _place_of(fragment)):
                raise UsageError(f"the input {fragment} lies inside the output {self.output}, which would replace it")


def make_request(job: Any, *, arguments: Sequence[str], settings: dict[str, Any]) -> Request:
    """`job` in any form that `run` takes; `settings`: the arguments of `run`, None where the caller said nothing.

    Raises: UsageError.
    """
    program = program_of(job, arguments)
    stages = stages_of(normalise(job)) if program.form == "pickle" else load_stages(program)
    first, last = stages[0], stages[-1]
    config = settings["config"] or MapReduceConfig()
    workers = _workers(settings["workers"])
    chosen_output = settings["output_format"]
    request = Request(
        name=settings["name"] or first.name,
        program=program,
        stages=stages,
        inputs=_inputs(settings["input"], first),
        input_format=input_format_of(
            settings["input_format"] or first.input_format,
            encoding=settings["encoding"],
            errors=settings["errors"],
            compression=settings["compression"],
        ),
        output=_output(settings["output"], last),
        output_format=last.output_format if chosen_output is None else _chosen_output(chosen_output, last),
        reducers=_whole("reducers", settings["reducers"], least=0, most=REDUCERS_MAX),
        workers=workers,
        split_bytes=config.split_bytes
        if settings["split_size"] is None
        else parse_size(settings["split_size"], name="split_size"),
        memory_bytes=_memory(settings["memory"], workers, config),
        files=resolve_files([*first.files, *strings_of(settings["files"] or (), "files")]),
        skip_max=None if settings["on_error"] is None else parse_on_error(settings["on_error"]),
        overwrite=bool(settings["overwrite"]),
        backup_tasks=bool(settings["backup_tasks"]),
        accelerate=bool(settings["accelerate"]),
        seed=_whole("seed", settings["seed"], least=0, most=2**63 - 1) or 0,
        config=config,
    )
    if first.check is not None:
        first.check(request.reducers, request.input_format, request.output_format)
    return request


def _inputs(given: Any, first: LoadedJob) -> tuple[str, ...]:
    inputs = strings_of(given, "input") if given is not None else first.input
    if first.plan_splits is not None:
        if inputs:
            raise UsageError(f"{first.name} reads nothing, and was given {' '.join(inputs)} to read")
    elif not inputs:
        raise UsageError(
            f"{first.name}: what to read is not said; name a file, a folder, a glob or a list of them (input=, or on "
            "the command line after the job)"
        )
    for name in inputs:
        refuse_undecodable(name)
        _refuse_own_memory(name)
    return inputs


def _output(given: Any, last: LoadedJob) -> str:
    output = last.output if given is None else given
    if not isinstance(output, str | os.PathLike) or not os.fspath(output):
        found = "" if output is None else f", not {output!r}"
        raise UsageError(
            f"{last.name}: where to write is not said; name a folder (output=, or --out on the command line){found}"
        )
    text = os.fspath(output)
    if not isinstance(text, str):
        raise UsageError(f"output={output!r} must be text, not bytes")
    refuse_undecodable(text)
    _refuse_own_memory(text)
    # Absolute now: the program may change its directory while the job runs.
    return text if is_remote(text) else absolute_path(text)


def _refuse_own_memory(name: str) -> None:
    """fsspec's memory:// is another one in every process: workers would find nothing there, and what they write to it
    would be gone with them."""
    if is_remote(name) and "memory://" in name:
        raise UsageError(
            f"{name} lies in the memory of this process, which no worker can see; use a local directory (one in "
            "/dev/shm is in memory too) or a store that all processes reach"
        )


def _chosen_output(given: Any, last: LoadedJob) -> OutputFormat:
    if last.write is not None:
        raise UsageError(f"{last.name} has its own `write`; output_format={given!r} would never be used")
    return output_format_of(given)


def _workers(given: Any) -> int:
    workers = _whole("workers", given, least=1, most=WORKERS_MAX)
    if workers is not None:
        return workers
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Not on this system.
        return os.cpu_count() or 1


def _memory(given: Any, workers: int, config: MapReduceConfig) -> int:
    if given is None:
        return max(config.memory_bytes, workers * WORKER_MEMORY_BYTES_DEFAULT)
    memory_bytes = parse_size(given, name="memory")
    if memory_bytes < workers * WORKER_MEMORY_BYTES_MIN:
        raise UsageError(
            f"memory={given!r} is {format_size(memory_bytes // workers)} for each of {workers} workers; at least "
            f"{format_size(WORKER_MEMORY_BYTES_MIN)} is needed: give {format_size(workers * WORKER_MEMORY_BYTES_MIN)}, "
            "or fewer workers"
        )
    return memory_bytes


def _whole(name: str, given: Any, *, least: int, most: int) -> int | None:
    if given is not None and (not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most):
        raise UsageError(f"{name}={given!r} must be a whole number from {least} to {most}")
    return given


def _place_of(name: str) -> str:
    """One name for each place; of a URL nothing more is known than its text."""
    return name.rstrip("/") if is_remote(name) else os.path.realpath(absolute_path(name))


def _holds(directory: str, path: str) -> bool:
    return path == directory or path.startswith(directory.rstrip(os.sep) + os.sep)
