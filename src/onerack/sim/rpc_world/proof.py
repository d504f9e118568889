"""Proofs: a scenario under many seeds, or under a crash at each of its points; and what is said of one that fails.

The idea: first the scenario runs without faults, which shows that it is right, that it is the same again, and how long
it is. Then it runs once for each seed (or point), and the first that finds something is run again to tell its story.

The rule: whatever is found names the seed, the call, how often it was executed, and how to see it again.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn

import msgspec

from onerack.errors import UsageError
from onerack.sim.rpc_world.disk import Remains
from onerack.sim.rpc_world.faults import CALM, ROUGH, Faults, Length, Plan
from onerack.sim.rpc_world.nodes import Role
from onerack.sim.rpc_world.seed import Circumstances, Lived, Run, Scenario, run

Decorated = Callable[..., None]
"""A test made from a scenario by a decorator, which has remembered it."""
STORY_LINES: Final = 60
"""So many of a story stand in an error; `tell` has all of them."""
SEED_VARIABLE: Final = "ONERACK_RPC_SEED"
"""The one seed to run, whatever the program says."""
SEEDS_VARIABLE: Final = "ONERACK_RPC_SEEDS"
"""How many to run."""


class Violation(AssertionError):
    """A seed has found something."""

    def __init__(self, message: str, *, seed: int, reason: str, call: str, executions: int, story: str) -> None:
        super().__init__(message)
        self.seed = seed
        self.reason = reason
        self.call = call
        """The call that it concerns, in words; empty: none in particular."""
        self.executions = executions
        """How often that call's handler has run, replays of a log included."""
        self.story = story


class Report(msgspec.Struct):
    """What was proved, in numbers."""

    runs: int = 0
    calls: int = 0
    outcomes: Counter[str] = msgspec.field(default_factory=Counter)
    """OK, ApplicationError, NotExecuted, Unknown, and open: nobody waited for the end."""
    executions: int = 0
    """Runs of handlers, replays of logs included."""
    crashes: int = 0
    messages: int = 0
    lost: int = 0
    repeated: int = 0
    seconds: float = 0.0
    """Of virtual time."""
    points: int = 0
    """At which a node was crashed by `every_crash_point`."""

    def add(self, lived: Lived) -> None:
        self.runs += 1
        self.calls += lived.outcomes.total()
        self.outcomes += lived.outcomes
        self.executions += lived.executions
        self.crashes += lived.crashes
        self.messages += lived.messages
        self.lost += lived.lost
        self.repeated += lived.repeated
        self.seconds += lived.seconds


def prove(
    scenario: Scenario | Decorated, *, seeds: int | Iterable[int] = 100, seed: int | None = None, faults: Faults = ROUGH
) -> Report:
    """Runs the scenario under seeds 0, 1, 2 ... (or those given); `seed`: under that one alone.

    Raises: Violation: at the first that finds something. UsageError: the scenario is not the same twice.
    """
    __tracebackhide__ = True
    scenario = _scenario(scenario)
    rehearsal = _rehearse(scenario)
    report = Report()
    for number in _chosen(seeds, seed):
        given = Circumstances(number, faults, rehearsal)
        lived = run(scenario, given)
        if lived.failure is not None:
            _object(scenario, given, lived)
        report.add(lived.lived)
    return report


def every_crash_point(
    scenario: Scenario | Decorated,
    *,
    roles: Sequence[Role] = ("server", "client"),
    remains: Sequence[Remains] = ("nothing", "some", "everything"),
    again: int = 0,
    faults: Faults = CALM,
    seed: int = 0,
) -> Report:
    """Runs the scenario once for each point of each node and each of `remains`, with the node crashing exactly there.

    Points are: before a message is sent or heard, before a handler runs and after it has run, before the disk is
    changed or synced. `remains`: of what was not synced. `again`: the node crashes a second time, at each of so many
    points after the first; so also while it recovers. Raises: as `prove`.
    """
    __tracebackhide__ = True
    scenario = _scenario(scenario)
    _rehearse(scenario, seed)
    base = run(scenario, Circumstances(seed, faults))
    if base.failure is not None:
        _object(scenario, Circumstances(seed, faults), base)
    report = Report()
    for node in base.world.nodes:
        if node.role not in roles:
            continue
        lefts: Sequence[Remains] = remains if node.role == "server" else ("some",)
        for point in range(1, base.lived.length.points.get(node.name, 0) + 1):
            for left, later in itertools.product(lefts, range(again + 1)):
                plan = Plan(crashes={node.name: [point, point + later] if later else [point]})
                given = Circumstances(seed, faults, base.lived.length, plan, left)
                lived = run(scenario, given)
                if lived.failure is not None:
                    _object(scenario, given, lived)
                assert any(each.name == node.name and each.crashes for each in lived.world.nodes)
                report.add(lived.lived)
            report.points += 1
    return report


