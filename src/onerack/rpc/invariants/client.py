"""What must always be true of a client core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onerack.errors import InvariantBroken, uphold
from onerack.rpc.core.client import Abandon, ClientCore, Close, Invoke, Outcome
from onerack.rpc.core.lanes import Lane
from onerack.rpc.invariants.said import Said, Xid
from onerack.rpc.messages import NO_SESSION, CloseSession, KeepSession, Request

OpenNumbers = list[tuple[Lane, list[int]]]
"""For each session of a client, the sequence numbers of its open calls."""

# ------------------------------------------------------------------------------------------------ basic


def the_mark_is_below_every_open_number(core: ClientCore, numbers: OpenNumbers) -> str:
    """To acknowledge a call is to be done with it."""
    for lane, seqs in numbers:
        if any(seq <= lane.ack for seq in seqs):
            return f"session {lane.session}: the mark is {lane.ack}, open are {sorted(seqs)}"
    return ""


def no_number_is_given_to_two_calls(core: ClientCore, numbers: OpenNumbers) -> str:
    """An xid names one call."""
    for lane, seqs in numbers:
        if len(seqs) != len(frozenset(seqs)):
            return f"session {lane.session}: open are {sorted(seqs)}"
    return ""


def the_window_holds(core: ClientCore, numbers: OpenNumbers) -> str:
    """No call leaves that the server would have no room for."""
    for lane, seqs in numbers:
        if any(seq > lane.ack + lane.window for seq in seqs):
            return f"session {lane.session}: mark {lane.ack}, window {lane.window}, open are {sorted(seqs)}"
    return ""


def every_number_is_open_or_done(core: ClientCore, numbers: OpenNumbers) -> str:
    """A number that were neither would stop the mark for ever, and with it the window."""
    for lane, seqs in numbers:
        given = list(range(lane.ack + 1, lane.next_seq))
        if sorted([*seqs, *lane._done]) != given:
            return f"session {lane.session}: {given} were given, {sorted(seqs)} are open, {sorted(lane._done)} done"
    return ""


def every_call_without_a_number_waits_for_one(core: ClientCore, numbers: OpenNumbers) -> str:
    """No call is forgotten."""
    for call in core._open.values():
        if call.lane is not None and not call.seq and call.invoke.call not in call.lane.waiting:
            return f"call {call.invoke.call} has no number and waits for none"
    return ""


def whoever_waits_will_be_looked_at(core: ClientCore, numbers: OpenNumbers) -> str:
    """Nothing waits for ever: every deadline and every pause of an open call has its alarm."""
    for call in core._open.values():
        due_at = call.retry_at if call.invoke.deadline_at is None else min(call.retry_at, call.invoke.deadline_at)
        # How often calls are looked through is bounded, so an alarm may be late by that much; not by more.
        if due_at < core._scan_at - 0.05:
            return f"call {call.invoke.call} is due at {due_at}, the next look is at {core._scan_at}"
    return ""


CLIENT: tuple[Callable[[ClientCore, OpenNumbers], str], ...] = (
    the_mark_is_below_every_open_number,
    no_number_is_given_to_two_calls,
    the_window_holds,
    every_number_is_open_or_done,
    every_call_without_a_number_waits_for_one,
    whoever_waits_will_be_looked_at,
)


def check_client(core: ClientCore) -> None:
    """Raises: InvariantBroken."""
    numbers = _open_numbers(core)
    for prop in CLIENT:
        if complaint := prop(core, numbers):
            raise InvariantBroken(prop.__name__, complaint)


# ------------------------------------------------------------------------------------------------ delta


class ClientWitness:
    """One client core, from its first message. `check` is called after each step."""

    def __init__(self, core: ClientCore) -> None:
        self._core = core
        self._said = Said()
        self._open: dict[int, Invoke] = {}
        self._named: dict[Xid, tuple[int, bytes]] = {}
        """Xid -> the call and the arguments that it stands for."""
        self._marks: dict[int, int] = {}

    def check(self, message: Any, sender: str) -> None:
        """Raises: InvariantBroken."""
        match message:
            case Invoke(call):
                uphold(call not in self._open, "a_call_begins_once", str(call))
                self._open[call] = message
            case Abandon(call):
                self._open.pop(call, None)
        sends, applied = self._said.new_in(self._core._output)
        for outcome in applied:
            if isinstance(outcome, Outcome):
                uphold(outcome.call in self._open, "a_call_ends_once", f"{outcome.call}: {outcome}")
                del self._open[outcome.call]
        for envelope in sends:
            closing = isinstance(message, Close) and isinstance(envelope.message, Request)
            uphold(not closing, "nothing_is_begun_while_closing", f"{envelope.message}")
            self._send(envelope.message)
        kept = self._core._open
        uphold(
            kept.keys() == self._open.keys(),
            "a_call_is_open_until_its_outcome",
            f"open are {sorted(self._open)}, kept are {sorted(kept)}",
        )

    def _send(self, message: Any) -> None:
        if isinstance(message, Request):
            if message.session == NO_SESSION:
                return
            xid = (message.session, message.seq)
            meaning = (message.call, message.arguments)
            uphold(self._named.setdefault(xid, meaning) == meaning, "an_xid_is_never_used_again", str(xid))
            self._mark(message.session, message.ack)
        elif isinstance(message, KeepSession):
            self._mark(message.session, message.ack)
        elif isinstance(message, CloseSession):
            self._marks.pop(message.session, None)

    def _mark(self, session: int, ack: int) -> None:
        before = self._marks.get(session, 0)
        uphold(ack >= before, "the_mark_never_goes_back", f"session {session}: {ack} after {before}")
        self._marks[session] = ack


def _open_numbers(core: ClientCore) -> OpenNumbers:
    found: OpenNumbers = [(lane, []) for lane in (core._volatile, core._durable) if lane.session != NO_SESSION]
    for call in core._open.values():
        for lane, seqs in found:
            if call.seq and call.session == lane.session:
                seqs.append(call.seq)
    return found
