"""Calls and their executions: the ledger that survives every crash, and the one that is as mortal as the state.

The idea: every call of the scenario is known from its beginning to its outcome, and every run of a handler is booked to
the call for which it ran: by the link and the number under which the request came, or, when a log has it run, by its
xid. What ran without a log counts for ever: nobody takes back a mail that was sent. What a log has run counts in the
state that snapshot and log make: a replay is no second execution, and what a crash has undone is none.

The rule: what is wrong is said at the moment at which it goes wrong, if one can know it then; judge.py says the rest.
"""

from __future__ import annotations

import msgspec

from onerack.errors import CallError
from onerack.rpc.context import current
from onerack.rpc.interface import Method
from onerack.rpc.messages import Mode, Request
from onerack.sim.rpc_world.links import SimLink
from onerack.sim.rpc_world.lives import Life
from onerack.sim.rpc_world.nodes import Ground

TAG = "onerack-simulated-call"
"""Metadata of a request, until it leaves: the number of its call."""


class Run(msgspec.Struct):
    """One execution."""

    life: str
    at: float
    from_log: bool
    ended: bool = False
    """It came to its end, whichever."""
    result: tuple[bytes, bytes | None] | None = None
    """Encoded, with its attachment; None: it raised, or has not ended, or cannot be encoded."""
    error: str = ""


class Call:
    """One call, made once by somebody, whatever became of it."""

    def __init__(self, number: int, client: str, method: str, words: str) -> None:
        self.number = number
        self.client = client
        self.method = method
        """`Service.method`"""
        self.words = words
        """For people."""
        self.mode: Mode | None = None
        """Under which it was sent; None: it never was."""
        self.arguments: bytes | None = None
        self.runs: list[Run] = []
        """Those without a log, of all lives; those by a log, whenever it was applied."""
        self.is_over = False
        self.value: object = None
        """What its caller was given."""
        self.error: CallError | None = None

    def __str__(self) -> str:
        return f"call {self.number}, {self.words}"

    @property
    def lasting_runs(self) -> int:
        """Those that nothing takes back."""
        return sum(not run.from_log for run in self.runs)

    @property
    def outcome(self) -> str:
        if not self.is_over:
            return "open"
        return "OK" if self.error is None else f"{type(self.error).__name__} ({self.error.cause})"


class Ledger:
    def __init__(self, ground: Ground) -> None:
        self.calls: dict[int, Call] = {}
        self.snapshots: list[dict[int, int]] = []
        """Which executions a snapshot of a service's state holds, by the snapshot's number."""
        self._ground = ground
        self._applied: dict[str, dict[int, int]] = {}
        """By life: how often each call has been executed in the state of that life."""
        self._by_wire: dict[tuple[str, int], Call] = {}
        self._by_xid: dict[tuple[int, int], Call] = {}
        self._by_caller: dict[tuple[str, int], Call] = {}

    def begin(self, client: str, method: str, words: str) -> Call:
        number = len(self.calls) + 1
        call = self.calls[number] = Call(number, client, method, words)
        self._ground.trace.note(client, "calls ", call=number, words=words)
        return call

    # ------------------------------------------------------------------------------------------------ on the wire

    def sent(self, link: SimLink, request: Request) -> tuple[Request, int]:
        caller = (link.life.name, request.call)
        call = self._by_caller.get(caller)
        metadata = dict(request.metadata or {})
        tag = metadata.pop(TAG, None)
        if call is None:
            call = self._first_sent(link, request, tag)
            self._by_caller[caller] = call
        if tag is not None:
            request = msgspec.structs.replace(request, metadata=metadata or None)
        self._by_wire[link.other.name, request.call] = call
        if request.session:
            xid = (request.session, request.seq)
            known = self._by_xid.setdefault(xid, call)
            if known is not call:
                self._ground.fail(f"the xid {xid[0]:x}-{xid[1]} of {known} was used again for {call}", call=call.number)
        return request, call.number

    def _first_sent(self, link: SimLink, request: Request, tag: str | None) -> Call:
        numbered = request.method < len(link.methods)
        method = link.methods[request.method] if numbered else f"method {request.method}"
        call = self.calls[int(tag)] if tag is not None else self.begin(link.life.node, method, method)
        call.mode, call.arguments = Mode(request.mode), request.arguments
        return call

    def number_of(self, link: str, call: int) -> int:
        known = self._by_wire.get((link, call))
        return 0 if known is None else known.number

    # ------------------------------------------------------------------------------------------------ executions

    def executing(self, life: Life, method: Method) -> tuple[Call | None, Run]:
        """A handler begins, in the context of the call that it serves. Raises: PowerLost: it does not."""
        execution = current()._execution
        request = execution.request
        run = Run(life.name, self._ground.loop.time(), execution.from_log)
        call = self._caller_of(execution.link, request, from_log=run.from_log)
        number = 0 if call is None else call.number
        life.point(f"runs {method.full_name}{' from its log' if run.from_log else ''}", call=number)
        if call is None:
            self._ground.fail(f"{life.name} runs {method.full_name}, which nobody has called")
            return None, run
        if method.full_name != call.method or request.arguments != call.arguments:
            self._ground.fail(f"{life.name} runs {method.full_name} for {call}: not what was called", call=number)
        call.runs.append(run)
        if run.from_log:
            count = self._applied.setdefault(life.name, {})
            count[number] = count.get(number, 0) + 1
            self._check_count(call, count[number], f"in the state of {life.name}")
        else:
            self._check_count(call, call.lasting_runs, "over all lives")
        return call, run

    def _caller_of(self, link: str, request: Request, *, from_log: bool) -> Call | None:
        if not from_log:
            return self._by_wire.get((link, request.call))
        if request.session:
            return self._by_xid.get((request.session, request.seq))
        # Called without a session, so the log has only the arguments: any call with the same ones is as good.
        same = [call for call in self.calls.values() if call.arguments == request.arguments and call.mode is not None]
        return min(same, key=lambda call: len(call.runs), default=None)

    def _check_count(self, call: Call, count: int, where: str) -> None:
        assert call.mode is not None
        if count > 1 and call.mode >= Mode.AT_MOST_ONCE:
            self._ground.fail(
                f"{call.method} was executed {count} times {where}, and is {call.mode.name.lower()}", call=call.number
            )
        if call.error is not None and call.error.executed is False:
            self._ground.fail(
                f"{call.method} was executed after its caller was told {type(call.error).__name__}", call=call.number
            )

    def executed(self, life: Life, call: Call | None, run: Run) -> None:
        """A handler has ended. Raises: PowerLost: in that moment."""
        if not life.alive:
            return
        run.ended = True
        number = 0 if call is None else call.number
        if call is not None and run.from_log and call.mode is not None and call.mode >= Mode.AT_MOST_ONCE:
            before = next((each for each in call.runs if each.from_log and each.ended and each is not run), None)
            if before is not None and (before.result, before.error) != (run.result, run.error):
                self._ground.fail(
                    f"{call.method} gave another result in {run.life} than in {before.life}: it is not deterministic, "
                    "or its state was not what the log had made of it",
                    call=number,
                )
        life.point("has run", call=number)

    # ------------------------------------------------------------------------------------------------ what survives

    def applied_in(self, life: Life | None) -> dict[int, int]:
        """How often each call was executed in the state of this life."""
        return {} if life is None else self._applied.setdefault(life.name, {})

    def keep_snapshot(self, life: Life) -> int:
        self.snapshots.append(dict(self.applied_in(life)))
        return len(self.snapshots) - 1

    def restore_snapshot(self, life: Life, number: int) -> None:
        self._applied[life.name] = dict(self.snapshots[number])
