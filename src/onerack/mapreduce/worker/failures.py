"""From an exception to a `Failure`: what ended an attempt, in the words of messages.py.

The idea: the master decides by `cause` and `final` alone; the user reads `message` and `traceback`. So this is the
one place where exceptions are sorted. Whatever user code may raise is sorted here too, `SystemExit` included: a task
that calls `sys.exit` has failed, and must not take its worker along.

The rule: `final` only where no other attempt can end otherwise: the input itself is broken, the disk is full, the
program does not load. What user code raised may be an accident of its surroundings (a network, a full memory), so it
is not final; that a *record* is bad is decided where it was tried twice (bad_records.py).
"""

from __future__ import annotations

import errno
import traceback

import msgspec

from onerack.errors import InputError, OnerackError, StorageFull, UnserialisableValue
from onerack.mapreduce.inputs.records import RecordUnreadable
from onerack.mapreduce.messages import Failure, FailureCause, RecordAt
from onerack.mapreduce.worker.traceback import shortened, user_traceback

MESSAGE_CHARS_MAX = 1_000
MESSAGE_LINES_MAX = 10


class AttemptEnded(Exception):
    """The attempt is over, and `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failure_of(error: BaseException, record: RecordAt | None = None) -> Failure:
    """What `error` means for the attempt. `record`: on which record it came up, if that is known."""
    if isinstance(error, AttemptEnded):
        return error.failure
    if isinstance(error, RecordUnreadable):
        return Failure("input", str(error), record=error.record, final=True)
    if isinstance(error, InputError):
        return Failure("input", str(error), record=record, final=True)
    if isinstance(error, StorageFull):
        return Failure("storage_full", str(error), final=True)
    return Failure(cause_of(error), message_of(error), user_traceback(error), record)


def bad_record(error: BaseException, record: RecordAt) -> Failure:
    """User code failed on `record` as often as it was tried: no other attempt can help."""
    return msgspec.structs.replace(failure_of(error, record), record=record, final=True)


def cause_of(error: BaseException) -> FailureCause:
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        return "exit"
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, UnserialisableValue):
        return "unserialisable"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "storage_full"
    return "exception"


def message_of(error: BaseException) -> str:
    """One sentence: the exception's own last line, or what it means."""
    if isinstance(error, SystemExit):
        return f"user code called sys.exit({'' if error.code is None else repr(error.code)}); a task must return"
    if isinstance(error, MemoryError):
        return f"out of memory{f' ({error})' if str(error) else ''}; the job's memory limit can be raised (--memory)"
    if isinstance(error, OnerackError):
        text = str(error)
    else:
        try:
            text = "".join(traceback.format_exception_only(error)).strip()
        except Exception:  # An exception class may do anything.
            text = type(error).__name__
    return shortened(text, chars=MESSAGE_CHARS_MAX, lines=MESSAGE_LINES_MAX)
