"""Outcomes: what a client is told when a call ended in one of our errors.

The idea: our errors say whether a command was executed; etcd's clients understand texts and codes only. So every cause
has its text here.

The rule: what may have been executed is answered as timed out, which clients never take for "not done". The reverse is
allowed: of what was surely not executed a client may hear that nobody knows.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

from onerack.errors import CallError, NotExecuted
from onerack.kv.core import KvError
from onerack.kv.core.errors import (
    INTERNAL,
    LEADER_CHANGED,
    NO_LEADER,
    NO_SPACE,
    REQUEST_TOO_LARGE,
    STOPPED,
    TIMEOUT,
    TOO_MANY_REQUESTS,
    Refused,
)
from onerack.kv.server.grpc import Call

_NOT_EXECUTED: Final = {
    "no_leader": NO_LEADER,
    "not_leader": LEADER_CHANGED,
    "leader_changed": LEADER_CHANGED,
    "transferring": LEADER_CHANGED,
    "stopping": STOPPED,
    "overloaded": TOO_MANY_REQUESTS,
    "too_large": REQUEST_TOO_LARGE,
    "storage_full": NO_SPACE,
}
_BUG: Final = KvError(INTERNAL, "internal error")

_Answer = TypeVar("_Answer")


def refusal_of(error: object) -> KvError:
    """The words for whatever a call has ended with, other than its response."""
    if isinstance(error, KvError):
        return error
    if isinstance(error, Refused):
        return error.error
    if isinstance(error, NotExecuted):
        return _NOT_EXECUTED.get(error.cause, TIMEOUT)
    if isinstance(error, CallError):
        return TIMEOUT
    return _BUG


def answer(call: Call, result: Any) -> None:
    """Replies with the machine's response, or says why there is none."""
    if type(result) is bytes:
        call.reply(result)
    else:
        refusal = refusal_of(result)
        call.fail(refusal.code, refusal.text)


def granted(result: _Answer | KvError) -> _Answer:
    """The response. Raises: Refused: there is none."""
    if isinstance(result, KvError):
        raise Refused(result)
    return result
