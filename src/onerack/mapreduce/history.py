"""History: the jobs directory, where every job leaves what people ask about later.

    $ONERACK_HOME/jobs/20261123-101502-3f9a/        (default: $XDG_STATE_HOME/onerack, else ~/.local/state/onerack)
        status.json         the job as people see it: `onerack history`, `onerack show`
        spec.msgpack        the stage's JobSpec   \\
        journal.log         what its master decided  > what `onerack debug` needs
        shuffle/            kept only when the job failed /
        logs/m17.1.log      what attempt 1 of map task 17 printed
        lock                held by the process that runs the job (job_lock.py)
        stage-2/ ...        spec, journal, shuffle and logs of a further stage

The idea: plain files that a person can read without us. The rule: `status.json` is replaced atomically, so that a
reader always sees a whole one, and a job whose process is gone is never shown as running.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal

import msgspec

from onerack.errors import UsageError, storing
from onerack.mapreduce.job_lock import is_held
from onerack.mapreduce.messages import JobStatus

JobState = Literal["running", "done", "failed", "interrupted", "lost"]

_STATUS = "status.json"
_CREATE_TRIES = 16


class JobRecord(msgspec.Struct, kw_only=True, frozen=True):
    """One job in the history. Times are seconds since 1970."""

    job: str
    name: str
    state: JobState
    """`lost`: its process ended without a word (kill -9, power)."""
    pid: int
    began_at: float
    seconds: float = 0.0
    inputs: tuple[str, ...] = ()
    output: str = ""
    place: str = ""
    """The output's absolute path, for whoever tidies up after a killed job; empty when it is not on this machine."""
    workers: int = 0
    memory_bytes: int = 0
    stages: tuple[JobStatus, ...] = ()
    """One picture for each stage that has begun."""
    parts: tuple[str, ...] = ()
    counters: dict[str, int] = {}
    partition_bytes: tuple[int, ...] = ()
    quarantined: int = 0
    warnings: tuple[str, ...] = ()
    """What the planner found odd about the input."""
    error: str = ""
    directory: str = ""


def jobs_directory() -> Path:
    """Where jobs are kept; made if it is not there.

    Raises: UsageError: it cannot be made.
    """
    home = os.environ.get("ONERACK_HOME")
    if not home:
        state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        home = os.path.join(state, "onerack")
    path = Path(home).absolute() / "jobs"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{path}: the jobs directory cannot be made ({error.strerror}); set ONERACK_HOME to a writable folder"
        ) from error
    return path


def create_job() -> tuple[str, Path]:
    """A new job's id and its own empty directory. Ids sort by time of submission.

    Raises: UsageError: the jobs directory is not writable.
    """
    jobs = jobs_directory()
    for _ in range(_CREATE_TRIES):
        job = _id_at(time.time_ns())
        try:
            (jobs / job).mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise UsageError(
                f"{jobs}: not writable ({error.strerror}); set ONERACK_HOME to a writable folder"
            ) from error
        return job, jobs / job
    raise UsageError(f"{jobs}: no free job id after {_CREATE_TRIES} tries")


def _id_at(now_ns: int) -> str:
    """The second in UTC, and which 65,536th part of it: two jobs of one second sort by time, too."""
    second, rest_ns = divmod(now_ns, 10**9)
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(second))}-{(rest_ns << 16) // 10**9:04x}"


def save_job(record: JobRecord) -> None:
    """Replaces the job's status.json, atomically. Raises: StorageFull."""
    path = Path(record.directory) / _STATUS
    unfinished = path.with_suffix(".json.tmp")
    with storing(str(path)):
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
        unfinished.replace(path)


def read_record(directory: Path) -> JobRecord:
    """The record as it is stored. Raises: OSError, msgspec.DecodeError."""
    record = msgspec.json.decode((directory / _STATUS).read_bytes(), type=JobRecord)
    # The jobs directory may have been moved since.
    return msgspec.structs.replace(record, directory=str(directory))


def list_jobs() -> list[JobRecord]:
    """All jobs, the newest first. Folders that are no jobs, or hold a status of another version, are left out."""
    records = []
    for entry in sorted(jobs_directory().iterdir(), reverse=True):
        try:
            records.append(_read(entry))
        except (OSError, msgspec.DecodeError):
            continue
    return sorted(records, key=lambda record: record.began_at, reverse=True)


def load_job(job: str) -> JobRecord:
    """One job, by its id, the beginning of its id, its directory, or `last`.

    Raises: UsageError: there is no such job, or more than one.
    """
    if os.sep in job or os.path.isfile(os.path.join(job, _STATUS)):
        return _load(Path(job).absolute())
    if job == "last":
        records = list_jobs()
        if not records:
            raise UsageError(f"no job has been run yet ({jobs_directory()} is empty)")
        return records[0]
    found = sorted(path for path in jobs_directory().iterdir() if path.name.startswith(job) and job)
    exact = [path for path in found if path.name == job]
    if len(exact or found) == 1:
        return _load((exact or found)[0])
    if found:
        raise UsageError(f"{job!r} could be any of {', '.join(path.name for path in found[:8])}: write more of it")
    raise UsageError(f"no job {job!r} in {jobs_directory()}; `onerack history` lists them")


def _load(directory: Path) -> JobRecord:
    try:
        return _read(directory)
    except FileNotFoundError as error:
        raise UsageError(f"{directory} is no job's directory: it has no {_STATUS}") from error
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"{directory / _STATUS} cannot be read: {error}") from error


def _read(directory: Path) -> JobRecord:
    record = read_record(directory)
    if record.state == "running" and not is_held(directory):
        return msgspec.structs.replace(record, state="lost")
    return record
