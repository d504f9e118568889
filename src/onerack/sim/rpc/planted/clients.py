"""Planted bugs of clients."""

from __future__ import annotations

from typing import Any

import msgspec

from onerack.rpc.core.client import Abandon, ClientCore, Unlinked, _Open
from onerack.rpc.core.lanes import Lane
from onerack.rpc.core.retry import RetryBudget
from onerack.rpc.messages import NO_SESSION, Response, Status
from onerack.runtime.seam import Envelope, NodeId
from onerack.sim.rpc.client import Life
from onerack.sim.rpc.kit import Honest
from onerack.sim.rpc.options import Options
from onerack.sim.rpc.planted.kits import WrongClient, WrongLanes, plant

# ------------------------------------------------------------------------------------------------ numbers


@plant
class RepliesAreMatchedByNumberAlone(WrongClient):
    """A reply is of the call that has its sequence number, whatever the session."""

    class Wrong(ClientCore):
        def _attempt(self, call: _Open, now: float) -> None:
            super()._attempt(call, now)
            if call.seq:
                envelope = self._output.sends[-1]
                message = msgspec.structs.replace(envelope.message, call=call.seq)
                self._output.sends[-1] = msgspec.structs.replace(envelope, message=message)

        def on_response(self, response: Response, sender: NodeId, now: float, attachment: Any = None) -> None:
            if response.session != NO_SESSION:
                for call in self._open.values():
                    if call.seq == response.call:
                        response = msgspec.structs.replace(response, call=call.invoke.call, session=call.session)
                        break
                else:
                    return
            super().on_response(response, sender, now, attachment)


@plant
class TheMarkRunsAhead(WrongLanes):
    """The mark is the highest number that is done, whatever is open below."""

    class Wrong(Lane):
        __slots__ = ()

        def finish(self, seq: int) -> None:
            super().finish(seq)
            self.ack = max(self.ack, seq)
            self.limit = self.ack + self.window


@plant
class TheWindowIsOpen(WrongLanes):
    """Calls leave however many are unacknowledged."""

    class Wrong(Lane):
        __slots__ = ()

        def opened(self, session: int, window: int, lease_s: float, now: float) -> None:
            super().opened(session, window, lease_s, now)
            self.limit = 1 << 60

        def finish(self, seq: int) -> None:
            super().finish(seq)
            self.limit = 1 << 60


@plant
class RetriesGetNewNumbers(WrongClient):
    """What is sent again is sent as a new call."""

    class Wrong(ClientCore):
        def _attempt(self, call: _Open, now: float) -> None:
            lane = call.lane
            if lane is not None and call.attempts and lane.has_room:
                lane.finish(call.seq)
                call.seq = lane.take_seq()
            super()._attempt(call, now)


@plant
class AbandonedNumbersAreGivenAgain(WrongClient):
    """A call that its user has given up leaves its number to the next (as NFSv4.1 clients once did)."""

    class Wrong(ClientCore):
        def on_abandon(self, message: Abandon, sender: NodeId, now: float) -> None:
            call = self._open.get(message.call)
            last = call is not None and call.lane is not None and call.seq == call.lane.next_seq - 1 > 0
            super().on_abandon(message, sender, now)
            if last and call is not None and call.lane is not None and call.session == call.lane.session:
                lane = call.lane
                if lane.next_seq == call.seq + 1:
                    lane.next_seq = call.seq
                    lane._done.discard(call.seq)
                    lane.ack = min(lane.ack, call.seq - 1)


@plant
class EndedCallsAreNotAcknowledged(WrongClient):
    """A call that ends without an answer is not behind its client."""

    class Wrong(ClientCore):
        def _end_unknown(self, call: _Open, now: float, cause: str, message: str) -> None:
            call.lane = None
            super()._end_unknown(call, now, cause, message)


@plant
class TheRebornReuseTheirSessions(Honest):
    """A client that was restarted goes on with the sessions of its former life, and counts from one."""

    def start_client(self, life: Life, options: Options, now: float) -> ClientCore:
        core = super().start_client(life, options, now)
        before = life.before
        if before is not None:
            for lane, former in ((core._volatile, before._volatile), (core._durable, before._durable)):
                if former.session != NO_SESSION:
                    lane.opened(former.session, former.window, former.lease_s, now)
            core._epoch = before._epoch
        return core


# ------------------------------------------------------------------------------------------------ outcomes


@plant
class OneRefusalIsEnough(WrongClient):
    """ "Not executed", said of one attempt, is taken for all of them."""

    class Wrong(ClientCore):
        def on_response(self, response: Response, sender: NodeId, now: float, attachment: Any = None) -> None:
            call = self._open.get(response.call)
            if call is not None and response.session == call.session and response.status > Status.FAILED:
                call.refusals = max(call.refusals, call.attempts - 1)
                call.unsure = False
            super().on_response(response, sender, now, attachment)


@plant
class LostLinksTookAllWithThem(WrongClient):
    """What was sent by a link that was lost is thought to be lost too."""

    class Wrong(ClientCore):
        def on_unlinked(self, message: Unlinked, sender: NodeId, now: float) -> None:
            super().on_unlinked(message, sender, now)
            for call in self._open.values():
                call.refusals = call.attempts
                call.unsure = False


@plant
class CallsMoveWithoutProof(WrongClient):
    """A call whose session is lost goes on in a new one, whether it may have run or not."""

    class Wrong(ClientCore):
        def _move(self, call: _Open, lane: Lane, now: float, cause: str) -> None:
            call.refusals = call.attempts
            call.unsure = False
            super()._move(call, lane, now, cause)


@plant
class RetriesWithoutBudget(WrongClient):
    """Every retry is granted."""

    class Wrong(ClientCore):
        pass

    def start_client(self, life: Life, options: Options, now: float) -> ClientCore:
        core = super().start_client(life, options, now)

        class Boundless(RetryBudget):
            def withdraw(self, now: float) -> bool:
                return True

        core._budget.__class__ = Boundless
        return core


@plant
class NobodyKeepsSessions(WrongClient):
    """A client with nothing to say says nothing."""

    class Wrong(ClientCore):
        def _send(self, message: Any) -> None:
            if type(message).__name__ != "KeepSession":
                self._output.sends.append(Envelope("server", message))