def tell(scenario: Scenario | Decorated, seed: int, *, faults: Faults | None = None) -> str:
    """The whole story of one seed. `faults`: those with which the test is decorated, unless others are given."""
    decorated: Faults = getattr(scenario, "rpc_faults", ROUGH)
    scenario = _scenario(scenario)
    given = Circumstances(0)
    if (rehearsal := run(scenario, given)).failure is None:
        given = Circumstances(seed, faults or decorated, rehearsal.lived.length)
    told = run(scenario, given, keep=True)
    lines = [_faults_in_words(told), *told.trace.story()]
    if told.failure is not None:
        lines.append(told.failure.reason)
    return "\n".join(lines) + "\n"


def _scenario(given: Any) -> Scenario:
    """Raises: UsageError: this is no place for one."""
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise UsageError("a simulation runs an event loop of its own; call it outside of `async` code")
    scenario: Scenario = getattr(given, "rpc_scenario", given)
    return scenario


def _chosen(seeds: int | Iterable[int], seed: int | None) -> Iterable[int]:
    if seed is not None:
        return (seed,)
    if (only := os.environ.get(SEED_VARIABLE)) is not None:
        return (_number(SEED_VARIABLE, only),)
    if (count := os.environ.get(SEEDS_VARIABLE)) is not None:
        return range(_number(SEEDS_VARIABLE, count))
    return range(seeds) if isinstance(seeds, int) else seeds


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"{name}={text!r} must be a whole number")
    return int(text)


def _rehearse(scenario: Scenario, seed: int = 0) -> Length:
    """Twice without faults."""
    __tracebackhide__ = True
    given = Circumstances(seed)
    first, second = run(scenario, given), run(scenario, given)
    if first.failure is not None:
        _object(scenario, given, first)
    if first.lived.trace_hash != second.lived.trace_hash:
        raise UsageError(
            "the scenario is not the same twice: it, or a service, draws from something else than world.random and the "
            "event loop's time (random, time, uuid, a set's order); no seed could be seen again"
        )
    return first.lived.length


# ------------------------------------------------------------------------------------------------ what was found


def _object(scenario: Scenario, given: Circumstances, found: Run) -> NoReturn:
    __tracebackhide__ = True
    told = run(scenario, given, keep=True)
    failure = told.failure or found.failure
    assert failure is not None
    call = told.ledger.calls.get(failure.call)
    story = told.trace.story(failure.call)
    total = told.trace.count
    shown = [*(f"  {line}" for line in story[-STORY_LINES:])]
    calm = ", without any fault" if given.faults == CALM and given.plan is None else ""
    lines = [f"seed {given.seed}{calm}: {failure.reason}"]
    if call is not None:
        lines.append(f"  {call}: {call.outcome}; its handler ran {len(call.runs)} times")
        lines += [f"    at {run.at:.4f} s in {run.life}{' from its log' if run.from_log else ''}" for run in call.runs]
    lines.append(f"  {_faults_in_words(told)}")
    if told.failure is None:
        lines.append("  it does NOT happen again: something other than the seed decides what happens")
    whose = "" if call is None else f" of call {failure.call}"
    lines.append(f"  the story{whose}, its last {len(shown)} lines of {total}:")
    lines += shown
    lines.append(f"  again: {_again(given)}")
    violation = Violation(
        "\n".join(lines),
        seed=given.seed,
        reason=failure.reason,
        call="" if call is None else str(call),
        executions=0 if call is None else len(call.runs),
        story="\n".join(told.trace.story()),
    )
    raise violation from failure.cause


def _faults_in_words(told: Run) -> str:
    faults = told.faults
    names = [name for name in faults.__struct_fields__ if not name.endswith("_s") and name != "vary"]
    words = [f"{name}={getattr(faults, name)}" for name in names if getattr(faults, name)]
    crashes = {node: points for node, points in told.plan.crashes.items() if points}
    left = "" if told.remains == "some" else f", after which {told.remains} is left of what was not synced"
    return f"faults: {' '.join(words) or 'none'}; planned crashes: {crashes or 'none'}{left}"


def _again(given: Circumstances) -> str:
    if given.plan is not None:
        return f"every_crash_point(..., seed={given.seed}): it stops at the same point"
    return f"seed={given.seed} beside the other arguments, or {SEED_VARIABLE}={given.seed} in the environment"
