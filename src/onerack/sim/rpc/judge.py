"""The judge: counts executions of every logical call, in memory that survives every crash, and weighs each outcome.

The idea: what a client is told must agree with what happened, not only at that moment but until the end of the run.
Who is told "it ran" must find that it ran (once, if that was promised) and hold the reply of that very call; who is
told "it did not" must never see it run, however late a copy comes; who is told nothing for certain may find one
execution or none.

The rule: an execution counts from the moment at which its handler begins. One that the log ordered counts in the state
that snapshot and log make, so that a replay is no second execution, and an effect that a crash has undone is none.
"""

from __future__ import annotations

import msgspec

from onerack.errors import InvariantBroken
from onerack.rpc.core.client import Outcome
from onerack.rpc.messages import Fault, Mode, Status
from onerack.sim.rpc.options import Options
from onerack.sim.rpc.service import METHODS, State, attachment_of, decode_result
from onerack.sim.rpc.workload import SimCall

_FAULT = msgspec.msgpack.Decoder(Fault)
_CALLED_OFF = ("cancelled", "deadline", "disconnected")


class Case:
    """One logical call, and all that is known of it."""

    __slots__ = ("abandoned", "call", "logged", "orphaned", "outcome", "runs", "sent")

    def __init__(self, call: SimCall, *, logged: bool) -> None:
        self.call = call
        self.logged = logged
        """It runs by order of the log."""
        self.runs = 0
        """Times that its handler began, for a call that is not logged."""
        self.sent = 0
        """Times that it left its client."""
        self.outcome: Outcome | None = None
        self.abandoned = False
        self.orphaned = False
        """Its client died."""

    @property
    def is_open(self) -> bool:
        return self.outcome is None and not self.abandoned and not self.orphaned

    @property
    def ending(self) -> str:
        """In one word."""
        if self.outcome is None:
            return "abandoned" if self.abandoned else "orphaned" if self.orphaned else "open"
        return "UNKNOWN" if self.outcome.status is None else Status(self.outcome.status).name

    @property
    def is_refused(self) -> bool:
        return self.outcome is not None and self.outcome.status in (Status.REFUSED, Status.OVERLOADED)

    @property
    def has_run(self) -> bool:
        return self.outcome is not None and self.outcome.status in (Status.OK, Status.FAILED)


