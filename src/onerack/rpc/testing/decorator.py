"""The decorator: a scenario becomes a test that pytest, unittest or a plain call can run.

The idea: what pytest sees is an ordinary function without the parameter `world`; it needs no plugin for asyncio, since
the scenario runs on a loop of its own. All other parameters stay what they were: `self`, fixtures, parametrization.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from onerack.errors import UsageError
from onerack.sim.rpc_world.faults import ROUGH, Faults
from onerack.sim.rpc_world.proof import prove
from onerack.sim.rpc_world.world import World

AsyncTest = Callable[..., Awaitable[object]]
Test = Callable[..., None]


def rpc_sim(
    *, seeds: int | Iterable[int] = 100, seed: int | None = None, faults: Faults = ROUGH
) -> Callable[[AsyncTest], Test]:
    """Runs an `async def` test with a parameter `world` once for each seed; see `prove`.

    `seed`: only under this one, to look at what it has found. Raises: UsageError: the test is none.
    """

    def decorate(test: AsyncTest) -> Test:
        parameters = inspect.signature(test).parameters
        if not inspect.iscoroutinefunction(test) or "world" not in parameters:
            raise UsageError("@rpc_sim() marks an `async def` test that has a parameter `world`")

        @functools.wraps(test)
        def under_seeds(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            prove(_bound(test, args, kwargs), seeds=seeds, seed=seed, faults=faults)

        shown = [parameter for name, parameter in parameters.items() if name != "world"]
        # For `tell` and its sisters, which may be given what is decorated.
        marks = {"__signature__": inspect.Signature(shown), "rpc_scenario": test, "rpc_faults": faults}
        vars(under_seeds).update(marks)
        return under_seeds

    return decorate


def _bound(test: AsyncTest, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[World], Awaitable[object]]:
    """The test with all its arguments but `world`."""
    names = [name for name in inspect.signature(test).parameters if name != "world"]

    def scenario(world: World) -> Awaitable[object]:
        return test(**dict(zip(names, args, strict=False)), **kwargs, world=world)

    scenario.__name__ = test.__name__
    return scenario
