"""The server core: decides which attempts run, which are answered from memory, and which are refused.

The idea: an attempt comes in as a Request; out comes an `Execution` for the shell, or an answer at once. Deduplicated
calls go through their session (sessions.py); exactly-once calls go through the log and are decided when they come back
from it (durable.py). Handlers that wait for something go through admission.py.

The rules:
- whoever says "not executed" has seen to it that no late copy of the attempt can be executed;
- a session of another boot is never served: numbers of sessions count from a random start, so they tell;
- nothing waits for ever: deadlines and leases are looked at whenever the core is woken.

Source: Birrell & Nelson 1984; notes on each rule stand where it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from onerack.config import RpcConfig
from onerack.rpc.core import replies
from onerack.rpc.core.admission import Admission
from onerack.rpc.core.durable import DurableCalls
from onerack.rpc.core.runs import (
    Abort,
    Attached,
    Committed,
    Dropped,
    Executed,
    Execution,
    LinkLost,
    MethodFacts,
    Parcel,
)
from onerack.rpc.core.sessions import SMALL_BYTES, Attempt, Reply, Session, Sessions, Verdict, fingerprint_of
from onerack.rpc.messages import (
    UNANSWERED,
    Buffer,
    Cancel,
    CloseSession,
    KeepSession,
    Mode,
    OpenSession,
    Request,
    Response,
    SessionOpened,
    SessionState,
)
from onerack.runtime.seam import Envelope, Event, NodeId, Output, Tick

SESSION_BITS: Final = 62
SESSIONS_PER_LINK_MAX: Final = 1024
_OVERDUE: Final = "deadline"
_AT_MOST_ONCE: Final = int(Mode.AT_MOST_ONCE)
_EXACTLY_ONCE: Final = int(Mode.EXACTLY_ONCE)
_FRESH: Final = Verdict.FRESH


class ServerCore:
    """One server's calls. `sender` of a step is the link by which a message came."""

    def __init__(self, methods: Sequence[MethodFacts], config: RpcConfig, random: Random, *, durable: bool) -> None:
        self._methods = methods
        self._from_log = frozenset(number for number, method in enumerate(methods) if method.mode is Mode.EXACTLY_ONCE)
        self._config = config
        self._sessions = Sessions(config.window, config.session_lease_s)
        self._first_session = self._next_session = random.getrandbits(SESSION_BITS) + 1
        self._admission = Admission(config.running_max, config.waiting_max, config.all_streams_max)
        self._opened: dict[NodeId, dict[int, int]] = {}
        self._tickets = 0
        self._stopping = False
        self._output = Output()
        # A snapshot may bring sessions, and nobody else would look at their leases.
        self._wake_at: float | None = 0.0 if durable else None
        self._expiry_at = 0.0
        self.durable = DurableCalls(methods, config, random, self) if durable else None
        self._handlers: dict[type, Callable[[Any, NodeId, float], None]] = {
            Request: self.on_request,
            Executed: self.on_executed,
            Attached: self.on_attached,
            OpenSession: self.on_open_session,
            KeepSession: self.on_keep_session,
            CloseSession: self.on_close_session,
            Cancel: self.on_cancel,
            LinkLost: self.on_link_lost,
            Committed: self.on_committed,
            Dropped: self.on_dropped,
            Tick: self.on_tick,
        }

    # ------------------------------------------------------------------------------------------------ the seam

    def step(self, message: Any, sender: NodeId, now: float) -> None:
        self._handlers[type(message)](message, sender, now)

    def drain(self) -> Output:
        output, self._output = self._output, Output()
        output.wake_at = self._wake_at
        return output

    def stop(self) -> None:
        """From now on new calls are refused; open ones go on. (Known sessions still get their replies.)"""
        self._stopping = True

    @property
    def open_calls(self) -> int:
        """Handlers that run or wait to run."""
        return len(self._admission.running) + self._admission.waiting

    @property
    def open_sessions(self) -> int:
        return len(self._sessions)

    @property
    def reply_cache_bytes(self) -> int:
        """What remembered replies take, volatile and durable ones."""
        return self._sessions.ledger.bytes + (self.durable.sessions.ledger.bytes if self.durable is not None else 0)

    # ------------------------------------------------------------------------------------------------ sessions

    def on_open_session(self, message: OpenSession, link: NodeId, now: float) -> None:
        opened = self._opened.setdefault(link, {})
        if message.durable:
            if self.durable is None:
                self.answer((link, message.call), 0, replies.NOT_DURABLE)
            else:
                self.durable.open_session((link, message.call), now)
            return
        number = opened.get(message.call)
        if number is None:
            if len(self._sessions) >= self._config.sessions_max or len(opened) >= SESSIONS_PER_LINK_MAX:
                self.answer((link, message.call), 0, replies.SESSIONS_FULL)
                return
            number = opened[message.call] = self._next_session
            self._next_session += 1
            self._sessions.open(number, now)
            self._wake_by(now + self._config.session_lease_s / 4)
        self.tell_opened((link, message.call), number)

    def tell_opened(self, attempt: Attempt, session: int) -> None:
        link, call = attempt
        lease_ms = round(self._config.session_lease_s * 1000)
        self.send(link, SessionOpened(call, session, self._config.window, lease_ms))

    def on_keep_session(self, message: KeepSession, link: NodeId, now: float) -> None:
        session = self._sessions.get(message.session)
        if session is not None:
            session.heard_at = now
            session.acknowledge(message.ack)
        elif self.durable is not None and self.durable.keep_session(message, now):
            session = self.durable.sessions.get(message.session)
        self.send(link, SessionState(message.session, session is not None))

    def on_close_session(self, message: CloseSession, link: NodeId, now: float) -> None:
        self._sessions.close(message.session)
        if self.durable is not None:
            self.durable.close_session(message, now)

    # ------------------------------------------------------------------------------------------------ calls

    def on_attached(self, message: Attached, link: NodeId, now: float) -> None:
        self.on_request(message.request, link, now, message.attachment)

    def on_request(self, request: Request, link: NodeId, now: float, attachment: Buffer | None = None) -> None:
        number = request.method
        if not 0 <= number < len(self._methods):
            self.answer((link, request.call), request.session, replies.NO_METHOD)
            return
        method = self._methods[number]
        mode = request.mode
        if mode == _EXACTLY_ONCE or number in self._from_log:
            self._request_durable(request, method, link, now, attachment)
        elif mode == _AT_MOST_ONCE and not method.streaming:
            session = self._sessions.get(request.session)
            if session is None:
                known = self._first_session <= request.session < self._next_session
                reply = replies.EXPIRED if known else replies.REBOOTED
                self.answer((link, request.call), request.session, reply)
            else:
                self._request_once(request, method, session, link, now, attachment)
        elif refusal := self._refusal(method):
            self.answer((link, request.call), request.session, refusal)
        else:
            self._start(request, method, link, now, attachment)

    def _request_once(
        self,
        request: Request,
        method: MethodFacts,
        session: Session,
        link: NodeId,
        now: float,
        attachment: Buffer | None,
    ) -> None:
        attempt = (link, request.call)
        session.heard_at = now
        is_free = method.inline and not self._stopping and session.ledger.bytes <= self._config.replies_bytes_max
        if not is_free and request.seq not in session.entries and self._refusal(method):
            # The attempt still says what may be forgotten: a full memory must not stay full.
            session.acknowledge(request.ack)
            if refusal := self._refusal(method, frees=session.frees(request)):
                self.answer(attempt, request.session, refusal)
                return
        arguments = request.arguments
        small = attachment is None and len(arguments) <= SMALL_BYTES
        mark = arguments if small else fingerprint_of(arguments, attachment)
        verdict = session.admit(request.seq, request.ack, method.name, mark, attempt)
        if verdict is not _FRESH:
            self.answer_seen(verdict, session, request, attempt)
        elif method.inline and not request.timeout_ms:
            self._tickets += 1
            self._output.applied.append(Execution(self._tickets, link, request, method.name, attachment))
        else:
            self._start(request, method, link, now, attachment)

    def answer_seen(self, verdict: Verdict, session: Session, request: Request, attempt: Attempt) -> None:
        """An attempt whose sequence number is not new."""
        if verdict is Verdict.ENDED:
            reply = session.entries[request.seq].reply
            assert reply is not None
            self.answer(attempt, session.number, reply)
        elif verdict is Verdict.RUNNING:
            attached = session.entries[request.seq].attached
            if attempt not in attached:
                attached.append(attempt)
        elif verdict is Verdict.FALSE_RETRY:
            self.answer(attempt, session.number, replies.FALSE_RETRY)
        elif verdict is Verdict.BEYOND:
            self.answer(attempt, session.number, replies.NO_SEQUENCE)
        # FORGOTTEN: nobody waits for it.

    def _refusal(self, method: MethodFacts, *, frees: bool = False) -> Reply | None:
        """Why no new call of this method can be taken now. Nothing is recorded: the same call may come again."""
        if self._stopping:
            return replies.STOPPING
        if self._sessions.ledger.bytes > self._config.replies_bytes_max and not frees:
            return replies.REPLIES_FULL
        if not method.inline and self._admission.is_full(streaming=method.streaming):
            return replies.OVERLOADED
        return None

    def _start(
        self, request: Request, method: MethodFacts, link: NodeId, now: float, attachment: Buffer | None
    ) -> None:
        deadline_at = now + request.timeout_ms / 1000 if request.timeout_ms else None
        self._tickets += 1
        execution = Execution(self._tickets, link, request, method.name, attachment, deadline_at)
        if method.inline:
            self._output.applied.append(execution)
            return
        if deadline_at is not None:
            self._wake_by(deadline_at)
        if self._admission.take(execution, streaming=method.streaming):
            self._output.applied.append(execution)

    def on_executed(self, message: Executed, sender: NodeId, now: float) -> None:
        execution = message.execution
        if execution.from_log:
            assert self.durable is not None
            self.durable.on_executed(message)
            return
        self._end(execution, message.reply)
        if not self._methods[execution.request.method].inline:
            self._admission.end(execution)
            self._start_waiting(now)

    def _end(self, execution: Execution, reply: Reply) -> None:
        """Tells everybody who waits for this call how it ended."""
        request = execution.request
        if request.mode != _AT_MOST_ONCE or self._methods[request.method].streaming:
            self.answer((execution.link, request.call), request.session, reply)
            return
        session = self._sessions.get(request.session)
        if session is None:
            return  # Closed meanwhile, by its client.
        kept = reply
        if reply.attachment is not None or len(reply.body) > self._config.reply_bytes_max:
            kept = replies.remembered(reply, self._config.reply_bytes_max)
        sends = self._output.sends
        for link, call in session.finish(request.seq, kept):
            response = Response(call, request.session, reply.status, reply.body)
            sends.append(
                Envelope(link, response) if reply.attachment is None else Parcel(link, response, reply.attachment)
            )

    def _start_waiting(self, now: float) -> None:
        while (execution := self._admission.next()) is not None:
            if execution.deadline_at is not None and execution.deadline_at <= now:
                # Recorded as the call's outcome: a late duplicate must not run it after we have said that it did not.
                self._admission.end(execution)
                self._end(execution, replies.LATE)
            else:
                self._output.applied.append(execution)

    # ------------------------------------------------------------------------------------------------ endings

    def on_cancel(self, message: Cancel, link: NodeId, now: float) -> None:
        execution = self._admission.find(link, message.call)
        if execution is None:
            return  # Ended already, or inline, or waiting in the log, from which nothing is taken back.
        if self._admission.withdraw(execution):
            self._end(execution, replies.CANCELLED)
        else:
            self._output.applied.append(Abort(execution.ticket, "cancelled"))

    def on_link_lost(self, message: LinkLost, link: NodeId, now: float) -> None:
        """Calls that nobody can ask for again end with their link. Those of a session go on."""
        self._opened.pop(link, None)
        for execution in self._admission.of_link(link):
            method = self._methods[execution.request.method]
            if execution.request.mode == Mode.AT_MOST_ONCE and not method.streaming:
                continue
            if not self._admission.withdraw(execution):
                self._output.applied.append(Abort(execution.ticket, "disconnected"))

    def on_tick(self, message: Tick, sender: NodeId, now: float) -> None:
        self._wake_at = None
        for execution in self._admission.overdue(now):
            if self._admission.withdraw(execution):
                self._end(execution, replies.LATE)
            else:
                self._output.applied.append(Abort(execution.ticket, _OVERDUE))
                self._admission.running[execution.ticket] = _without_deadline(execution)
        deadline_at = self._admission.next_deadline()
        if deadline_at is not None:
            self._wake_by(deadline_at)
        self._expire(now)
        self._start_waiting(now)

    def _expire(self, now: float) -> None:
        if now >= self._expiry_at:
            self._expiry_at = now + self._config.session_lease_s / 4
            for number in self._sessions.expire(now):
                self._output.events.append(Event("session_expired", {"session": number}))
            if self.durable is not None:
                self.durable.advance(now)
        if len(self._sessions) or (self.durable is not None and len(self.durable.sessions)):
            self._wake_by(self._expiry_at)

    # ------------------------------------------------------------------------------------------------ the log

    def on_committed(self, message: Committed, sender: NodeId, now: float) -> None:
        assert self.durable is not None
        self.durable.on_committed(message, now)
        if self._wake_at is None:
            self._wake_by(now + self._config.session_lease_s / 4)

    def on_dropped(self, message: Dropped, sender: NodeId, now: float) -> None:
        assert self.durable is not None
        self.durable.on_dropped(message)

    def _request_durable(
        self, request: Request, method: MethodFacts, link: NodeId, now: float, attachment: Buffer | None
    ) -> None:
        attempt = (link, request.call)
        if self.durable is None:
            self.answer(attempt, request.session, replies.NOT_DURABLE)
        elif not method.inline or method.streaming or attachment is not None:
            self.answer(attempt, request.session, replies.NOT_REPEATABLE)
        else:
            self.durable.on_request(request, method, attempt, now, self._stopping)

    # ------------------------------------------------------------------------------------------------ output

    def answer(self, attempt: Attempt, session: int, reply: Reply) -> None:
        link, call = attempt
        if call == UNANSWERED:
            return
        response = Response(call, session, reply.status, reply.body)
        if reply.attachment is None:
            self._output.sends.append(Envelope(link, response))
        else:
            self._output.sends.append(Parcel(link, response, reply.attachment))

    def send(self, to: NodeId, message: Any) -> None:
        self._output.sends.append(Envelope(to, message))

    def execute(self, request: Request, method: str) -> None:
        """Runs a call that the log has decided on."""
        self._tickets += 1
        self._output.applied.append(Execution(self._tickets, "", request, method, from_log=True))

    def _wake_by(self, at: float) -> None:
        if self._wake_at is None or at < self._wake_at:
            self._wake_at = at


def _without_deadline(execution: Execution) -> Execution:
    """It was called off once; that is enough."""
    return Execution(execution.ticket, execution.link, execution.request, execution.method, execution.attachment)
