"""Replies: the answers that a server core gives by itself, without asking a handler."""

from __future__ import annotations

import msgspec

from onerack.rpc.core.sessions import Reply
from onerack.rpc.messages import Fault, Status

_ENCODER = msgspec.msgpack.Encoder()


def fault_reply(status: Status, cause: str, message: str, *, retry_after_ms: int = 0) -> Reply:
    """An answer that is no result."""
    return Reply(status, _ENCODER.encode(Fault(cause, message, retry_after_ms=retry_after_ms)))


REBOOTED = fault_reply(Status.REBOOTED, "rebooted", "the server was restarted since the session was opened")
EXPIRED = fault_reply(Status.EXPIRED, "expired", "the session was silent for longer than its lease, or closed")
FALSE_RETRY = fault_reply(
    Status.FALSE_RETRY, "false_retry", "this session and sequence number were used for another call before"
)
NO_METHOD = fault_reply(Status.REFUSED, "no_method", "no method has this number")
NOT_DURABLE = fault_reply(
    Status.REFUSED, "not_durable", "the server keeps no durable log, so it cannot run a call exactly once"
)
NOT_REPEATABLE = fault_reply(
    Status.REFUSED, "mode", "only a plain `def` without streams and attachments can be run exactly once"
)
NO_SEQUENCE = fault_reply(Status.REFUSED, "malformed", "the sequence number lies outside the session's window")
LATE = fault_reply(Status.REFUSED, "deadline", "the deadline had passed before the handler began")
CANCELLED = fault_reply(Status.REFUSED, "cancelled", "the call was cancelled before the handler began")
OVERLOADED = fault_reply(Status.OVERLOADED, "overloaded", "too many calls are waiting", retry_after_ms=50)
REPLIES_FULL = fault_reply(
    Status.OVERLOADED, "overloaded", "the replies that clients have not acknowledged fill the memory for them",
    retry_after_ms=500,
)  # fmt: skip
SESSIONS_FULL = fault_reply(Status.OVERLOADED, "overloaded", "too many sessions are open", retry_after_ms=1000)
STOPPING = fault_reply(Status.OVERLOADED, "stopping", "the server is about to stop", retry_after_ms=100)
STORAGE = fault_reply(Status.REFUSED, "storage", "the server's log takes no more: its disk is full or failed")


def remembered(reply: Reply, reply_bytes_max: int) -> Reply:
    """What of a reply can be kept for later attempts. The first attempt has been told all of it."""
    size = len(reply.body) + (0 if reply.attachment is None else memoryview(reply.attachment).nbytes)
    if size <= reply_bytes_max:
        return reply
    return fault_reply(
        Status.FAILED, "result_lost", f"the call ran; its result of {size} bytes was too large to be remembered"
    )
