"""Outcomes: how a call's end becomes a result or an exception, and an exception of a handler a fault on the wire.

The rule: the class of the exception says whether the call was executed; `cause` says why it ended so.
"""

from __future__ import annotations

import traceback
from pathlib import Path

import msgspec

import onerack
from onerack.codec import as_utf8
from onerack.errors import ApplicationError, CallError, NotExecuted, Overloaded, Unknown
from onerack.rpc.core.client import Outcome
from onerack.rpc.core.sessions import Reply
from onerack.rpc.messages import Fault, Status

MESSAGE_CHARS_MAX = 4000
TRACEBACK_CHARS_MAX = 10_000

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Fault)
_OWN_CODE = str(Path(onerack.__file__).parent)


def error_of(outcome: Outcome, method: str) -> CallError:
    """The exception for a call that ended without a result. Requires: the status is not OK."""
    fault = _fault(outcome)
    cause = outcome.cause or fault.cause
    text = f"{method}: {fault.message or outcome.message or cause}"
    if outcome.status is None:
        return Unknown(f"{text}; it may have been executed", cause=cause)
    if outcome.status == Status.FAILED:
        shown = f"{method} raised {fault.type}: {fault.message}" if fault.type else text
        return ApplicationError(shown, cause=cause, type=fault.type, traceback=fault.traceback)
    if outcome.status == Status.OVERLOADED:
        return Overloaded(f"{text}; it was not executed", cause=cause, retry_after_s=fault.retry_after_ms / 1000)
    return NotExecuted(f"{text}; it was not executed", cause=cause)


def reply_of(error: BaseException, *, show_traceback: bool) -> Reply:
    """What a handler's exception is to its caller. Never fails, whatever the exception's `__str__` does."""
    cause = error.cause if isinstance(error, CallError) else "error"
    try:
        message = str(error)
        shown = _traceback(error) if show_traceback else ""
    except Exception as failure:
        message, shown = f"<its text cannot be made: {type(failure).__name__}>", ""
    fault = Fault(
        as_utf8(cause)[:100], as_utf8(message)[:MESSAGE_CHARS_MAX], type(error).__name__, traceback=as_utf8(shown)
    )
    return Reply(Status.FAILED, _ENCODER.encode(fault))


def _traceback(error: BaseException) -> str:
    """The handler's own frames."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_OWN_CODE)]
    return "".join(traceback.format_list(frames))[-TRACEBACK_CHARS_MAX:]


def _fault(outcome: Outcome) -> Fault:
    if not outcome.body:
        return Fault(outcome.cause or "unknown", outcome.message)
    try:
        return _DECODER.decode(outcome.body)
    except msgspec.DecodeError:
        return Fault("malformed", "the server gave no readable reason")
