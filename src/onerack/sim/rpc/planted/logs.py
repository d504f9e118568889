"""Planted bugs of exactly-once calls and their log."""

from __future__ import annotations

from typing import Any

import msgspec

from onerack.rpc.core.commands import Invoke, Open, decode_command
from onerack.rpc.core.durable import DurableCalls, Snapshot
from onerack.rpc.core.runs import Committed, Executed
from onerack.rpc.core.server import ServerCore
from onerack.rpc.core.sessions import Attempt, Entry, Reply, Session, Verdict, fingerprint_of
from onerack.rpc.messages import NO_SESSION, Request
from onerack.sim.rpc.options import Options
from onerack.sim.rpc.planted.kits import WrongLog, forget, plant
from onerack.sim.rpc.server import Boot


@plant
class RepliesBeforeCommit(WrongLog):
    """A call is run when it is received; the log hears of it at the same time, and the caller as soon as it has run."""

    class Wrong(DurableCalls):
        def _send_through_log(
            self, request: Request, session: Session, method: Any, attempt: Attempt, now: float, stopping: bool
        ) -> None:
            known = (request.session, request.seq) in self._proposed
            super()._send_through_log(request, session, method, attempt, now, stopping)
            if known or (request.session, request.seq) not in self._proposed:
                return
            mark = fingerprint_of(request.arguments, None)
            if session.admit(request.seq, request.ack, method.name, mark) is Verdict.FRESH:
                self._desk.execute(self._request_of(self._invoke(request, method, now)), method.name)


@plant
class EffectAndRecordApart(WrongLog):
    """The log holds that a call is to be run, and in another entry, later, how it ended."""

    class Wrong(DurableCalls):
        def _apply(self, command: Invoke) -> None:
            session = self.sessions.get(command.session)
            if not command.json or session is None:
                super()._apply(command)
                return
            arguments, status, body = msgspec.msgpack.decode(command.arguments)
            if command.seq > session.ack and command.seq not in session.entries:
                entry = session.entries[command.seq] = Entry(command.method, fingerprint_of(arguments, None))
                entry.end(Reply(status, body), session.ledger)
                for attempt in self._take_waiting(command.session, command.seq):
                    self._desk.answer(attempt, command.session, Reply(status, body))

        def on_executed(self, message: Executed) -> None:
            execution, reply = message.execution, message.reply
            request = execution.request
            session = self.sessions.get(request.session)
            if session is None:
                super().on_executed(message)
                return
            session.running -= 1
            session.entries.pop(request.seq, None)
            if (request.session, request.seq) in self._proposed:
                record = msgspec.msgpack.encode((request.arguments, reply.status, reply.body))
                self._propose(
                    Invoke(
                        self._log_time, request.session, request.seq, request.ack, execution.method, record, json=True
                    )
                )


@plant
class CheckedOnReceiptOnly(WrongLog):
    """A command is not new because it was new when it was proposed."""

    class Wrong(DurableCalls):
        def _apply(self, command: Invoke) -> None:
            session = self.sessions.get(command.session)
            if session is not None and command.seq in session.entries:
                forget(session, command.seq)
            super()._apply(command)


@plant
class ExpiredDurableSessionsAreMadeAnew(WrongLog):
    """A command of a session that is no more brings it back, empty."""

    class Wrong(DurableCalls):
        def on_request(self, request: Request, method: Any, attempt: Attempt, now: float, stopping: bool) -> None:
            if request.session != NO_SESSION and self.sessions.get(request.session) is None:
                self.sessions.open(request.session, self._log_time)
            super().on_request(request, method, attempt, now, stopping)


@plant
class OverloadIsFinal(WrongLog):
    """That there was no room is recorded as the outcome of the call."""

    class Wrong(DurableCalls):
        def _send_through_log(
            self, request: Request, session: Session, method: Any, attempt: Attempt, now: float, stopping: bool
        ) -> None:
            refusal = self._refusal(stopping, frees=session.frees(request))
            if refusal is not None and (request.session, request.seq) not in self._proposed:
                mark = fingerprint_of(request.arguments, None)
                if session.admit(request.seq, request.ack, method.name, mark) is Verdict.FRESH:
                    session.finish(request.seq, refusal)
            super()._send_through_log(request, session, method, attempt, now, stopping)


@plant
class RefusedCallsKeepNoSession(WrongLog):
    """An attempt that the log is not told of neither acknowledges nor keeps its session alive."""

    class Wrong(DurableCalls):
        def _keep(self, session: Session, ack: int, now: float) -> None:
            if self.sessions.ledger.bytes <= self._config.replies_bytes_max:
                super()._keep(session, ack, now)


@plant
class SnapshotsWithoutSessions(WrongLog):
    """A snapshot holds the service's state only."""

    class Wrong(DurableCalls):
        def snapshot(self, state: bytes) -> bytes:
            return msgspec.msgpack.encode(Snapshot(self._log_time, [], state))


@plant
class LeasesRunWhileNobodyServes(WrongLog):
    """Log time is the time of the wall."""

    class Wrong(DurableCalls):
        pass

    def boot_server(self, boot: Boot, options: Options) -> ServerCore:
        core = super().boot_server(boot, options)
        if core.durable is not None:
            durable, down_s = core.durable, boot.down_s

            class Wall(DurableCalls):
                def log_time(self, now: float) -> float:
                    if self._ahead_s is None:
                        self._ahead_s = self._log_time + down_s - now
                    return super().log_time(now)

            durable.__class__ = Wall
        return core


@plant
class RepliesWithoutSessionGoInOrder(WrongLog):
    """An execution without a session is of the attempt that has waited longest."""

    class Wrong(DurableCalls):
        def on_executed(self, message: Executed) -> None:
            execution = message.execution
            if execution.request.session == NO_SESSION and self._unsessioned:
                first = msgspec.structs.replace(execution.request, seq=next(iter(self._unsessioned)))
                message = Executed(msgspec.structs.replace(execution, request=first), message.reply)
            super().on_executed(message)


@plant
class ACommandOpensTheSameSessionAgain(WrongLog):
    """The number of a session is the token of its command, wherever in the log it stands."""

    class Wrong(DurableCalls):
        def on_committed(self, message: Committed, now: float) -> None:
            command = decode_command(message.command)
            if isinstance(command, Open):
                if self.sessions.get(command.token) is not None:
                    return
                message = Committed(0, message.command)
            super().on_committed(message, now)
