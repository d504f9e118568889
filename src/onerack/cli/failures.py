"""From an error to what the shell sees: a message, an exit code, with --json an object.

The idea: an expected error is an answer, not a crash; it is shown as its message alone, for the message already says
what was expected, what was found and what to do (errors.py). A traceback of ours is shown only for a bug of ours.

    0    done
    1    the job ran and failed; a call ended without a result; a disk was full; stored bytes were damaged
    2    usage: something on the command line, in the job file or about the inputs is wrong; nothing was started
    130  interrupted with Ctrl-C; nothing was left behind

A call that failed says besides whether it was executed: yes, no or unknown.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from onerack.errors import CallError, JobFailed, JobInterrupted, OnerackError, UsageError

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130


def exit_code_of(error: BaseException) -> int:
    """The exit code that tells a script what kind of failure this is."""
    if isinstance(error, UsageError):
        return USAGE
    if isinstance(error, JobInterrupted | KeyboardInterrupt):
        return INTERRUPTED
    return FAILED


def as_object(error: BaseException) -> dict[str, Any]:
    """What --json prints for an error."""
    described: dict[str, Any] = {
        "error": str(error) or type(error).__name__,
        "kind": type(error).__name__,
        "exit_code": exit_code_of(error),
    }
    if isinstance(error, JobFailed):
        described["cause"] = error.cause
        described["job_directory"] = error.job_directory
    elif isinstance(error, CallError):
        described["cause"] = error.cause
        described["executed"] = executed(error)
    return described


def executed(error: CallError) -> str:
    """The three values of an outcome, in words."""
    return {True: "yes", False: "no", None: "unknown"}[error.executed]


def harmless(message: str) -> str:
    """Escapes what a terminal could take for a command: messages quote files, and what servers say."""
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode() for each in message
    )


def report(error: OnerackError | KeyboardInterrupt, *, as_json: bool) -> int:
    """Shows an expected error and returns the exit code."""
    if as_json:
        print(json.dumps(as_object(error)))
    else:
        message = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        print(f"onerack: {harmless(message)}", file=sys.stderr)
        if isinstance(error, CallError) and not isinstance(error, JobFailed):
            print(f"executed: {executed(error)}", file=sys.stderr)
    return exit_code_of(error)
