"""One seed: a world is made, a scenario lives in it, and what came of it is judged.

The idea: everything of a run hangs on one stage: loop, trace, ledger, sea, plan; it is made for the seed and ends with
it. Whatever goes wrong anywhere is told to the stage, which ends the run with the first of it.

The rule: after the run nothing of it lives on: what is suspended is closed, while it reaches nothing any more. During
it Python's collector rests, since the moments at which it would run `finally` blocks are no seed's to decide.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from random import Random
from typing import Final

import msgspec

from onerack.errors import CallError, UsageError
from onerack.rpc.transports import register
from onerack.sim.loop import Standstill
from onerack.sim.rpc_world.calls import Ledger
from onerack.sim.rpc_world.disk import Remains
from onerack.sim.rpc_world.faults import CALM, Faults, Length, Plan
from onerack.sim.rpc_world.lives import Life
from onerack.sim.rpc_world.loop import WorldLoop
from onerack.sim.rpc_world.sea import Sea
from onerack.sim.rpc_world.trace import Trace
from onerack.sim.rpc_world.weather import Weather
from onerack.sim.rpc_world.world import World
from onerack.sim.seeds import stream

Scenario = Callable[[World], Awaitable[object]]

SCENARIO_S: Final = 24 * 3600.0
"""A scenario that has not ended after a day never will."""


class Failure(msgspec.Struct):
    """What a seed has found."""

    reason: str
    call: int
    """The number of the call that it concerns; 0: none in particular."""
    cause: BaseException | None


class Circumstances(msgspec.Struct, frozen=True):
    """What a run depends on, besides the scenario."""

    seed: int
    faults: Faults = CALM
    rehearsed: Length = msgspec.field(default_factory=Length)
    """How long the scenario is without faults."""
    plan: Plan | None = None
    """Where faults strike, if that is not to be drawn."""
    remains: Remains = "some"


class Lived(msgspec.Struct):
    """How one seed went."""

    trace_hash: str
    seconds: float
    """Of virtual time."""
    outcomes: Counter[str]
    executions: int
    crashes: int
    messages: int
    lost: int
    repeated: int
    length: Length


class Nobody:
    """Whose life no crash ends."""

    def __init__(self, name: str, trace: Trace) -> None:
        self.name = name
        self._trace = trace

    def reached(self, life: Life, what: str, detail: int, call: int) -> None:
        self._trace.note(self.name, what, detail=detail, call=call)


class Run:
    """A scenario under one seed. It is the world's `Stage`. Made, lived once, then read."""

    def __init__(self, scenario: Scenario, given: Circumstances, *, keep: bool = False) -> None:
        """`keep`: the story will be wanted."""
        self.seed = given.seed
        self.loop: asyncio.AbstractEventLoop = WorldLoop(self._unhandled)
        self.trace = Trace(self.loop, keep=keep)
        self.faults = given.faults.drawn(self.stream("faults"))
        self.rehearsed = given.rehearsed
        self.length = Length()
        self.remains: Remains = given.remains
        self.plan = given.plan or Plan.drawn(self.faults, given.rehearsed, self.stream("plan"))
        self.weather = Weather(self.faults, self.stream("weather"), self.loop.time)
        self._draws = 0
        self._own = Life(Nobody("world", self.trace), 0, self._draw)
        self._scenario_life = Life(Nobody("scenario", self.trace), 0, self._draw, copy_context())
        self.outside = self._own.context
        self.lives: list[Life] = [self._scenario_life, self._own]
        self.ledger = Ledger(self)
        self.sea = Sea(
            self.weather, self.trace, self.ledger, self.plan, self.stream("sea"), self.outside, self.loop
        )  # fmt: skip
        self.failure: Failure | None = None
        self._is_over = False
        self._failed = asyncio.Event()
        self._scenario = scenario
        self.world = World(self)

    # ------------------------------------------------------------------------------------------------ the stage

    def _draw(self) -> Random:
        self._draws += 1
        return self.stream(f"outside dice {self._draws}")

    def stream(self, name: str) -> Random:
        return stream(self.seed, name)

    def life_ended(self, life: Life) -> None:
        self.sea.life_ended(life)

    def fail(self, reason: str, error: BaseException | None = None, *, call: int = 0) -> None:
        """The first one counts, and nothing counts any more when the run is over."""
        if self.failure is None and not self._is_over:
            self.trace.note("world", "FAILS: ", call=call, words=reason)
            self.failure = Failure(reason, call, error)
            self._failed.set()

    def _unhandled(self, message: str, error: BaseException | None) -> None:
        self.fail(message if error is None else f"nobody caught {type(error).__name__}: {error}", error)

    # ------------------------------------------------------------------------------------------------ the run

    def live(self) -> None:
        """Runs it to its end; then `failure` says whether anything was found, `lived` what happened."""
        collects = gc.isenabled()
        gc.disable()
        try:
            with register("sim", self.sea):
                self.loop.run_until_complete(self.loop.create_task(self._main(), context=self.outside))
        except Standstill as still:
            self.fail(str(still))
        finally:
            self._is_over = True
            self.lived = self._sum_up()
            for life in self.lives:
                life.alive = False
            for life in self.lives:
                life.bury()
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()
            if collects:
                gc.enable()

    async def _main(self) -> None:
        context = self._scenario_life.context
        await self._unless_failed(self.loop.create_task(self._live_scenario(), context=context))
        if self.failure is None:
            await self._unless_failed(self.loop.create_task(self._settle()))

    async def _unless_failed(self, task: asyncio.Task[None]) -> None:
        failed = self.loop.create_task(self._wait_for_failure())
        await asyncio.wait({task, failed}, timeout=SCENARIO_S, return_when=asyncio.FIRST_COMPLETED)
        failed.cancel()
        if not task.done() and self.failure is None:
            self.fail(f"it has not ended after {SCENARIO_S:g} s of virtual time")

    async def _wait_for_failure(self) -> None:
        await self._failed.wait()

    async def _live_scenario(self) -> None:
        try:
            await self._scenario(self.world)
        except AssertionError as error:
            self.fail(f"the scenario asserts: {error}", error)
        except CallError as error:
            self.fail(
                f"the scenario let {type(error).__name__} (cause {error.cause}) escape: {error}. With such faults a "
                "call may end so; whoever goes on regardless catches rpc.CallError",
                error,
            )
        except UsageError as error:
            self.fail(f"UsageError: {error}", error)
        except Exception as error:
            self.fail(f"the scenario raised {type(error).__name__}: {error}", error)

    async def _settle(self) -> None:
        for task in self._scenario_life.open_tasks():
            task.cancel()
        await self.world.calm()
        await self.world.recover()
        self.world.judge()

    def _sum_up(self) -> Lived:
        calls = self.ledger.calls.values()
        self.length.messages = self.sea.messages
        return Lived(
            trace_hash=self.trace.fingerprint(),
            seconds=self.loop.time(),
            outcomes=Counter("OK" if call.outcome == "OK" else call.outcome.partition(" ")[0] for call in calls),
            executions=sum(len(call.runs) for call in calls),
            crashes=sum(node.crashes for node in self.world.nodes),
            messages=self.sea.messages,
            lost=self.weather.lost,
            repeated=self.weather.repeated,
            length=self.length,
        )


def run(scenario: Scenario, given: Circumstances, *, keep: bool = False) -> Run:
    lived = Run(scenario, given, keep=keep)
    lived.live()
    return lived
