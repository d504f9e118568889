"""The pytest plugin: a fixture `rpc_world`, and options that say under which seeds simulations run.

    async def test_transfers(rpc_world: World) -> None: ...
    @pytest.mark.rpc_sim(seeds=500, faults=Faults(server_crashes=3))           # where the defaults do not do

The idea: pytest finds it by an entry point, in every project that has onerack installed; so it lies outside of the rpc
package, and imports nothing of it until a test asks for it. What the fixture stands for is onerack.rpc.testing.
"""

from __future__ import annotations

import functools
import inspect
import os
from typing import Any

import pytest

FIXTURE = "rpc_world"
MARK = "rpc_sim"
_OPTIONS = {"--rpc-seed": "ONERACK_RPC_SEED", "--rpc-seeds": "ONERACK_RPC_SEEDS"}
_HELP = {
    "--rpc-seed": "run simulations of RPC under this one seed",
    "--rpc-seeds": "run simulations of RPC under so many seeds",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("onerack")
    for option, words in _HELP.items():
        group.addoption(option, type=int, metavar="N", help=words)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARK}(seeds, seed, faults): how the test's {FIXTURE} is run")
    for option, variable in _OPTIONS.items():
        value = config.getoption(option)
        if value is not None:
            before = os.environ.get(variable)
            os.environ[variable] = str(value)
            config.add_cleanup(functools.partial(_restore, variable, before))


def _restore(variable: str, before: str | None) -> None:
    if before is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = before


@pytest.fixture
def rpc_world(request: pytest.FixtureRequest) -> Any:
    """A simulated world (onerack.rpc.testing.World) for an `async def` test, which runs once for each seed."""
    if not inspect.iscoroutinefunction(request.function):
        raise pytest.UsageError(f"{FIXTURE} is for `async def` tests; others use onerack.rpc.testing.prove")
    return None  # Each seed brings a world of its own.


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a test that takes the fixture; all others are somebody else's."""
    test = pyfuncitem.obj
    if FIXTURE not in pyfuncitem.funcargs or not inspect.iscoroutinefunction(test):
        return None
    from onerack.sim.rpc_world.proof import prove

    names = [name for name in inspect.signature(test).parameters if name != FIXTURE]
    fixtures = {name: pyfuncitem.funcargs[name] for name in names if name in pyfuncitem.funcargs}

    def scenario(world: Any) -> Any:
        return test(**{**fixtures, FIXTURE: world})

    scenario.__name__ = pyfuncitem.name
    marker = pyfuncitem.get_closest_marker(MARK)
    prove(scenario, **(marker.kwargs if marker is not None else {}))
    return True
