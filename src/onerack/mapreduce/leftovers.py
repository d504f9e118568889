"""Leftovers: what dead and failed jobs keep on the disk, and when it is removed.

    a process killed with -9    its staging beside the output, its shuffle, its lock      the next `run` or `history`
    a failed job                its shuffle, for `onerack debug`: the newest few only     the next `run` or `history`
    every job                   record, spec, journal, logs: the newest 1,000 jobs        the next `run` or `history`

The idea: a process that is killed cannot tidy up, so its successors do. The lock in the job's directory (job_lock.py)
tells the dead from the living; whoever tidies holds the dead job's lock meanwhile, so two never tidy the same job.

The rules: a living job is never touched. Outside the jobs directory only names that carry the dead job's own id are
removed, on this machine only: a remote store may be slow, or gone, and a killed job's `_staging.<job>` stays there.
Tidying never fails anybody's job: what cannot be removed now is tried again the next time.
"""

from __future__ import annotations

import re
import shutil
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from onerack.config import MapReduceConfig
from onerack.errors import OnerackError
from onerack.mapreduce import history, job_lock
from onerack.mapreduce.history import JobRecord
from onerack.mapreduce.job_lock import take_over

BULKY = ("shuffle", "parts", "sample", "workers")
"""Folders of a stage that may be as large as the input."""
_JOB_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
_STAGE_NAMES = "stage-*"
_LOST = "its process was killed, or the machine went down, before the job had ended; what it left was removed"


def remove_leftovers(config: MapReduceConfig) -> None:
    """Buries the dead, then trims what the failed and the old keep."""
    jobs = _job_directories()
    for job in jobs:
        if (job / job_lock.FILE).exists():
            with suppress(OSError, OnerackError, msgspec.MsgspecError):
                _bury(job)
    ended = [job for job in jobs if not (job / job_lock.FILE).exists()]
    for job in [job for job in ended if _is_bulky(job)][config.debuggable_jobs_max :]:
        remove_bulk(job)
    for job in ended[config.history_jobs_max :]:
        shutil.rmtree(job, ignore_errors=True)


def remove_bulk(job: Path) -> None:
    """Leaves record, specs, journals and logs of a job."""
    for stage in (job, *job.glob(_STAGE_NAMES)):
        for name in BULKY:
            shutil.rmtree(stage / name, ignore_errors=True)


def _job_directories() -> list[Path]:
    """The newest first: a job's name begins with its time. Whatever else lies there is not ours."""
    entries = history.jobs_directory().iterdir()
    return sorted((entry for entry in entries if _JOB_NAME.fullmatch(entry.name)), reverse=True)


def _is_bulky(job: Path) -> bool:
    return any((stage / name).exists() for stage in (job, *job.glob(_STAGE_NAMES)) for name in BULKY)


def _bury(job: Path) -> None:
    """Tidies up after the job if its process is gone. Raises, and leaves the rest to the next one."""
    lock = take_over(job)
    if lock is None:
        return
    with closing(lock):
        try:
            record = history.read_record(job)
        except FileNotFoundError:
            shutil.rmtree(job)  # It was killed before it had a name.
            return
        if record.state in ("running", "lost"):
            _recover(record)
            remove_bulk(job)
            history.save_job(msgspec.structs.replace(record, state="lost", error=_LOST))
        lock.release()


def _recover(record: JobRecord) -> None:
    from onerack.mapreduce.outputs.destination import recover  # Brings pyarrow, and is rarely needed.

    if record.place:
        recover(record.place, record.job)
