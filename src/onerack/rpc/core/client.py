"""The client core: calls, their attempts, and how they end.

The idea: a call is open from Invoke to Outcome. Attempts are made when there is a link and the call's session (if it
needs one) has room; an attempt is repeated, as the same bytes under the same xid, when the link is lost, when an
unreliable link is silent, or when the server had no room. What may be said at the end follows from the attempts that
were made: if none can have reached a server, the call was not executed; else nobody knows.

The rules:
- a reply counts only for the call *and* the session that it names;
- definite is proved, in doubt the outcome is unknown; a call that ends with its attempts unanswered is acknowledged,
  so that the server discards a late copy;
- on a reliable link nothing is repeated while the link lives: the transport does that, and keepalive tells its death;
- exactly-once calls are tried until their deadline, and without one for ever.

Source: Birrell & Nelson 1984; RIFL, SOSP 2015; the three values of an outcome are Maelstrom's definite and indefinite.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from random import Random
from typing import Any, Final

import msgspec

from onerack.config import RpcConfig
from onerack.rpc.core.lanes import Lane
from onerack.rpc.core.retry import Backoff, RetryBudget
from onerack.rpc.core.runs import Parcel
from onerack.rpc.messages import (
    NO_SESSION,
    UNANSWERED,
    Buffer,
    Cancel,
    CloseSession,
    Fault,
    KeepSession,
    Mode,
    OpenSession,
    Request,
    Response,
    SessionOpened,
    SessionState,
    Status,
)
from onerack.runtime.seam import Envelope, NodeId, Output, Tick

SERVER: Final[NodeId] = "server"
"""Where sends go: whichever link is up."""
_FAILED: Final = int(Status.FAILED)
SCAN_S: Final = 0.005
"""Open calls are looked through for deadlines at most so often ..."""
SCAN_S_PER_CALL: Final = 2e-6
"""... and less often when there are very many, so that looking stays a small part of the work."""


class Invoke(msgspec.Struct, frozen=True, gc=False):
    """A user calls. `call` is never used again by this client."""

    call: int
    method: int
    mode: int
    arguments: bytes
    attachment: Buffer | None = None
    deadline_at: float | None = None
    attempts_max: int = 1
    streaming: bool = False
    metadata: dict[str, str] | None = None
    json: bool = False


class Abandon(msgspec.Struct, frozen=True):
    """The user has lost interest."""

    call: int


class Linked(msgspec.Struct, frozen=True):
    """A link is up, and the server has welcomed us."""

    link: NodeId
    epoch: int
    reliable: bool = True
    """Whether what is sent arrives once and in order as long as the link lives."""
    numbers: tuple[int, ...] = ()
    """The server's number for each of our methods; empty: the same as ours."""


class Unlinked(msgspec.Struct, frozen=True):
    """The link is gone."""

    reason: str = ""


class GoingAway(msgspec.Struct, frozen=True):
    """The server stops: open calls are finished by the link that is up, new ones wait for another."""


class Unreachable(msgspec.Struct, frozen=True):
    """An attempt to get a link has failed. `final`: it will never succeed (a binding was refused)."""

    reason: str
    final: bool = False


