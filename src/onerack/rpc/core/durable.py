"""Exactly-once calls: decided by a log, not by the server that received them.

The idea: a call becomes a command. When the command comes back from the log, durable and in its place, and only then,
the session is asked whether it is new; if it is, its handler runs, as part of applying the command. Sessions, replies
and the service's own state are therefore all made by the log, and are the same wherever it is applied.

The rules:
- the reply leaves after the command is durable; a duplicate that comes before waits with the first;
- the check that counts is the one at apply: the log may hold a call twice;
- log time goes on from the last command's, so that leases do not run while nobody serves.

Source: Lee et al., RIFL, SOSP 2015; Ongaro's dissertation, section 6.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final, Protocol

import msgspec

from onerack.config import RpcConfig
from onerack.rpc.core import replies
from onerack.rpc.core.commands import Advance, Close, Invoke, Keep, Open, decode_command, encode_command
from onerack.rpc.core.runs import Committed, Dropped, Executed, MethodFacts, Propose
from onerack.rpc.core.sessions import Attempt, PackedSession, Reply, Session, Sessions, Verdict, fingerprint_of
from onerack.rpc.messages import NO_SESSION, CloseSession, KeepSession, Mode, Request
from onerack.runtime.seam import NodeId

LOG: Final[NodeId] = "log"
"""The name under which the shell knows the log."""
_DROPPED: Final = {"overloaded": replies.OVERLOADED, "stopping": replies.STOPPING}
"""Why the log has not taken a command, when that passes: those who wait try again."""


class Desk(Protocol):
    """What the server core does on behalf of the log's calls."""

    def answer(self, attempt: Attempt, session: int, reply: Reply) -> None: ...

    def answer_seen(self, verdict: Verdict, session: Any, request: Request, attempt: Attempt) -> None: ...

    def send(self, to: NodeId, message: Any) -> None: ...

    def tell_opened(self, attempt: Attempt, session: int) -> None: ...

    def execute(self, request: Request, method: str) -> None: ...


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """Everything that applying the log has made, but the service's own state."""

    log_time: float
    sessions: list[PackedSession]
    state: bytes
    """The service's own."""


