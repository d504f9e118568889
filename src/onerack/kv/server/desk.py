"""The desk: what every service of a kv node does with a call.

    admit      may this call be answered here, and who asks?
    propose    the request becomes a command of the log; the machine's response goes back as it is
    run        everything that takes more than one step is a procedure, which ends with its call

The idea: a request travels as bytes from the socket into the log, and its response as bytes from the machine to the
socket. So for the usual call the desk does three things: it looks at a flag or two, prepends two bytes, and keeps the
call until the machine has answered.

The rule: no task, no future and no parsing for what comes a thousand times a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from onerack.config import KvConfig
from onerack.errors import OnerackError
from onerack.kv.core import Kind, KvError, KvMachine, encode_command
from onerack.kv.core.commands import NAME_BYTES_MAX
from onerack.kv.core.errors import (
    INVALID_TOKEN,
    NO_LEADER,
    NO_SPACE,
    NOT_FOR_LEARNER,
    PERMISSION_REFUSED,
    REQUEST_TOO_LARGE,
    STOPPED,
    Refused,
)
from onerack.kv.messages import LIBRARY, NOSPACE
from onerack.kv.server import outcomes
from onerack.kv.server.door import KvDoor
from onerack.kv.server.grpc import Call
from onerack.kv.server.identity import member_id
from onerack.kv.server.tokens import Tokens
from onerack.raft import RaftNode
from onerack.raft.commands import KV
from onerack.raft.messages import Configuration

log = logging.getLogger(__name__)

_WANTS_LEADER: Final = "hasleader"
_LOOK_S: Final = 0.1
_LEADERLESS_S: Final = 3.0
"""A stream that wants a leader ends when there was none for so many election timeouts."""


class Desk:
    """Of one node."""

    def __init__(self, node: RaftNode, machine: KvMachine, config: KvConfig, door: KvDoor, tokens: Tokens) -> None:
        self.node = node
        self.machine = machine
        self.config = config
        self.door = door
        self.tokens = tokens
        self.member_id = member_id(node.name)
        self.is_learner = False
        """Or a witness, which answers even less."""
        self.is_witness = False
        self._group: Configuration | None = None
        """Of which both were said."""
        self._request_bytes_max = config.request_bytes_max
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wanting_leader: dict[Call, Callable[[KvError], None]] = {}
        self._without_room: list[Call] = []
        """Those who have seen that the quota is passed, until everybody knows."""
        self._leader_seen_at = self._loop.time()
        self._look_timer = self._loop.call_soon(self._look)
        node.on_role.append(self._follow_role)
        node.on_applied.append(self._follow_role)
        self._follow_role()

    async def close(self) -> None:
        self._look_timer.cancel()
        self.node.on_role.remove(self._follow_role)
        self.node.on_applied.remove(self._follow_role)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ------------------------------------------------------------------------------------------------ who may

    def admit(self, call: Call, by_learner: bool = False) -> str | None:
        """Who asks (empty: nobody has said). None: the call is not for this node now; it has been answered.

        `by_learner`: also a learner answers it.
        """
        if self.machine.auth.state.enabled or self.is_learner or _WANTS_LEADER in call.metadata:
            try:
                return self.admitted(call, by_learner)
            except Refused as refused:
                call.fail(refused.error.code, refused.error.text)
                return None
        return ""

    def admitted(self, call: Call, by_learner: bool = False) -> str:
        """The same. Raises: Refused."""
        self.check_here(call, by_learner)
        return self.user_of(call) if self.machine.auth.state.enabled else ""

    def check_here(self, call: Call, by_learner: bool = False) -> None:
        """For what may be asked by anybody. Raises: Refused: not of this node now."""
        if self.is_witness or (self.is_learner and not by_learner):
            raise Refused(NOT_FOR_LEARNER)
        if self.wants_leader(call) and not self.node.leader:
            raise Refused(NO_LEADER)

    def user_of(self, call: Call) -> str:
        """Raises: Refused: the token is void. Requires: authentication is on."""
        if not call.token:
            user = call.peer.identity  # Of a certificate that was asked for and verified; else empty.
        else:
            found = self.tokens.user_of(call.token)
            if found is None:
                raise Refused(INVALID_TOKEN)
            user = found
        if len(user.encode()) > NAME_BYTES_MAX:
            raise Refused(PERMISSION_REFUSED)  # A command has no room for the name, and a part of it is another name.
        return user

    def check_admin(self, user: str) -> None:
        """Raises: Refused."""
        self.machine.auth.check_admin(user)

    @staticmethod
    def wants_leader(call: Call) -> bool:
        return call.metadata.get(_WANTS_LEADER) == "true"

    def end_without_leader(self, call: Call, end: Callable[[KvError], None]) -> None:
        """A stream that wants a leader is ended by `end` when there is none for long."""
        if self.wants_leader(call):
            self._wanting_leader[call] = end

    def forget(self, call: Call) -> None:
        """This stream has ended."""
        self._wanting_leader.pop(call, None)

    # ------------------------------------------------------------------------------------------------ into the log

    def propose(self, call: Call, kind: int, user: str, request: bytes) -> None:
        """The request becomes a command, and the call is answered by what comes of it."""
        if len(request) > self._request_bytes_max:
            call.fail(REQUEST_TOO_LARGE.code, REQUEST_TOO_LARGE.text)
        elif self.machine.lacks_room(kind, request):
            self._refuse_room(call)
        elif self.node.storage_full is not None and kind in _GROWING:
            outcomes.answer(call, NO_SPACE)
        else:
            command = _command(kind, user, request) if user else b"%c\x00%b" % (kind, request)
            self.node.propose(KV, command, partial(outcomes.answer, call), eager=True)

    async def execute(self, kind: int, user: str, request: bytes) -> bytes:
        """The same for a procedure: the response. Raises: Refused, CallError."""
        if self.machine.lacks_room(kind, request) or (self.node.storage_full is not None and kind in _GROWING):
            raise Refused(NO_SPACE)
        result: bytes | KvError = await self.node.execute(KV, _command(kind, user, request))
        return outcomes.granted(result)

    def _refuse_room(self, call: Call) -> None:
        """The quota is passed: from now on nobody may write, on any node, until somebody takes the alarm back."""
        if self.machine.alarms.no_space:
            outcomes.answer(call, NO_SPACE)
            return
        self._without_room.append(call)
        if len(self._without_room) == 1:
            alarm = LIBRARY["AlarmRequest"]
            request = alarm(action=alarm.ACTIVATE, memberID=self.member_id, alarm=NOSPACE).SerializeToString()
            self.node.propose(KV, _command(Kind.ALARM_BY_NODE, "", request), self._alarm_raised)

    def _alarm_raised(self, result: object) -> None:
        """Or not; then the next one who writes tries again. None of these was written in any case."""
        calls, self._without_room = self._without_room, []
        for call in calls:
            outcomes.answer(call, NO_SPACE)

    # ------------------------------------------------------------------------------------------------ procedures

    def run(self, call: Call, procedure: Coroutine[Any, Any, bytes]) -> None:
        """Answers a unary call by what the procedure returns or raises; it ends with the call."""
        task = self._loop.create_task(procedure)
        self._tasks.add(task)
        task.add_done_callback(partial(self._has_run, call))
        call.on_cancelled = task.cancel  # type: ignore[assignment]  # it returns whether; nobody asks

    def _has_run(self, call: Call, task: asyncio.Task[bytes]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            outcomes.answer(call, STOPPED)
            return
        error = task.exception()
        if error is None:
            call.reply(task.result())
            return
        if not isinstance(error, OnerackError | Refused):
            log.error("the handler of %s has raised", call.path, exc_info=error)
        outcomes.answer(call, error)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def response(self, name: str, **fields: Any) -> bytes:
        """A response of our own making, with a header."""
        return self.machine.header() + bytes(LIBRARY[name](**fields).SerializeToString())

    # ------------------------------------------------------------------------------------------------ who leads

    def _follow_role(self) -> None:
        if self.machine.raft_term != self.node.term:
            self.machine.raft_term = self.node.term
        group = self.node.configuration
        if group is not self._group:
            self._group = group
            self.is_witness = self.node.name in group.witnesses
            self.is_learner = self.is_witness or self.node.name in group.learners

    def _look(self) -> None:
        """For how long has there been no leader?"""
        self._look_timer = self._loop.call_later(_LOOK_S, self._look)
        now = self._loop.time()
        if self.node.leader:
            self._leader_seen_at = now
        elif now - self._leader_seen_at > _LEADERLESS_S * self.node.config.election_timeout_s:
            wanting, self._wanting_leader = self._wanting_leader, {}
            for end in wanting.values():
                end(NO_LEADER)


_GROWING: Final = frozenset({Kind.PUT, Kind.TXN, Kind.LEASE_GRANT})


def _command(kind: int, user: str, request: bytes) -> bytes:
    return encode_command(kind, user.encode(), request)
