"""One job, from the plan to the committed output: the procedure behind `run`.

    nursery starts | plan the input | for each stage: (sample), run on the rack | commit | history

The idea: everything that can be refused is refused before anything is started; the slow start of the workers runs
beside the planning; the stages of a chain share the workers.

The rule: whatever ends the job (done, failed, interrupted, a bug), the order is the same: first every process is ended,
then what they wrote is removed, then the history is told. So no half output is left, and nobody can write one later.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from onerack.config import MIB
from onerack.errors import JobInterrupted, StorageFull, storing
from onerack.mapreduce import history
from onerack.mapreduce.context import add_counts
from onerack.mapreduce.explanation import error_of
from onerack.mapreduce.inputs.sources import is_remote, local_path
from onerack.mapreduce.interruption import Interruption, Stopped
from onerack.mapreduce.job_lock import make_lock
from onerack.mapreduce.leftovers import remove_bulk, remove_leftovers
from onerack.mapreduce.loaded import LoadedJob
from onerack.mapreduce.messages import (
    InputFormat,
    JobEnded,
    JobSpec,
    JobStatus,
    Metrics,
    OutputFormat,
)
from onerack.mapreduce.nursery_process import NurseryProcess
from onerack.mapreduce.request import Request
from onerack.mapreduce.result import JobResult

if TYPE_CHECKING:
    from onerack.mapreduce.inputs.plan import Plan
    from onerack.mapreduce.outputs.place import Destination
    from onerack.mapreduce.server import EmbeddedRack

PARTITION_BYTES = 64 * MIB
"""By default there are so many reduce partitions that one has about this much of the input."""
COMPILE_BYTES_MIN = 64 * MIB
"""Loading the compiled kernels takes longer than a smaller job could save."""
_SAVE_INTERVAL_S = 1.0
_CLOSE_GRACE_S = 0.5
_SHUFFLE = "shuffle"
_PARTS = "parts"
_SAMPLE = "sample"
_PAIRS_IN = InputFormat("pairs")
_PAIRS_OUT = OutputFormat("pairs")


class JobRun:
    """One execution of a job. `execute` ends `nursery` in every case."""

    def __init__(
        self, request: Request, nursery: NurseryProcess, on_status: Callable[[JobStatus], None] | None
    ) -> None:
        self._request = request
        self._on_status = on_status
        self._began = time.monotonic()
        self._saved_at = float("-inf")
        self._pictures: dict[str, JobStatus] = {}
        """The last one of each stage."""
        self._submitted = False
        self._accelerated = False
        self._nursery = nursery
        self._rack: EmbeddedRack | None = None
        self._destination: Destination | None = None
        self.job, self._directory = history.create_job()
        self._lock = make_lock(self._directory)
        self._record = history.JobRecord(
            job=self.job,
            name=request.name,
            state="running",
            pid=os.getpid(),
            began_at=time.time(),
            inputs=request.inputs,
            output=request.output,
            place="" if is_remote(request.output) else os.path.realpath(local_path(request.output)),
            workers=request.workers,
            memory_bytes=request.memory_bytes,
            directory=str(self._directory),
        )

    def execute(self) -> JobResult:
        """Raises: UsageError (and its kinds), JobFailed, JobInterrupted, StorageFull, NotExecuted."""
        with Interruption() as interruption:
            try:
                return self._run(interruption)
            except (KeyboardInterrupt, Stopped) as stop:
                self._abandon("interrupted", "")
                name = stop.signal_name if isinstance(stop, Stopped) else "SIGINT"
                message = f"job {self.job} was interrupted by {name}; nothing of its output is left"
                raise JobInterrupted(message) from None
            except BaseException as error:
                self._abandon("failed", str(error) or type(error).__name__, full=isinstance(error, StorageFull))
                raise
            finally:
                self._lock.release()

    # ---------------------------------------------------------------------------------------------- the good way

    def _run(self, interruption: Interruption) -> JobResult:
        request = self._request
        # Imported only now: they bring asyncio, numpy and pyarrow, and beside us the nursery imports as much.
        from onerack.mapreduce.outputs.destination import open_destination
        from onerack.mapreduce.server import EmbeddedRack

        remove_leftovers(request.config)
        self._rack = EmbeddedRack(self._nursery, self._directory / "workers", request.config)
        self._tell()  # Before the first trace outside the job's own directory: if we are killed, others know of it.
        self._destination = open_destination(request.output, overwrite=request.overwrite, job=self.job)
        planned = self._plan()
        self._tell(warnings=planned.warnings)
        ended = self._run_stages(planned)
        self._rack.close(_CLOSE_GRACE_S)
        with interruption.shielded():
            return self._commit(ended)

    def _plan(self) -> Plan:
        """The splits of the first stage."""
        from onerack.mapreduce.inputs.plan import Plan, plan

        request = self._request
        generate = request.stages[0].plan_splits
        if generate is not None:
            splits = generate(request.program.arguments, request.split_bytes, request.workers)
            return Plan(splits, sum(split.size_bytes for split in splits), 0)
        planned = plan(request.inputs, request.input_format, split_bytes=request.split_bytes, slots=request.workers)
        request.check_apart(planned)
        return planned

    def _run_stages(self, planned: Plan) -> list[JobEnded]:
        """Every stage, each reading what the one before it has written."""
        ended: list[JobEnded] = []
        for number, stage in enumerate(self._request.stages):
            if number:
                folder = self._stage_directory(number - 1) / _PARTS
                planned = self._plan_parts([str(folder / part.path) for part in ended[-1].parts])
            self._accelerate(stage, planned)
            spec = self._spec(number, stage, planned)
            if stage.ranged and spec.reducers > 1:
                spec = msgspec.structs.replace(spec, splitters=self._splitters(spec))
            ended.append(self._run_stage(spec))
            if number:
                shutil.rmtree(self._stage_directory(number - 1) / _PARTS, ignore_errors=True)
            shutil.rmtree(Path(spec.directory, _SHUFFLE), ignore_errors=True)
        return ended

    def _accelerate(self, stage: LoadedJob, planned: Plan) -> None:
        """Has the compiled kernels loaded, once, when the stage is worth it. Workers made before load their own."""
        assert self._rack is not None
        if not (self._request.accelerate and stage.uses_kernels) or self._accelerated:
            return
        if planned.total_bytes > COMPILE_BYTES_MIN:
            self._accelerated = True
            self._rack.compile()

    def _plan_parts(self, parts: list[str]) -> Plan:
        """The splits of what a stage has written. A part without a single pair may have no bytes at all."""
        from onerack.mapreduce.inputs.plan import Plan, plan

        filled = [part for part in parts if os.path.getsize(part)]
        if not filled:
            return Plan((), 0, 0)
        request = self._request
        return plan(filled, _PAIRS_IN, split_bytes=request.split_bytes, slots=request.workers)

    def _spec(self, number: int, stage: LoadedJob, planned: Plan) -> JobSpec:
        request = self._request
        is_last = number == len(request.stages) - 1
        directory = self._stage_directory(number)
        with storing(str(directory)):
            for name in ("logs", _SHUFFLE, _PARTS):
                (directory / name).mkdir(parents=True, exist_ok=True)
        assert self._destination is not None
        spec = JobSpec(
            job=self.job if number == 0 else f"{self.job}.{number + 1}",
            name=stage.name,
            program=request.program,
            stage=number,
            input=request.input_format if number == 0 else _PAIRS_IN,
            output=request.output_format if is_last else _PAIRS_OUT,
            splits=planned.splits,
            reducers=self._reducers(stage, planned),
            directory=str(directory),
            staging=self._destination.staging if is_last else str(directory / _PARTS),
            memory_bytes=request.worker_memory_bytes,
            skip_max=stage.skip_max if request.skip_max is None else request.skip_max,
            backup_tasks=request.backup_tasks,
            files=request.files,
            seed=request.seed,
            config=request.config,
            accelerate=self._accelerated,
        )
        path = directory / "spec.msgpack"
        with storing(str(path)):
            path.write_bytes(msgspec.msgpack.encode(spec))
        return spec

    def _reducers(self, stage: LoadedJob, planned: Plan) -> int:
        chosen = self._request.reducers
        if chosen is None:
            chosen = stage.reducers
        if chosen is not None:
            return chosen
        if stage.is_map_only:
            return 0
        return max(self._request.workers, -(-planned.total_bytes // PARTITION_BYTES))

    def _run_stage(self, spec: JobSpec, *, shown: bool = True) -> JobEnded:
        """Runs one stage. Raises what it ended with, unless it is done."""
        assert self._rack is not None
        workers = min(self._request.workers, max(len(spec.splits), spec.reducers, 1))
        self._submitted = True
        with storing(spec.directory):  # For its trace and the workers' logs.
            ended = self._rack.run(spec, workers=workers, on_status=self._show if shown else _ignore)
        if ended.outcome != "done":
            raise error_of(ended, name=spec.name, directory=spec.directory)
        return ended

    def _splitters(self, spec: JobSpec) -> tuple[bytes, ...]:
        """The borders of the range partitions, from a sampling stage."""
        from onerack.mapreduce.sampling import sampled_keys, sampling_stage, splitters_of

        directory = Path(spec.directory, _SAMPLE)
        with storing(str(directory)):
            (directory / "logs").mkdir(parents=True)
        ended = self._run_stage(sampling_stage(spec, str(directory)), shown=False)
        splitters = splitters_of(sampled_keys(directory / part.path for part in ended.parts), spec.reducers)
        shutil.rmtree(directory)
        return splitters

    def _commit(self, ended: list[JobEnded]) -> JobResult:
        assert self._destination is not None
        last = ended[-1]
        quarantined = tuple(record for stage in ended for record in stage.quarantined)
        counters = _added(stage.counters for stage in ended)
        seconds = time.monotonic() - self._began
        metrics = _chained([stage.metrics for stage in ended])
        parts = self._destination.commit(
            last.parts,
            {
                "job": self.job,
                "name": self._request.name,
                "seconds": round(seconds, 3),
                "counters": counters,
            },
            quarantined,
        )
        self._tell(
            state="done",
            seconds=seconds,
            parts=tuple(parts),
            counters=counters,
            partition_bytes=last.partition_bytes,
            quarantined=len(quarantined),
            stages=tuple(self._pictures.values()),
        )
        self._sweep()
        return JobResult(
            job=self.job,
            name=self._request.name,
            output=self._request.output,
            parts=tuple(parts),
            format=self._request.output_format,
            counters=counters,
            metrics=metrics,
            seconds=seconds,
            partition_bytes=last.partition_bytes,
            retries=sum(picture.attempts_failed for picture in self._pictures.values()),
            workers_lost=sum(picture.workers_lost for picture in self._pictures.values()),
            quarantined=quarantined,
            warnings=self._record.warnings,
            directory=str(self._directory),
        )

    # ---------------------------------------------------------------------------------------------- every other way

    def _abandon(self, state: Literal["failed", "interrupted"], error: str, *, full: bool = False) -> None:
        """Ends all processes, then removes what they have written.

        A failed job keeps what `onerack debug` needs, unless a full disk is why it failed.
        """
        if self._rack is not None:
            self._rack.close()
        else:
            self._nursery.stop(0.0, ())
        if self._destination is not None:
            self._destination.abort()
        if not self._submitted:
            # Refused before anything ran: the caller has the reason, and the history has nothing to show.
            shutil.rmtree(self._directory, ignore_errors=True)
            return
        if state == "interrupted" or full:
            self._sweep()
        shutil.rmtree(self._directory / "workers", ignore_errors=True)
        with suppress(OSError):  # A full disk must not hide why the job failed.
            self._tell(
                state=state, seconds=time.monotonic() - self._began, error=error, stages=tuple(self._pictures.values())
            )

    def _sweep(self) -> None:
        """Leaves logs and journals; removes the rest."""
        remove_bulk(self._directory)
        for number in range(len(self._request.stages)):
            _remove_empty(self._stage_directory(number) / "logs")

    def _stage_directory(self, number: int) -> Path:
        return self._directory if number == 0 else self._directory / f"stage-{number + 1}"

    # ---------------------------------------------------------------------------------------------- for people

    def _show(self, picture: JobStatus) -> None:
        self._pictures[picture.job] = picture
        if time.monotonic() - self._saved_at >= _SAVE_INTERVAL_S:
            self._saved_at = time.monotonic()
            self._tell(seconds=self._saved_at - self._began, stages=tuple(self._pictures.values()))
        if self._on_status is not None:
            self._on_status(picture)

    def _tell(self, **changes: Any) -> None:
        """Changes the job's record in the history."""
        self._record = msgspec.structs.replace(self._record, **changes)
        history.save_job(self._record)


def _remove_empty(logs: Path) -> None:
    """Removes the logs of attempts that printed nothing (the killed ones could not do it), and the folder if it can."""
    with suppress(OSError):
        for log in logs.iterdir():
            if log.stat().st_size == 0:
                log.unlink()
        logs.rmdir()


def _ignore(picture: JobStatus) -> None:
    """Sampling is over in a moment, and not what people wait for."""


def _added(counters: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in counters:
        add_counts(total, each)
    return total


def _chained(stages: list[Metrics]) -> Metrics:
    """What went into the first stage, what came out of the last, and the work of all."""
    return msgspec.structs.replace(
        stages[-1],
        records_in=stages[0].records_in,
        bytes_in=stages[0].bytes_in,
        bytes_shuffled=sum(stage.bytes_shuffled for stage in stages),
        spills=sum(stage.spills for stage in stages),
        seconds=sum(stage.seconds for stage in stages),
        memory_bytes_max=max(stage.memory_bytes_max for stage in stages),
    )
