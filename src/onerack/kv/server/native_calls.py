"""What all calls of the native interface have in common: who asks, and how a request comes into the log and back.

The idea: a call bears the token that its caller was given, in its metadata; without one its caller is whoever the
certificate of the connection names, or nobody. So a call may take any connection to any node, and the name goes into
the command, for the machine to look at when it applies it: the same look as for a client of etcd.

The rules: as long as authentication is off, nobody's name is looked for. A token that is void is refused, whatever the
certificate says. What is refused here was not executed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from onerack import rpc
from onerack.errors import CallError
from onerack.kv.client.failures import TOKEN, KvRefused
from onerack.kv.core import KvError, KvMachine, encode_command, errors
from onerack.kv.core.commands import MOUNT, NAME_BYTES_MAX, Kind
from onerack.kv.core.errors import Refused
from onerack.kv.messages import LIBRARY, NOSPACE
from onerack.raft import RaftNode

NOBODY: Final = ""
_GROWING: Final = frozenset({Kind.PUT, Kind.TXN, Kind.LEASE_GRANT})
_CAUSES: Final = {
    errors.INVALID_ARGUMENT: "invalid_argument",
    errors.NOT_FOUND: "not_found",
    errors.PERMISSION_DENIED: "permission_denied",
    errors.RESOURCE_EXHAUSTED: "resource_exhausted",
    errors.FAILED_PRECONDITION: "failed_precondition",
    errors.OUT_OF_RANGE: "out_of_range",
    errors.UNIMPLEMENTED: "unimplemented",
    errors.INTERNAL: "internal",
    errors.UNAVAILABLE: "unavailable",
    errors.DATA_LOSS: "data_loss",
    errors.UNAUTHENTICATED: "unauthenticated",
}

Answer = asyncio.Future[Any]


class NativeCalls:
    """Of one node; the base of its service."""

    node: RaftNode
    """To be set before the first call comes: the node is made with this service, and this service needs the node."""

    def __init__(self, machine: KvMachine, user_of: Callable[[str], str | None] | None = None) -> None:
        """`user_of`: whose token it is, and that it was used now; without it tokens are only looked up."""
        self.machine = machine
        self._user_of_token = user_of or (lambda token: machine.auth.user_of(token))
        self._loop = asyncio.get_running_loop()

    def user(self) -> str:
        """Who has made the call that is being served. Raises: KvRefused: with a void token."""
        return self._user_of_call() if self.machine.auth.state.enabled else NOBODY

    def _user_of_call(self) -> str:
        call = rpc.current()
        token = call.metadata.get(TOKEN)
        found = call.peer.identity if token is None else self._user_of_token(token)
        if found is None:
            raise refused(errors.INVALID_TOKEN)
        if len(found.encode()) > NAME_BYTES_MAX:  # A command has no room for it, and a part of it is another name.
            raise refused(errors.PERMISSION_REFUSED)
        return found

    def command(self, kind: Kind, request: bytes, read: Callable[[bytes], Any]) -> Answer:
        """Through the log; `read` makes an answer of what the machine has said."""
        future: Answer = self._loop.create_future()
        command = encode_command(kind, self.user().encode(), request)
        self._check_room(kind, request)
        self.node.propose(MOUNT, command, partial(_applied, future, read))
        return future

    def _check_room(self, kind: Kind, request: bytes) -> None:
        if len(request) > self.machine.config.request_bytes_max:
            raise refused(errors.REQUEST_TOO_LARGE)
        is_over = self.machine.lacks_room(kind, request)
        if is_over and self.node.storage_full is None:
            self._raise_alarm()
        if is_over or (self.node.storage_full is not None and kind in _GROWING):
            raise refused(errors.NO_SPACE)

    def _raise_alarm(self) -> None:
        """The quota is passed: nobody may write, on any node, until somebody takes the alarm back."""
        kind = LIBRARY["AlarmRequest"]
        request = kind(action=kind.ACTIVATE, memberID=self.machine.member_id, alarm=NOSPACE)
        command = encode_command(Kind.ALARM_BY_NODE, b"", request.SerializeToString())
        if not self.machine.alarms.no_space:
            self.node.propose(MOUNT, command, lambda _result: None)

    def after_barrier(self, look: Callable[[], Any]) -> Answer:
        """What `look` sees when all that was acknowledged before this call is applied here."""
        future: Answer = self._loop.create_future()
        self.node.read(partial(_looked, future, look))
        return future


def check(look: Callable[..., Any], *arguments: Any) -> None:
    """Raises: KvRefused, when `look` raises Refused."""
    try:
        look(*arguments)
    except Refused as refusal:
        raise refused(refusal.error) from None


def error_of(result: Any) -> Exception:
    """What a proposal has come to that is no response."""
    if isinstance(result, KvError):
        return refused(result)
    assert isinstance(result, CallError), f"a machine that answers {result!r:.80}"
    return result


def refused(error: KvError) -> KvRefused:
    return KvRefused(error.text, cause=_CAUSES.get(error.code, "unknown"))


def checked(result: bytes | KvError) -> bytes:
    if isinstance(result, KvError):
        raise refused(result)
    return result


def _applied(future: Answer, read: Callable[[bytes], Any], result: Any) -> None:
    if future.done():
        return
    if type(result) is bytes:
        future.set_result(read(result))
    else:
        future.set_exception(error_of(result))


def _looked(future: Answer, look: Callable[[], Any], error: CallError | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
        return
    try:
        future.set_result(look())
    except KvRefused as refusal:
        future.set_exception(refusal)
