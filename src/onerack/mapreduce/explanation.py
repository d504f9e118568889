"""Explanation: what the user reads when a job has failed.

The idea: first the user's own traceback, because that is where the cause nearly always is; then the task, the record
with its file and offset, and how it looks; last the command that runs that one task again under a debugger.

The rule: nothing of onerack's own frames, and no word that sends the reader to a log he need not read.
"""

from __future__ import annotations

import shlex

from onerack.errors import JobFailed, OnerackError, StorageFull
from onerack.mapreduce.messages import AttemptId, Failure, JobEnded, RecordAt

_FULL = StorageFull("").args[0]
_LOGGED = ("exit", "crash", "killed", "memory", "stall")
"""Causes for which what the attempt printed may hold the only trace."""


def error_of(ended: JobEnded, *, name: str, directory: str) -> OnerackError:
    """The error to raise for a job that ended without output. `directory` is the stage's."""
    failure = ended.failure or Failure("lost", "the job ended without saying why")
    if failure.cause == "storage_full" and failure.message.startswith(_FULL):
        return StorageFull(failure.message.removeprefix(_FULL))
    text = explain(failure, ended.failed_attempt, name=name, directory=directory)
    return JobFailed(text, cause=failure.cause, job_directory=directory)


def explain(failure: Failure, attempt: AttemptId | None, *, name: str, directory: str) -> str:
    """The message, in several lines."""
    lines = []
    if failure.traceback:
        lines += [failure.traceback.rstrip(), ""]
    if attempt is None:
        lines.append(f"job {name} failed: {failure.message}")
        return "\n".join(lines)
    task = f"{attempt.kind} task {attempt.task}, attempt {attempt.number}"
    lines.append(f"job {name} failed in {task} ({failure.cause}): {failure.message}")
    if failure.record is not None:
        lines.append(f"  record: {describe(failure.record)}")
    if failure.cause in _LOGGED:
        lines.append(f"  what it printed: {directory}/logs/{attempt}.log")
    if failure.traceback or failure.cause in _LOGGED:  # Else it was no code of the user's that failed.
        lines.append(f"  run this task again under pdb: onerack debug {shlex.quote(directory)} --task {attempt.task}")
    return "\n".join(lines)


def describe(record: RecordAt) -> str:
    """`books/a.txt, byte 4711, record 12: 'It was'`."""
    place = [record.path] if record.path else []
    if record.offset >= 0:
        place.append(f"byte {record.offset}")
    place.append(f"number {record.number}")
    return ", ".join(place) + (f": {record.preview}" if record.preview else "")
