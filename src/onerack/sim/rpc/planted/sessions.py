"""Planted bugs of servers and their sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from onerack.rpc.core import replies
from onerack.rpc.core.runs import Committed, Execution
from onerack.rpc.core.server import ServerCore
from onerack.rpc.core.sessions import Attempt, Reply, Session, Verdict, fingerprint_of
from onerack.rpc.messages import Mode, Request, Status
from onerack.runtime.seam import NodeId
from onerack.sim.rpc.options import Options
from onerack.sim.rpc.planted.kits import WrongServer, WrongSessions, forget, plant
from onerack.sim.rpc.server import Boot
from onerack.sim.rpc.service import METHODS, Result

# ------------------------------------------------------------------------------------------------ what is remembered


@plant
class MarksAreForgotten(WrongSessions):
    """Replies are dropped as they are acknowledged, but that they were is not remembered."""

    class Wrong(Session):
        __slots__ = ()

        def acknowledge(self, ack: int) -> None:
            mark = self.ack
            super().acknowledge(ack)
            self.ack = mark


@plant
class OldRepliesAreEvicted(WrongSessions):
    """Only the two latest replies of a session are kept, as in a cache."""

    class Wrong(Session):
        __slots__ = ()

        def finish(self, seq: int, reply: Reply) -> Sequence[Attempt]:
            attached = super().finish(seq, reply)
            ended = [number for number, entry in self.entries.items() if entry.reply is not None]
            for number in ended[:-2]:
                forget(self, number)
            return attached


@plant
class ErrorsAreRunAgain(WrongSessions):
    """Results are remembered, exceptions are not."""

    class Wrong(Session):
        __slots__ = ()

        def finish(self, seq: int, reply: Reply) -> Sequence[Attempt]:
            attached = super().finish(seq, reply)
            if reply.status == Status.FAILED and seq in self.entries:
                forget(self, seq)
            return attached


@plant
class LowerNumbersAreOld(WrongSessions):
    """The rule for one call at a time, with many: what is below the highest number seen is discarded."""

    class Wrong(Session):
        __slots__ = ()

        def admit(self, seq: int, ack: int, method: str, fingerprint: bytes, attempt: Attempt | None = None) -> Verdict:
            if seq not in self.entries and any(other > seq for other in self.entries):
                return Verdict.FORGOTTEN
            return super().admit(seq, ack, method, fingerprint, attempt)


@plant
class AFullMemoryRefusesAll(WrongSessions):
    """When replies fill their memory, the call that the mark waits for is refused as well."""

    class Wrong(Session):
        __slots__ = ()

        def frees(self, request: Request) -> bool:
            return False


# ------------------------------------------------------------------------------------------------ whose sessions


class _Reviving(ServerCore):
    """Makes a session of any number that a request names."""

    def _revives(self, number: int) -> bool:
        raise NotImplementedError

    def on_request(self, request: Request, link: NodeId, now: float, attachment: Any = None) -> None:
        volatile = request.mode == Mode.AT_MOST_ONCE and METHODS[request.method].mode != Mode.EXACTLY_ONCE
        if volatile and self._sessions.get(request.session) is None and self._revives(request.session):
            self._sessions.open(request.session, now)
        super().on_request(request, link, now, attachment)


@plant
class SessionsOfAnotherBootAreServed(WrongServer):
    """A volatile reply cache without the check of who filled it."""

    class Wrong(_Reviving):
        def _revives(self, number: int) -> bool:
            return not self._first_session <= number < self._next_session


@plant
class ExpiredSessionsAreMadeAnew(WrongServer):
    """A session whose lease is over begins again, empty."""

    class Wrong(_Reviving):
        def _revives(self, number: int) -> bool:
            return self._first_session <= number < self._next_session


@plant
class NumbersBeginAtOne(WrongServer):
    """Each boot of a server gives its sessions the same numbers."""

    Wrong = ServerCore

    def boot_server(self, boot: Boot, options: Options) -> ServerCore:
        core = super().boot_server(boot, options)
        core._first_session = core._next_session = 1
        return core


# ------------------------------------------------------------------------------------------------ refusals


@plant
class OverloadedCallsRunAnyway(WrongServer):
    """Who is told that there is no room waits in the queue all the same."""

    class Wrong(ServerCore):
        def on_request(self, request: Request, link: NodeId, now: float, attachment: Any = None) -> None:
            session = self._sessions.get(request.session)
            method = METHODS[request.method]
            full = not method.inline and self._admission.is_full(streaming=method.streaming)
            if session is None or request.seq in session.entries or not full:
                super().on_request(request, link, now, attachment)
                return
            mark = fingerprint_of(request.arguments, attachment)
            if session.admit(request.seq, request.ack, method.name, mark) is Verdict.FRESH:
                self._start(request, method, link, now, attachment)
            self.answer((link, request.call), request.session, replies.OVERLOADED)


class _Traceless(ServerCore):
    """A refusal that says "never" is not recorded as the outcome of its number."""

    untraced: Reply

    def _end(self, execution: Execution, reply: Reply) -> None:
        super()._end(execution, reply)
        session = self._sessions.get(execution.request.session)
        if reply is self.untraced and session is not None and execution.request.seq in session.entries:
            forget(session, execution.request.seq)


@plant
class LateCallsLeaveNoTrace(WrongServer):
    """A call whose deadline passed in the queue is refused, and forgotten."""

    class Wrong(_Traceless):
        untraced = replies.LATE


@plant
class CancelledCallsLeaveNoTrace(WrongServer):
    """A call that was cancelled in the queue is refused, and forgotten."""

    class Wrong(_Traceless):
        untraced = replies.CANCELLED


@plant
class RefusalsAcknowledgeNothing(WrongServer):
    """An attempt that is refused is not looked at any further."""

    class Wrong(ServerCore):
        def on_request(self, request: Request, link: NodeId, now: float, attachment: Any = None) -> None:
            session = self._sessions.get(request.session)
            refusal = self._refusal(METHODS[request.method])
            if session is None or request.seq in session.entries or refusal is None:
                super().on_request(request, link, now, attachment)
            else:
                self.answer((link, request.call), request.session, refusal)


# ------------------------------------------------------------------------------------------------ duplicates


@plant
class DuplicatesAreAnsweredEarly(WrongServer):
    """An attempt of a call that runs is answered with the result that there is: none."""

    class Wrong(ServerCore):
        def answer_seen(self, verdict: Verdict, session: Session, request: Request, attempt: Attempt) -> None:
            if verdict is Verdict.RUNNING:
                nothing = msgspec.msgpack.encode(Result(0, 0))
                self.answer(attempt, session.number, Reply(Status.OK, nothing))
            else:
                super().answer_seen(verdict, session, request, attempt)


@plant
class DuplicatesAreNotAttached(WrongServer):
    """An attempt of a call that runs is dropped: the first one will be answered."""

    class Wrong(ServerCore):
        def answer_seen(self, verdict: Verdict, session: Session, request: Request, attempt: Attempt) -> None:
            if verdict is not Verdict.RUNNING:
                super().answer_seen(verdict, session, request, attempt)


# ------------------------------------------------------------------------------------------------ time


@plant
class NobodyLooksAtDurableLeases(WrongServer):
    """No alarm is set for sessions that come from the log."""

    class Wrong(ServerCore):
        def on_committed(self, message: Committed, sender: NodeId, now: float) -> None:
            wake_at = self._wake_at
            super().on_committed(message, sender, now)
            self._wake_at = wake_at