class DurableCalls:
    """The exactly-once half of a server core."""

    def __init__(self, methods: Sequence[MethodFacts], config: RpcConfig, random: Random, desk: Desk) -> None:
        self.sessions = Sessions(config.window, config.session_lease_s)
        self._numbers = {method.name: number for number, method in enumerate(methods)}
        self._config = config
        self._random = random
        self._desk = desk
        self._log_time = 0.0
        self._ahead_s: float | None = None
        """By how much log time is ahead of `now`; None until this server has a reason to know."""
        self._proposed: dict[tuple[int, int], tuple[Request, list[Attempt]]] = {}
        """Calls on their way through the log: as they came first, and who waits for them."""
        self._unsessioned: dict[int, Attempt] = {}
        """By a number drawn at random, which stands in the command where others have their sequence number."""
        self._keeping: set[int] = set()
        """Sessions of which the log is being told that they live."""
        self._opening: dict[int, Attempt] = {}
        """Sessions on their way through the log, by token."""

    # ------------------------------------------------------------------------------------------------ before the log

    def open_session(self, attempt: Attempt, now: float) -> None:
        if attempt in self._opening.values():
            return  # Asked again before the log has answered.
        if len(self.sessions) + len(self._opening) >= self._config.sessions_max:
            self._desk.answer(attempt, NO_SESSION, replies.SESSIONS_FULL)
            return
        token = self._random.getrandbits(62)
        self._opening[token] = attempt
        self._propose(Open(self.log_time(now), token))

    def keep_session(self, message: KeepSession, now: float) -> bool:
        """True when there is such a session."""
        session = self.sessions.get(message.session)
        if session is None:
            return False
        self._keep(session, message.ack, now)
        return True

    def _keep(self, session: Session, ack: int, now: float) -> None:
        """Its client lives, and is done with so much. The log hears of it only now and then."""
        at = self.log_time(now)
        if at - session.heard_at <= self._config.session_lease_s / 8 and ack <= session.ack:
            return
        # One at a time: what is asked for again and again must not fill a slow log with the news that it is.
        if session.number not in self._keeping:
            self._keeping.add(session.number)
            self._propose(Keep(at, session.number, ack))

    def close_session(self, message: CloseSession, now: float) -> None:
        if self.sessions.get(message.session) is not None:
            self._propose(Close(self.log_time(now), message.session))

    def advance(self, now: float) -> None:
        """Tells the log that time has passed, when somebody's lease may be over."""
        at = self.log_time(now)
        silent = any(session.heard_at + self.sessions.lease_s < at for session in self.sessions)
        if silent:
            self._propose(Advance(at))

    def on_request(self, request: Request, method: MethodFacts, attempt: Attempt, now: float, stopping: bool) -> None:
        if request.mode < Mode.AT_MOST_ONCE or request.session == NO_SESSION:
            self._request_without_session(request, method, attempt, now, stopping)
            return
        session = self.sessions.get(request.session)
        if session is None:
            self._desk.answer(attempt, request.session, replies.EXPIRED)
            return
        if not request.ack < request.seq <= request.ack + session.window:
            self._desk.answer(attempt, request.session, replies.NO_SEQUENCE)
            return
        entry = session.entries.get(request.seq)
        if entry is not None and entry.reply is not None:
            same = entry.method == method.name and entry.fingerprint == fingerprint_of(request.arguments, None)
            verdict = Verdict.ENDED if same else Verdict.FALSE_RETRY
            self._keep(session, request.ack, now)
            self._desk.answer_seen(verdict, session, request, attempt)
        elif request.seq > session.ack:
            self._send_through_log(request, session, method, attempt, now, stopping)

    def _send_through_log(
        self, request: Request, session: Session, method: MethodFacts, attempt: Attempt, now: float, stopping: bool
    ) -> None:
        xid = (request.session, request.seq)
        proposed = self._proposed.get(xid)
        if proposed is not None:
            self._keep(session, request.ack, now)
            first, waiting = proposed
            if (first.arguments, first.method) != (request.arguments, request.method):
                self._desk.answer(attempt, request.session, replies.FALSE_RETRY)
            elif attempt not in waiting:
                waiting.append(attempt)
        elif refusal := self._refusal(stopping, frees=session.frees(request)):
            # The attempt still says that its client lives and what may be forgotten: a full memory must not stay full.
            self._keep(session, request.ack, now)
            self._desk.answer(attempt, request.session, refusal)
        else:
            self._proposed[xid] = (request, [attempt])
            self._propose(self._invoke(request, method, now))

    def _request_without_session(
        self, request: Request, method: MethodFacts, attempt: Attempt, now: float, stopping: bool
    ) -> None:
        """Weaker than the method was declared: through the log, but as often as it is asked for."""
        if refusal := self._refusal(stopping):
            self._desk.answer(attempt, request.session, refusal)
            return
        # Neither a replay nor a log that holds a command twice may give this attempt the reply of another.
        ticket = self._random.getrandbits(62)
        self._unsessioned[ticket] = attempt
        command = self._invoke(request, method, now)
        self._propose(msgspec.structs.replace(command, session=NO_SESSION, seq=ticket, ack=0))

    def _refusal(self, stopping: bool, *, frees: bool = False) -> Reply | None:
        if stopping:
            return replies.STOPPING
        if self.sessions.ledger.bytes > self._config.replies_bytes_max and not frees:
            return replies.REPLIES_FULL
        return None

    def _invoke(self, request: Request, method: MethodFacts, now: float) -> Invoke:
        return Invoke(
            self.log_time(now), request.session, request.seq, request.ack, method.name, request.arguments, request.json
        )

    def _propose(self, command: Any) -> None:
        self._desk.send(LOG, Propose(encode_command(command)))

    def log_time(self, now: float) -> float:
        """Never goes back, and goes on from where the log stopped, however long nobody served."""
        if self._ahead_s is None:
            self._ahead_s = self._log_time - now
        return max(self._log_time, now + self._ahead_s)

    # ------------------------------------------------------------------------------------------------ from the log

    def on_committed(self, message: Committed, now: float) -> None:
        command = decode_command(message.command)
        self._log_time = max(self._log_time, command.at)
        self.sessions.expire(self._log_time)
        match command:
            case Invoke():
                self._apply(command)
            case Open(_, token):
                # Of its place in the log too, so that the same command, met again, does not bring back a dead session.
                number = token ^ message.index
                self.sessions.open(number, self._log_time)
                attempt = self._opening.pop(token, None)
                if attempt is not None:
                    self._desk.tell_opened(attempt, number)
            case Keep(_, number, ack):
                self._keeping.discard(number)
                session = self.sessions.get(number)
                if session is not None:
                    session.heard_at = self._log_time
                    session.acknowledge(ack)
            case Close(_, number):
                self.sessions.close(number)

    def _apply(self, command: Invoke) -> None:
        request = self._request_of(command)
        if command.session == NO_SESSION:
            self._desk.execute(request, command.method)
            return
        session = self.sessions.get(command.session)
        if session is None:
            self._tell(command, replies.EXPIRED)
            return
        session.heard_at = self._log_time
        mark = fingerprint_of(command.arguments, None)
        verdict = session.admit(command.seq, command.ack, command.method, mark)
        if verdict is Verdict.FRESH:
            self._desk.execute(request, command.method)
        elif verdict is not Verdict.RUNNING:
            for attempt in self._take_waiting(command.session, command.seq):
                self._desk.answer_seen(verdict, session, request, attempt)

    def _request_of(self, command: Invoke) -> Request:
        # A method that the service no longer has gets a number that no method has.
        number = self._numbers.get(command.method, -1)
        return Request(
            0, number, Mode.EXACTLY_ONCE, 0, command.session, command.seq, command.ack, command.arguments,
            json=command.json,
        )  # fmt: skip

    def on_executed(self, message: Executed) -> None:
        request, reply = message.execution.request, message.reply
        if request.session == NO_SESSION:
            attempt = self._unsessioned.pop(request.seq, None)
            if attempt is not None:
                self._desk.answer(attempt, NO_SESSION, reply)
            return
        session = self.sessions.get(request.session)
        assert session is not None, "a session with a running call neither expires nor closes"
        session.finish(request.seq, replies.remembered(reply, self._config.reply_bytes_max))
        for attempt in self._take_waiting(request.session, request.seq):
            self._desk.answer(attempt, request.session, reply)

    def _tell(self, command: Invoke, reply: Reply) -> None:
        for attempt in self._take_waiting(command.session, command.seq):
            self._desk.answer(attempt, command.session, reply)

    def _take_waiting(self, session: int, seq: int) -> list[Attempt]:
        """Whoever waits for this call, which has come back from the log."""
        proposed = self._proposed.pop((session, seq), None)
        return [] if proposed is None else proposed[1]

    def on_dropped(self, message: Dropped) -> None:
        """A command that may yet be applied, in a later life of the log, is answered by nobody in this one."""
        command = decode_command(message.command)
        reply = _DROPPED.get(message.cause, replies.STORAGE)
        if isinstance(command, Open):
            attempt = self._opening.pop(command.token, None)
            if attempt is not None:
                self._desk.answer(attempt, NO_SESSION, reply)
        elif isinstance(command, Keep):
            self._keeping.discard(command.session)
        elif isinstance(command, Invoke) and command.session == NO_SESSION:
            attempt = self._unsessioned.pop(command.seq, None)
            if message.definite and attempt is not None:
                self._desk.answer(attempt, NO_SESSION, reply)
        elif isinstance(command, Invoke):
            if message.definite:
                self._tell(command, reply)
            self._proposed.pop((command.session, command.seq), None)

    # ------------------------------------------------------------------------------------------------ snapshots

    def snapshot(self, state: bytes) -> bytes:
        """Requires: every committed command has been executed."""
        return msgspec.msgpack.encode(Snapshot(self._log_time, self.sessions.pack(), state))

    def restore(self, content: bytes) -> bytes:
        """Takes over what a snapshot holds, and gives the service's own state. Raises: msgspec.DecodeError."""
        snapshot = msgspec.msgpack.decode(content, type=Snapshot)
        self._log_time = snapshot.log_time
        self.sessions.unpack(snapshot.sessions)
        return snapshot.state
