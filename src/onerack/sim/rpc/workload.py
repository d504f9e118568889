"""The workload: logical calls, made up before the run, and what their callers may expect of each.

The rule: nothing here depends on how the schedule goes.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

from onerack.rpc.messages import Mode
from onerack.sim.rpc.options import Options
from onerack.sim.rpc.service import METHODS, Arguments, encode_arguments

_INLINE: Final = {method.mode: number for number, method in enumerate(METHODS) if method.inline}
_WAITING: Final = {method.mode: number for number, method in enumerate(METHODS) if not method.inline}


class SimCall(msgspec.Struct, frozen=True):
    """One call that a user makes."""

    number: int
    client: str
    method: int
    mode: Mode
    """What the caller asks for, and may rely on."""
    arguments: Arguments
    encoded: bytes
    attachment: bool
    slow: bool
    deadline_s: float | None
    abandon_s: float | None
    """After so long the caller loses interest."""

    @property
    def patient(self) -> bool:
        """Waits as long as it takes: it must succeed in the end."""
        return self.mode == Mode.EXACTLY_ONCE and self.deadline_s is None


def make_calls(chance: random.Random, options: Options) -> dict[str, list[SimCall]]:
    """Client -> its calls, in the order in which it makes them."""
    numbers = iter(range(1, options.clients * options.calls + 1))
    return {
        name: [_make_call(chance, options, next(numbers), name) for _ in range(options.calls)]
        for name in (f"c{index}" for index in range(options.clients))
    }


def _make_call(chance: random.Random, options: Options, number: int, client: str) -> SimCall:
    draw = chance.random
    declared = mode = chance.choice(options.modes)
    slow = mode != Mode.EXACTLY_ONCE and draw() < options.slow
    method = _WAITING[declared] if slow else _INLINE[declared]
    if draw() < options.stronger:
        stronger = Mode.EXACTLY_ONCE if options.durable and not slow else Mode.AT_MOST_ONCE
        mode = max(mode, stronger)
    if declared == Mode.EXACTLY_ONCE and draw() < options.weaker:
        mode = Mode.AT_LEAST_ONCE
    logged = Mode.EXACTLY_ONCE in (declared, mode)
    attached = not logged and draw() < options.attached
    arguments = Arguments(
        call=number,
        raises=draw() < options.raising,
        long=draw() < options.long,
        attached=attached,
        padding=bytes(80) if draw() < 0.3 else b"",
    )
    return SimCall(
        number=number,
        client=client,
        method=method,
        mode=mode,
        arguments=arguments,
        encoded=encode_arguments(arguments),
        attachment=attached,
        slow=slow,
        deadline_s=chance.expovariate(1.0 / options.deadline_s) if draw() < options.deadline else None,
        abandon_s=chance.expovariate(1.0 / options.deadline_s) if draw() < options.abandon else None,
    )