class Judge:
    def __init__(self, calls: dict[str, list[SimCall]], options: Options) -> None:
        self._options = options
        self.cases = {
            call.number: Case(call, logged=_is_logged(call)) for each in calls.values() for call in each
        }  # fmt: skip
        self.left = len(self.cases)
        """Calls that have not ended yet, or not begun."""

    def open_calls(self) -> list[int]:
        return [number for number, case in self.cases.items() if case.is_open]

    # ------------------------------------------------------------------------------------------------ executions

    def began(self, number: int) -> int:
        """A handler begins, not by order of the log. Gives how often it has begun by now."""
        case = self.cases[number]
        case.runs += 1
        _require(not case.is_refused, "what_was_refused_never_runs", f"call {number} runs after {case.outcome}")
        _require(not case.logged, "durable_calls_run_by_order_of_the_log", f"call {number}")
        once = case.call.mode >= Mode.AT_MOST_ONCE
        _require(not once or case.runs == 1, "at_most_once_runs_once", f"call {number} runs {case.runs} times")
        return case.runs

    def applied(self, number: int, times: int) -> None:
        """A handler has run by order of the log: the `times`th time in the state's life."""
        case = self.cases[number]
        _require(not case.is_refused, "what_was_refused_never_runs", f"call {number} runs after {case.outcome}")
        once = case.call.mode >= Mode.AT_MOST_ONCE
        _require(not once or times == 1, "exactly_once_runs_once", f"call {number} runs {times} times")

    def recovered(self, state: State) -> None:
        """A server has made its state anew, and is about to serve."""
        for number, case in self.cases.items():
            if case.logged and case.has_run:
                _require(state.runs.get(number, 0) >= 1, "what_was_answered_survives", f"call {number} is gone")

    # ------------------------------------------------------------------------------------------------ attempts

    def sent(self, number: int) -> None:
        """An attempt leaves its client."""
        self.cases[number].sent += 1

    def retried(self, retries: int, calls: int, elapsed_s: float) -> None:
        """So many retries a client has made, of so many calls, in so many seconds of its life."""
        config = self._options.config
        allowed = config.retry_fraction * calls + config.retry_per_s * (config.retry_memory_s + elapsed_s)
        _require(retries <= allowed + 1e-6, "retries_keep_to_their_budget", f"{retries} of {allowed:.1f} allowed")

    # ------------------------------------------------------------------------------------------------ outcomes

    def abandon(self, number: int) -> None:
        case = self.cases[number]
        if case.is_open:
            case.abandoned = True
            self.left -= 1

    def orphan(self, number: int) -> None:
        """The client has died with the call open."""
        self.cases[number].orphaned = True
        self.left -= 1

    def ended(self, number: int, outcome: Outcome) -> None:
        case = self.cases[number]
        _require(case.outcome is None, "a_call_ends_once", f"call {number}: {outcome}, after {case.outcome}")
        case.outcome = outcome
        self.left -= 1
        if outcome.status == Status.OK:
            result = decode_result(outcome.body)
            self._check_reply(case, result.call, result.run)
            expected = attachment_of(number) if case.call.attachment else None
            given = None if outcome.attachment is None else bytes(outcome.attachment)
            _require(given == expected, "a_reply_belongs_to_its_call", f"call {number} was given {given!r}")
            _require(not case.call.arguments.raises, "an_error_is_told", f"call {number} raised")
        elif outcome.status == Status.FAILED:
            self._check_fault(case, outcome)
        elif case.is_refused:
            _require(case.runs == 0, "what_was_refused_never_runs", f"call {number} ran before {outcome}")
            self._check_excuse(case, outcome)
        else:
            self._check_excuse(case, outcome)

    def _check_reply(self, case: Case, call: int, run: int) -> None:
        number, mode = case.call.number, case.call.mode
        _require(call == number, "a_reply_belongs_to_its_call", f"call {number} was given the reply of {call}")
        if mode >= Mode.AT_MOST_ONCE:
            _require(run == 1, "a_reply_is_of_the_only_run", f"call {number} was given the reply of run {run}")
        if not case.logged:
            _require(1 <= run <= case.runs, "ok_means_it_ran", f"call {number}: run {run} of {case.runs}")

    def _check_fault(self, case: Case, outcome: Outcome) -> None:
        call = case.call
        fault = _FAULT.decode(outcome.body)
        if fault.cause == "error":
            _require(call.arguments.raises, "an_error_is_of_its_call", f"call {call.number} did not raise: {fault}")
            told, run = fault.message.split("/")
            self._check_reply(case, int(told), int(run))
        elif fault.cause == "result_lost":
            _require(call.arguments.long, "short_results_are_kept", f"call {call.number}: {fault}")
        else:
            _require(fault.cause in _CALLED_OFF, "an_error_is_of_its_call", f"call {call.number}: {fault}")
            _require(self._may_be_called_off(call), "nobody_called_it_off", f"call {call.number}: {fault}")
        if not case.logged:
            _require(case.runs >= 1, "failed_means_it_ran", f"call {call.number}: {fault}")

    def _may_be_called_off(self, call: SimCall) -> bool:
        return call.deadline_s is not None or call.abandon_s is not None

    def _check_excuse(self, case: Case, outcome: Outcome) -> None:
        """A call may fail only for a reason that this world gives."""
        options, call = self._options, case.call
        detail = f"call {call.number}, {call.mode.name}: {outcome}"
        _require(not options.calm, "calls_succeed_where_nothing_is_wrong", detail)
        if outcome.status == Status.OVERLOADED:
            local = outcome.message == "too many calls are open"
            excused = options.config.in_flight_max < 100 if local else options.may_refuse and not call.patient
            _require(excused, "there_was_room", detail)
        if outcome.cause == "closed":
            _require("close_client" in options.fault_kinds, "a_client_closes_when_it_is_told_to", detail)
        elif call.patient and outcome.status != Status.OVERLOADED:
            broke = outcome.cause == "storage" and "fail_log" in options.fault_kinds
            expired = outcome.cause == "expired" and outcome.status is None
            _require(broke or expired, "exactly_once_is_tried_for_ever", detail)
        if outcome.cause == "expired":
            _require(self._may_expire(), "sessions_live_while_their_clients_do", detail)

    def _may_expire(self) -> bool:
        """Whether anything in this world keeps a client from being heard for a lease."""
        options = self._options
        servers_own = {"crash_server", "fail_log"}
        served = options.reliable and not options.weather.slow and servers_own.issuperset(options.fault_kinds)
        return not options.long_lease and not served

    # ------------------------------------------------------------------------------------------------ the end

    def check_end(self, state: State | None) -> None:
        """The last word, when nothing can happen any more."""
        for number, case in self.cases.items():
            runs = state.runs.get(number, 0) if case.logged and state is not None else case.runs
            if case.has_run:
                _require(runs >= 1, "ok_means_it_ran", f"call {number} ran {runs} times")
            if case.is_refused:
                _require(runs == 0, "what_was_refused_never_runs", f"call {number} ran {runs} times")
            if case.call.mode >= Mode.AT_MOST_ONCE:
                _require(runs <= 1, "at_most_once_runs_once", f"call {number} ran {runs} times")
            if self._options.calm:
                _require(runs == 1, "nothing_runs_twice_without_a_fault", f"call {number} ran {runs} times")
                _require(case.sent == 1, "nothing_is_sent_twice_without_a_fault", f"call {number}: {case.sent} times")


def _is_logged(call: SimCall) -> bool:
    return Mode.EXACTLY_ONCE in (METHODS[call.method].mode, call.mode)


def _require(condition: bool, name: str, detail: str) -> None:
    if not condition:
        raise InvariantBroken(name, detail)
