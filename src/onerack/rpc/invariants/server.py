"""What must always be true of a server core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onerack.errors import InvariantBroken, uphold
from onerack.rpc.core.commands import Close, Invoke, decode_command
from onerack.rpc.core.runs import Attached, Committed, Dropped, Executed, Execution
from onerack.rpc.core.server import ServerCore
from onerack.rpc.core.sessions import ENTRY_BYTES, Attempt, Reply, Session, Sessions
from onerack.rpc.invariants.said import Said, Xid
from onerack.rpc.messages import NO_SESSION, CloseSession, KeepSession, Mode, Request, Response, Status

# ------------------------------------------------------------------------------------------------ basic


def entries_lie_within_the_window(core: ServerCore, all_sessions: list[Session]) -> str:
    """The server never keeps more of a session than it has promised to: seq <= ack + window."""
    for session in all_sessions:
        for seq in session.entries:
            if seq > session.ack + session.window:
                return f"session {session.number} keeps {seq}, its mark is {session.ack}, its window {session.window}"
    return ""


def nothing_acknowledged_is_kept(core: ServerCore, all_sessions: list[Session]) -> str:
    """What the client is done with is forgotten: seq > ack."""
    for session in all_sessions:
        for seq in session.entries:
            if seq <= session.ack:
                return f"session {session.number} keeps {seq}, its mark is {session.ack}"
    return ""


def the_ledger_is_the_sum_of_the_replies(core: ServerCore, all_sessions: list[Session]) -> str:
    """Memory is limited by a count, so the count must be right."""
    for sessions in _tables_of(core):
        exact = sum(
            ENTRY_BYTES + _size(entry.reply)
            for session in sessions
            for entry in session.entries.values()
            if entry.reply is not None
        )
        if exact != sessions.ledger.bytes:
            return f"the ledger says {sessions.ledger.bytes} bytes, the replies are {exact}"
    return ""


def who_has_ended_keeps_nobody_waiting(core: ServerCore, all_sessions: list[Session]) -> str:
    """Every attempt that was attached to a call is answered when the call ends."""
    for session in all_sessions:
        for seq, entry in session.entries.items():
            if entry.reply is not None and entry.attached:
                return f"session {session.number} has ended {seq} and not told {entry.attached}"
    return ""


def admission_is_bounded(core: ServerCore, all_sessions: list[Session]) -> str:
    """No more run, and no more wait, than the limits allow."""
    admission, config = core._admission, core._config
    if len(admission.running) > config.running_max or admission.waiting > config.waiting_max:
        return f"{len(admission.running)} run and {admission.waiting} wait"
    return ""


def nobody_waits_before_a_free_place(core: ServerCore, all_sessions: list[Session]) -> str:
    """Work is not held back while there is room for it."""
    admission, config = core._admission, core._config
    if admission.waiting and len(admission.running) < config.running_max:
        return f"{admission.waiting} wait while {len(admission.running)} of {config.running_max} run"
    return ""


SERVER: tuple[Callable[[ServerCore, list[Session]], str], ...] = (
    entries_lie_within_the_window,
    nothing_acknowledged_is_kept,
    the_ledger_is_the_sum_of_the_replies,
    who_has_ended_keeps_nobody_waiting,
    admission_is_bounded,
    nobody_waits_before_a_free_place,
)


def check_server(core: ServerCore) -> None:
    """Raises: InvariantBroken."""
    all_sessions = _sessions_of(core)
    for prop in SERVER:
        if complaint := prop(core, all_sessions):
            raise InvariantBroken(prop.__name__, complaint)


# ------------------------------------------------------------------------------------------------ delta


class _Kept:
    """What a session remembered when it was looked at last."""

    __slots__ = ("closed", "durable", "heard_at", "mark", "replies")

    def __init__(self, *, durable: bool) -> None:
        self.durable = durable
        self.mark = 0
        self.replies: dict[int, Reply] = {}
        self.heard_at: float | None = None
        """When its client was heard last, on the clock by which its lease is measured."""
        self.closed = False


class ServerWitness:
    """One boot of a server core, from its first message.

    `check` is called after each step, `check_runs` at least once in each turn.
    """

    def __init__(self, core: ServerCore) -> None:
        self._core = core
        self._said = Said()
        self._kept: dict[int, _Kept] = {}
        self._gone: set[int] = set()
        """Sessions that were here and are no more."""
        self._runs: dict[int, Execution] = {}
        """Ticket -> what the shell was told to run and has not ended."""
        self._begun: set[Xid] = set()
        self._refused: set[Xid] = set()
        self._keeping: frozenset[int] = frozenset()
        """Sessions of which the log was being told that they live, before this step."""
        self._is_losing = False
        """The log has dropped something; perhaps that somebody lives."""
        self._asked: dict[Attempt, Xid] = {}
        self._committed: set[Xid] = set()
        if core.durable is not None:
            # What a snapshot brought was committed before.
            self._committed = {(session.number, seq) for session in core.durable.sessions for seq in session.entries}
        self._look_at_sessions(0.0)

    def check(self, message: Any, sender: str, now: float) -> None:
        """Raises: InvariantBroken."""
        self._hear(message, sender)
        sends, applied = self._said.new_in(self._core._output)
        for envelope in sends:
            if isinstance(envelope.message, Response):
                self._answered(envelope.to, envelope.message)
        for decision in applied:
            if isinstance(decision, Execution):
                self._begin(decision)
        self._look_at_sessions(now)
        self._note_life(message, now)
        if self._core.durable is not None:
            self._keeping = frozenset(self._core.durable._keeping)

    def check_runs(self) -> None:
        """Every call that is said to run has a run, and the other way round. Raises: InvariantBroken."""
        running: dict[Xid, int] = {}
        counts: dict[int, int] = {}
        for execution in (*self._runs.values(), *self._core._admission._waiting):
            if _is_deduplicated(execution):
                session = execution.request.session
                running[session, execution.request.seq] = 1
                counts[session] = counts.get(session, 0) + 1
        name = "every_running_entry_has_a_run"
        for each in _sessions_of(self._core):
            number = each.number
            for seq, entry in each.entries.items():
                if entry.reply is None and (number, seq) not in running:
                    raise InvariantBroken(name, f"{(number, seq)} has none")
            if each.running != counts.get(number, 0):
                detail = f"session {number} counts {each.running} running calls; {counts.get(number, 0)} run"
                raise InvariantBroken(name, detail)

    def check_succession(self, before: ServerWitness) -> None:
        """This boot goes on where that one ended: the log has told it everything that mattered.

        Requires: every committed command has been applied again. Raises: InvariantBroken.
        """
        durable = self._core.durable
        assert durable is not None
        for number in before._gone:
            uphold(durable.sessions.get(number) is None, "a_session_that_ended_stays_ended", f"{number} is back")
        self._gone |= before._gone
        for session in durable.sessions:
            kept = before._kept.get(session.number)
            if kept is not None:
                detail = f"{session.number}: {session.ack} after {kept.mark}"
                uphold(session.ack >= kept.mark, "the_mark_never_goes_back", detail)
                self._compare(session, kept)

    def check_rest(self) -> None:
        """Every client has left and every lease is over: nothing may be left. Raises: InvariantBroken."""
        core = self._core
        uphold(not self._runs, "every_execution_ends", f"{sorted(self._runs)} have not")
        uphold(not core.open_calls, "every_execution_ends", f"{core.open_calls} are counted as open")
        left = {"links": len(core._opened), "links of executions": len(core._admission._by_call)}
        for name, sessions in zip(("volatile", "durable"), _tables_of(core), strict=False):
            left |= {f"{name} sessions": len(sessions), f"{name} reply bytes": sessions.ledger.bytes}
        if core.durable is not None:
            durable = core.durable
            left |= {"proposed": len(durable._proposed), "without session": len(durable._unsessioned)}
            left |= {"opening": len(durable._opening), "keeping": len(durable._keeping)}
        uphold(not any(left.values()), "nothing_is_left", str({what: n for what, n in left.items() if n}))

    # ------------------------------------------------------------------------------------------------ parts

    def _hear(self, message: Any, sender: str) -> None:
        match message:
            case Request():
                self._asked[sender, message.call] = (message.session, message.seq)
            case Attached(request):
                self._asked[sender, request.call] = (request.session, request.seq)
            case Executed(execution):
                run = self._runs.pop(execution.ticket, None)
                uphold(run is not None, "an_execution_ends_once", f"ticket {execution.ticket}")
            case CloseSession(number):
                self._close(number)
            case Committed(_, content):
                command = decode_command(content)
                if isinstance(command, Invoke):
                    self._committed.add((command.session, command.seq))
                elif isinstance(command, Close):
                    self._close(command.session)
            case Dropped():
                self._is_losing = True

    def _close(self, number: int) -> None:
        if number in self._kept:
            self._kept[number].closed = True

    def _note_life(self, message: Any, now: float) -> None:
        """Who says something new lives; a late copy of what is long over may come from the network.

        While the log is being told of a session it is told nothing more of it: how long that takes is lost of a lease.
        """
        if isinstance(message, Attached):
            message = message.request
        if isinstance(message, Request | KeepSession):
            kept = self._kept.get(message.session) if message.session not in self._keeping else None
            if kept is not None and (isinstance(message, KeepSession) or message.seq > kept.mark):
                kept.heard_at = self._clock_of(kept, now)

    def _clock_of(self, kept: _Kept, now: float) -> float | None:
        """The time by which this session's lease is measured. None: this server does not know yet what time it is."""
        durable = self._core.durable
        if not kept.durable:
            return now
        return None if durable is None or durable._ahead_s is None else durable.log_time(now)

    def _bury(self, number: int, kept: _Kept, now: float) -> None:
        """A session is gone. (Of one that lives the log is told each eighth of a lease.)"""
        self._gone.add(number)
        if kept.closed or kept.heard_at is None or (kept.durable and self._is_losing):
            return
        ended_at, durable = now, self._core.durable
        if kept.durable and durable is not None and durable._ahead_s is not None:
            ended_at = durable._log_time
            if ended_at > now + durable._ahead_s + 1e-6:
                return  # A command of an earlier life, whose time had run further, has come late.
        silent_s = ended_at - kept.heard_at
        # Not above zero: it was heard after the command that ended it had been proposed.
        is_wrong = 0 < silent_s < self._core._config.session_lease_s * 7 / 8 - 1e-6
        uphold(not is_wrong, "sessions_live_while_they_are_heard", f"{number} was heard {silent_s:.3f} s ago")

    def _answered(self, link: str, response: Response) -> None:
        xid = self._asked.get((link, response.call))
        if xid is None or xid[0] == NO_SESSION or xid[0] != response.session:
            return
        durable = self._core.durable
        if response.status == Status.REFUSED and self._core._sessions.get(response.session) is not None:
            self._refused.add(xid)
        elif response.status <= Status.FAILED and durable is not None and durable.sessions.get(xid[0]) is not None:
            uphold(xid in self._committed, "no_answer_before_commit", f"{xid} was answered on {link}")

    def _begin(self, execution: Execution) -> None:
        request = execution.request
        uphold(execution.ticket not in self._runs, "tickets_are_unique", str(execution.ticket))
        self._runs[execution.ticket] = execution
        if not _is_deduplicated(execution):
            return
        xid = (request.session, request.seq)
        uphold(xid not in self._begun, "no_call_runs_twice", f"{xid} was begun again")
        uphold(xid not in self._refused, "what_was_refused_never_runs", f"{xid} was begun")
        self._begun.add(xid)
        if execution.from_log:
            uphold(xid in self._committed, "no_effect_before_commit", f"{xid} was begun")

    def _look_at_sessions(self, now: float) -> None:
        """Marks, replies, and who is gone."""
        sessions = 0
        for session in _sessions_of(self._core):
            sessions += 1
            number = session.number
            kept = self._kept.get(number)
            if kept is None:
                uphold(number not in self._gone, "a_session_that_ended_stays_ended", f"{number} is back")
                durable = self._core._sessions.get(number) is None
                kept = self._kept[number] = _Kept(durable=durable)
            if session.ack != kept.mark:
                detail = f"{number}: {session.ack} after {kept.mark}"
                uphold(session.ack > kept.mark, "the_mark_never_goes_back", detail)
                kept.mark = session.ack
                kept.replies = {seq: reply for seq, reply in kept.replies.items() if seq > session.ack}
            self._compare(session, kept)
        if sessions != len(self._kept):
            present = {session.number for session in _sessions_of(self._core)}
            for number in [each for each in self._kept if each not in present]:
                self._bury(number, self._kept.pop(number), now)

    def _compare(self, session: Session, kept: _Kept) -> None:
        """What was remembered is remembered still, and the same."""
        ended = 0
        for seq, entry in session.entries.items():
            reply = entry.reply
            if reply is not None:
                ended += 1
                before = kept.replies.setdefault(seq, reply)
                if reply is not before and reply != before:
                    raise InvariantBroken("a_reply_never_changes", f"{(session.number, seq)} was {before}, is {reply}")
        if ended != len(kept.replies):
            gone = [seq for seq in kept.replies if seq not in session.entries or session.entries[seq].reply is None]
            acknowledged = all(seq <= session.ack for seq in gone)
            uphold(acknowledged, "a_reply_is_kept_until_acknowledged", f"session {session.number} has lost {gone}")


# ------------------------------------------------------------------------------------------------ where to look


def _tables_of(core: ServerCore) -> tuple[Sessions, ...]:
    return (core._sessions,) if core.durable is None else (core._sessions, core.durable.sessions)


def _sessions_of(core: ServerCore) -> list[Session]:
    return [*core._sessions] if core.durable is None else [*core._sessions, *core.durable.sessions]


def _is_deduplicated(execution: Execution) -> bool:
    mode, session = execution.request.mode, execution.request.session
    return session != NO_SESSION and (execution.from_log or mode == Mode.AT_MOST_ONCE)


def _size(reply: Reply) -> int:
    return len(reply.body) + (0 if reply.attachment is None else memoryview(reply.attachment).nbytes)
