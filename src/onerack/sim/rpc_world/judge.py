"""The judge: what callers were told, against what the ledger says was done.

    OK, ApplicationError    it was executed; once, if at most once or exactly once; and the reply is that of this call
    NotExecuted             it never was, and never will be, however late a copy comes
    Unknown, open           any number of times; at most once, if at most once or exactly once
    Unknown, exactly once   only if the caller gave up: a deadline, a cancellation, the end of its process or session

The rule: whatever can be known at once is said at once; counts are final when the network is empty and every durable
service has been recovered from its disk once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from onerack.errors import ApplicationError
from onerack.rpc.interface import Method
from onerack.rpc.messages import Mode
from onerack.sim.rpc_world.calls import Call, Ledger
from onerack.sim.rpc_world.lives import Life
from onerack.sim.rpc_world.nodes import Ground

GAVE_UP: Final = ("cancelled", "closed", "crashed", "deadline", "expired")
"""Why an exactly-once call may end without anybody knowing how often it was executed."""


class Judge:
    """`lives`: those of the servers that are up."""

    def __init__(self, ground: Ground, ledger: Ledger, lives: Callable[[], Iterable[Life]]) -> None:
        self._ground = ground
        self._ledger = ledger
        self._lives = lives
        self._claims: dict[str, set[Mode]] = {}

    def count(self, call: Call) -> int:
        """How often it has been executed, as far as that lasts."""
        applied = sum(self._ledger.applied_in(life).get(call.number, 0) for life in self._lives())
        return call.lasting_runs + applied

    def claim(self, method: str, mode: Mode) -> None:
        """The scenario says: every call of this method is executed as if it had been declared so."""
        self._claims.setdefault(method, set()).add(mode)

    # ------------------------------------------------------------------------------------------------ at once

    def ended(self, call: Call, method: Method) -> None:
        """A caller has been told how its call ended."""
        self._ground.trace.note(call.client, f"is told {call.outcome}", call=call.number)
        if call.error is not None:
            if call.error.executed is False and self.count(call):
                self._object(call, f"its caller is told {call.outcome}")
            elif isinstance(call.error, ApplicationError) and not _is_its_error(call, call.error):
                self._ground.fail(f"{call.method}: not the error of this call: {call.error}", call=call.number)
            return
        if not any(run.ended for run in call.runs):
            self._object(call, "its caller is told OK")
        elif not method.result_is_stream and not self._is_its_reply(call, method):
            self._ground.fail(f"{call.method}: not the reply of this call: {call.value!r:.80}", call=call.number)

    def _is_its_reply(self, call: Call, method: Method) -> bool:
        for run in call.runs:
            if run.result is not None:
                body, attachment = run.result
                if method.decode_return(body, attachment) == call.value:
                    return True
                if method.encode_return(call.value) == (body, attachment):  # NaN is not even equal to itself.
                    return True
        return False

    # ------------------------------------------------------------------------------------------------ at the end

    def conclude(self) -> None:
        for call in self._ledger.calls.values():
            if call.mode is None and not call.is_over:
                continue  # Never sent, and nobody was told anything.
            for mode in sorted({*self._claims.get(call.method, ()), call.mode or Mode.READONLY}):
                self._weigh(call, mode)

    def _weigh(self, call: Call, mode: Mode) -> None:
        count = self.count(call)
        told_done = call.is_over and (call.error is None or isinstance(call.error, ApplicationError))
        told_not = call.error is not None and call.error.executed is False
        if (told_done and count == 0) or (told_not and count > 0):
            self._object(call, f"its caller was told {call.outcome}")
        elif mode >= Mode.AT_MOST_ONCE and count > 1:
            self._object(call, f"at most once is allowed ({mode.name.lower()})")
        elif (
            call.mode is Mode.EXACTLY_ONCE and call.error is not None and call.error.executed is None
            and call.error.cause not in GAVE_UP
        ):  # fmt: skip
            self._object(call, f"its caller, who never gave up, was told {call.outcome}")

    def _object(self, call: Call, but: str) -> None:
        count = self.count(call)
        times = {0: "was not executed", 1: "was executed once"}.get(count, f"was executed {count} times")
        self._ground.fail(f"{call.method} {times}, but {but}", call=call.number)


def _is_its_error(call: Call, error: ApplicationError) -> bool:
    """Whether a handler that ran for this call raised it. What has no type comes from the server itself."""
    return not error.type or any(run.error.startswith(f"{error.type}: ") for run in call.runs)