class Close(msgspec.Struct, frozen=True):
    """The client ends: open calls end with it."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """How a call ended. `status` OK and FAILED: it was executed. REFUSED: not, and it never will be. None: unknown."""

    call: int
    status: int | None
    body: bytes = b""
    attachment: Buffer | None = None
    cause: str = ""
    message: str = ""


class Answered(msgspec.Struct, frozen=True):
    """A Response that came with an attachment."""

    response: Response
    attachment: Buffer


class _Open(msgspec.Struct, eq=False):
    """An open call."""

    invoke: Invoke
    lane: Lane | None
    session: int = NO_SESSION
    seq: int = 0
    attempts: int = 0
    """Requests that have left in this session."""
    refusals: int = 0
    """How many of them were answered with "not executed by this attempt"."""
    unsure: bool = False
    """A copy of an attempt may exist that no answer accounts for."""
    retries: int = 0
    silences: int = 0
    """How many attempts by this link were not answered in time."""
    retry_at: float = inf

    @property
    def may_have_run(self) -> bool:
        return self.unsure or self.attempts > self.refusals


class ClientCore:
    """One client's calls to one service."""

    def __init__(self, config: RpcConfig, random: Random, now: float) -> None:
        self._config = config
        self._open: dict[int, _Open] = {}
        self._volatile = Lane(durable=False)
        self._durable = Lane(durable=True)
        self._lanes = (None, None, self._volatile, self._durable)
        self._budget = RetryBudget(config, now)
        self._backoff = Backoff(config, random)
        self._random = random
        self._link: NodeId | None = None
        self._epoch = 0
        self._reliable = True
        self._numbers: tuple[int, ...] = ()
        self._refused: Unreachable | None = None
        self._scan_at = inf
        self._output = Output()
        self._handlers: dict[type, Callable[[Any, NodeId, float], None]] = {
            Invoke: self.on_invoke,
            Response: self.on_response,
            Answered: self.on_answered,
            SessionOpened: self.on_session_opened,
            SessionState: self.on_session_state,
            Abandon: self.on_abandon,
            Linked: self.on_linked,
            GoingAway: self.on_going_away,
            Unlinked: self.on_unlinked,
            Unreachable: self.on_unreachable,
            Close: self.on_close,
            Tick: self.on_tick,
        }

    # ------------------------------------------------------------------------------------------------ the seam

    def step(self, message: Any, sender: NodeId, now: float) -> None:
        self._handlers[type(message)](message, sender, now)

    def drain(self) -> Output:
        output, self._output = self._output, Output()
        output.wake_at = None if self._scan_at == inf else self._scan_at
        return output

    @property
    def open_calls(self) -> int:
        return len(self._open)

    @property
    def is_linked(self) -> bool:
        """A server has welcomed us, and takes calls."""
        return self._link is not None

    def told(self, method: int, mode: int, arguments: bytes) -> Request:
        """A request that is no call: nobody waits for it, and it is never sent again. Requires: `is_linked`."""
        number = self._numbers[method] if self._numbers else method
        return Request(UNANSWERED, number, mode, 0, NO_SESSION, 0, 0, arguments)

    # ------------------------------------------------------------------------------------------------ calls begin

    def on_invoke(self, invoke: Invoke, sender: NodeId, now: float) -> None:
        opened = self._open
        if self._refused is not None or len(opened) >= self._config.in_flight_max:
            self._give(self._turned_away(invoke))
            return
        self._budget.calls += 1
        lane = None if invoke.streaming else self._lanes[invoke.mode]
        call = opened[invoke.call] = _Open(invoke, lane)
        if invoke.deadline_at is not None and invoke.deadline_at < self._scan_at:
            self._scan_at = invoke.deadline_at
        if lane is None:
            if self._link is not None:
                self._attempt(call, now)
        elif lane.next_seq <= lane.limit and self._link is not None and not lane.waiting:
            call.session = lane.session
            call.seq = lane.next_seq
            lane.next_seq += 1
            self._attempt(call, now)
        else:
            lane.waiting.append(invoke.call)
            self._advance(lane, now)

    def _turned_away(self, invoke: Invoke) -> Outcome:
        if self._refused is None:
            return Outcome(invoke.call, Status.OVERLOADED, cause="overloaded", message="too many calls are open")
        return Outcome(invoke.call, Status.REFUSED, cause="unreachable", message=self._refused.reason)

    def _number(self, call: _Open, lane: Lane) -> None:
        call.session = lane.session
        call.seq = lane.take_seq()

    def _advance(self, lane: Lane, now: float) -> None:
        """Calls that wait in the lane leave as far as there is room; a lane without a session asks for one."""
        if self._link is None:
            return
        while lane.waiting and lane.has_room:
            call = self._open.get(lane.waiting.popleft())
            if call is not None:
                self._number(call, lane)
                self._attempt(call, now)
        if lane.waiting and lane.session == NO_SESSION and lane.opening is None:
            self._open_session(lane, now)

    def _open_session(self, lane: Lane, now: float) -> None:
        if lane.opening is None:
            lane.opening = self._random.getrandbits(48) + 1
        lane.heard_at = now
        self._send(OpenSession(lane.opening, lane.durable))
        self._scan_by(now + self._config.attempt_timeout_s)

    def _attempt(self, call: _Open, now: float) -> None:
        invoke = call.invoke
        timeout_ms = 0
        if invoke.deadline_at is not None:
            timeout_ms = max(1, int((invoke.deadline_at - now) * 1000))
        ack = 0
        lane = call.lane
        if lane is not None:
            ack = lane.ack
            lane.heard_at = now
        number = self._numbers[invoke.method] if self._numbers else invoke.method
        request = Request(
            invoke.call, number, invoke.mode, timeout_ms, call.session, call.seq, ack, invoke.arguments,
            invoke.metadata, invoke.json,
        )  # fmt: skip
        call.attempts += 1
        if invoke.attachment is None:
            self._output.sends.append(Envelope(SERVER, request))
        else:
            self._output.sends.append(Parcel(SERVER, request, invoke.attachment))
        if self._reliable:
            call.retry_at = inf
        else:
            call.unsure = True
            timeout_s = self._config.attempt_timeout_s * 2 ** min(call.silences, 6)
            call.retry_at = now + timeout_s * self._random.uniform(0.75, 1.25)
            self._scan_by(call.retry_at)

    # ------------------------------------------------------------------------------------------------ calls end

    def on_answered(self, message: Answered, sender: NodeId, now: float) -> None:
        self.on_response(message.response, sender, now, message.attachment)

    def on_response(self, response: Response, sender: NodeId, now: float, attachment: Buffer | None = None) -> None:
        call = self._open.get(response.call)
        if call is None or call.session != response.session:
            self._on_session_refused(response, now)
            return
        status = response.status
        if 0 <= status <= _FAILED:
            del self._open[response.call]
            lane = call.lane
            if lane is not None and call.seq and call.session == lane.session:
                lane.finish(call.seq)
                if lane.waiting:
                    self._advance(lane, now)
            self._output.applied.append(Outcome(response.call, status, response.body, attachment))
        elif status == Status.REFUSED:
            # It speaks of this attempt; of others, which may be anywhere, it proves nothing.
            call.refusals += 1
            fault = _fault(response)
            self._finish(call, now)
            self._give(Outcome(response.call, None if call.may_have_run else status, response.body, None, fault.cause))
        elif status == Status.OVERLOADED:
            call.refusals += 1
            self._retry(call, now, _fault(response))
        elif status in (Status.FALSE_RETRY, Status.ABORTED):
            fault = _fault(response)
            self._finish(call, now)
            self._give(Outcome(response.call, None, response.body, cause=fault.cause, message=fault.message))
        elif status in (Status.REBOOTED, Status.EXPIRED) and call.lane is not None:
            call.refusals += 1
            self._session_lost(call, now, "rebooted" if status == Status.REBOOTED else "expired")
        else:
            self._end_unknown(call, now, "malformed", f"the server's answer has the status {status}")

    def _finish(self, call: _Open, now: float) -> None:
        """The call is over: its number is behind it, and there is room for another."""
        del self._open[call.invoke.call]
        lane = call.lane
        if lane is not None and call.seq and call.session == lane.session:
            lane.finish(call.seq)
            if lane.waiting:
                self._advance(lane, now)

    def _end_unknown(self, call: _Open, now: float, cause: str, message: str) -> None:
        """The best that can be proved: not executed, if no copy of it can be anywhere; else unknown."""
        self._finish(call, now)
        status = None if call.may_have_run else Status.REFUSED
        self._give(Outcome(call.invoke.call, status, cause=cause, message=message))

    def _retry(self, call: _Open, now: float, fault: Fault) -> None:
        """The server had no room. Later, if the budget allows; an exactly-once call waits as long as it must."""
        call.retries += 1
        patient = call.invoke.mode == Mode.EXACTLY_ONCE
        spent = call.retries >= call.invoke.attempts_max or call.invoke.streaming
        if not patient and (spent or not self._budget.withdraw(now)):
            self._finish(call, now)
            status = None if call.may_have_run else Status.OVERLOADED
            body = msgspec.msgpack.encode(fault)
            self._give(Outcome(call.invoke.call, status, body, cause=fault.cause, message=fault.message))
            return
        call.retry_at = now + max(fault.retry_after_ms / 1000, self._backoff.pause_s(call.retries))
        self._scan_by(call.retry_at)

    def on_abandon(self, message: Abandon, sender: NodeId, now: float) -> None:
        call = self._open.get(message.call)
        if call is None:
            return
        if call.attempts and self._link is not None:
            self._send(Cancel(message.call))
        self._finish(call, now)

    def on_close(self, message: Close, sender: NodeId, now: float) -> None:
        for lane in (self._volatile, self._durable):
            lane.waiting.clear()  # First: a call that ends makes room for one that waits, which would leave now.
        for call in list(self._open.values()):
            if call.attempts and self._link is not None:
                self._send(Cancel(call.invoke.call))
            self._end_unknown(call, now, "closed", "the client was closed")
        for lane in (self._volatile, self._durable):
            if lane.session != NO_SESSION and self._link is not None:
                self._send(CloseSession(lane.session))
            lane.reset()
        self._scan_at = inf

    # ------------------------------------------------------------------------------------------------ sessions

    def on_session_opened(self, message: SessionOpened, sender: NodeId, now: float) -> None:
        for lane in (self._volatile, self._durable):
            if lane.opening == message.call:
                lane.opened(message.session, message.window, message.lease_ms / 1000, now)
                self._scan_by(now + lane.lease_s / 3)
                self._advance(lane, now)

    def _on_session_refused(self, response: Response, now: float) -> None:
        """An answer to OpenSession that is none. (Any other answer that fits no call is a late one.)"""
        for lane in (self._volatile, self._durable):
            if lane.opening != response.call:
                continue
            lane.opening = None
            fault = _fault(response)
            waiting = [self._open[number] for number in lane.waiting if number in self._open]
            lane.waiting.clear()
            for call in waiting:
                if response.status == Status.OVERLOADED:
                    lane.waiting.append(call.invoke.call)
                    self._retry(call, now, fault)
                else:
                    self._finish(call, now)
                    refused = Outcome(call.invoke.call, Status.REFUSED, response.body, None, fault.cause, fault.message)
                    self._give(refused)

    def on_session_state(self, message: SessionState, sender: NodeId, now: float) -> None:
        for lane in (self._volatile, self._durable):
            if lane.session == message.session and not message.alive:
                self._lose_session(lane, now, "expired")

    def _session_lost(self, call: _Open, now: float, cause: str) -> None:
        """This call's session is gone. The call goes on in a new one if it surely did not run."""
        lane = call.lane
        assert lane is not None
        if lane.session == call.session:
            self._lose_session(lane, now, cause)
        else:
            self._move(call, lane, now, cause)

    def _lose_session(self, lane: Lane, now: float, cause: str) -> None:
        lost = lane.session
        lane.reset()
        for call in [each for each in self._open.values() if each.lane is lane and each.session == lost and each.seq]:
            self._move(call, lane, now, cause)
        self._advance(lane, now)

    def _move(self, call: _Open, lane: Lane, now: float, cause: str) -> None:
        if call.may_have_run:
            words = "the server was restarted" if cause == "rebooted" else "the session has expired"
            self._end_unknown(call, now, cause, words)
            return
        call.retries += 1
        if call.invoke.mode != Mode.EXACTLY_ONCE and call.retries >= max(2, call.invoke.attempts_max):
            self._end_unknown(call, now, cause, "session after session was lost")
            return
        call.session, call.seq, call.attempts, call.refusals = NO_SESSION, 0, 0, 0
        call.retry_at = inf
        lane.waiting.append(call.invoke.call)

    # ------------------------------------------------------------------------------------------------ the link

    def on_linked(self, message: Linked, sender: NodeId, now: float) -> None:
        self._link = message.link
        self._reliable = message.reliable
        self._numbers = message.numbers
        self._refused = None
        rebooted = self._epoch not in (0, message.epoch)
        self._epoch = message.epoch
        for lane in (self._volatile, self._durable):
            lane.opening = None
        if rebooted and self._volatile.session != NO_SESSION:
            self._lose_session(self._volatile, now, "rebooted")
        # Whoever gets a number from here on (as one of these ends, say) leaves by this link once, at that moment.
        for call in [each for each in self._open.values() if each.lane is None or each.seq]:
            self._attempt_again(call, now)
        for lane in (self._volatile, self._durable):
            self._advance(lane, now)
            if lane.session != NO_SESSION:
                self._scan_by(lane.heard_at + lane.lease_s / 3)

    def _attempt_again(self, call: _Open, now: float) -> None:
        """On a new link. What was sent by the old one may still arrive."""
        call.silences = 0
        if call.attempts:
            call.retries += 1
            if call.invoke.mode != Mode.EXACTLY_ONCE and call.attempts >= call.invoke.attempts_max:
                self._end_unknown(call, now, "disconnected", "the connection was lost, and there were enough attempts")
                return
        self._attempt(call, now)

    def on_going_away(self, message: GoingAway, sender: NodeId, now: float) -> None:
        self._link = None

    def on_unlinked(self, message: Unlinked, sender: NodeId, now: float) -> None:
        self._link = None
        for call in list(self._open.values()):
            call.retry_at = inf
            if call.invoke.streaming and call.attempts:
                self._end_unknown(call, now, "disconnected", message.reason or "the connection was lost")

    def on_unreachable(self, message: Unreachable, sender: NodeId, now: float) -> None:
        """Nobody answers. Exactly-once calls wait; the others count it as an attempt that could not be made."""
        if message.final:
            self._refused = message
        for call in list(self._open.values()):
            call.retries += 1
            patient = call.invoke.mode == Mode.EXACTLY_ONCE and not message.final
            if not patient and (message.final or call.retries >= max(2, call.invoke.attempts_max)):
                self._end_unknown(call, now, "unreachable", message.reason)

    # ------------------------------------------------------------------------------------------------ time

    def on_tick(self, message: Tick, sender: NodeId, now: float) -> None:
        """Looks through the open calls. How often is bounded, so a deadline may be noticed some milliseconds late."""
        if now < self._scan_at:
            return
        # Attempts that are made on the way say by when to look again.
        self._scan_at = inf
        earliest = inf
        for call in list(self._open.values()):
            deadline_at = call.invoke.deadline_at
            if deadline_at is not None and deadline_at <= now:
                self._overdue(call, now)
                continue
            if call.retry_at <= now:
                self._again(call, now)
            earliest = min(earliest, call.retry_at, inf if deadline_at is None else deadline_at)
        for lane in (self._volatile, self._durable):
            self._keep(lane, now)
        if earliest < inf:
            self._scan_by(earliest)
        if self._scan_at < inf:
            self._scan_at = max(self._scan_at, now + max(SCAN_S, SCAN_S_PER_CALL * len(self._open)))

    def _overdue(self, call: _Open, now: float) -> None:
        if call.attempts and self._link is not None:
            self._send(Cancel(call.invoke.call))
        self._end_unknown(call, now, "deadline", "the deadline has passed")

    def _again(self, call: _Open, now: float) -> None:
        """An attempt on an unreliable link was not answered, or the pause after a refusal is over."""
        call.retry_at = inf
        if self._link is None or (call.lane is not None and not call.seq):
            return
        silent = call.attempts > call.refusals
        if silent:
            call.retries += 1
            call.silences += 1
            patient = call.invoke.mode == Mode.EXACTLY_ONCE
            if not patient and (call.attempts >= call.invoke.attempts_max or not self._budget.withdraw(now)):
                self._end_unknown(call, now, "timeout", f"{call.attempts} attempts were not answered")
                return
        self._attempt(call, now)

    def _keep(self, lane: Lane, now: float) -> None:
        """A session that nobody speaks of expires; one whose opening was not answered is asked for again."""
        if self._link is None:
            return
        if lane.session == NO_SESSION:
            if lane.waiting and (lane.opening is None or now >= lane.heard_at + self._config.attempt_timeout_s):
                self._open_session(lane, now)
            elif lane.opening is not None:
                self._scan_by(lane.heard_at + self._config.attempt_timeout_s)
            return
        if now >= lane.heard_at + lane.lease_s / 3:
            lane.heard_at = now
            self._send(KeepSession(lane.session, lane.ack))
        self._scan_by(lane.heard_at + lane.lease_s / 3)
        self._advance(lane, now)

    # ------------------------------------------------------------------------------------------------ output

    def _send(self, message: Any) -> None:
        self._output.sends.append(Envelope(SERVER, message))

    def _give(self, outcome: Outcome) -> None:
        self._output.applied.append(outcome)

    def _scan_by(self, at: float) -> None:
        if at < self._scan_at:
            self._scan_at = at


_FAULT_DECODER = msgspec.msgpack.Decoder(Fault)


def _fault(response: Response) -> Fault:
    try:
        return _FAULT_DECODER.decode(response.body)
    except msgspec.DecodeError:
        return Fault("malformed", "the server gave no readable reason")
