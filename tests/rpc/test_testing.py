"""Simulated worlds as their users meet them: decorator, fixture, faults on demand, and what is said on failure."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

from onerack import rpc
from onerack.errors import UsageError
from onerack.rpc.testing import CALM, ROUGH, Faults, Violation, World, prove, rpc_sim, tell
from onerack.sim import pytest_plugin
from tests.rpc.simulated import Account, Bank, Feed, FeedServer, Tally, TallyServer, in_turns, upto

ROOT = Path(__file__).parents[2]


def once(scenario: Callable[[World], Any], faults: Faults = CALM) -> None:
    """Under one seed."""
    prove(scenario, seeds=1, faults=faults)


# ------------------------------------------------------------------------------------------------ how it is run


@rpc_sim(seeds=5)
async def test_a_decorated_test_runs_by_itself(world: World) -> None:
    world.serve(Account, Bank, durable=True)
    account = await world.connect(Account)
    for _ in range(5):
        with suppress(rpc.CallError):
            await account.transfer("ann", "bob", 1)
    world.assert_exactly_once(Account.transfer)


@pytest.mark.parametrize("cents", [1, 2])
@rpc_sim(seeds=1)
async def test_a_decorated_test_may_have_fixtures_and_parameters(world: World, tmp_path: Path, cents: int) -> None:
    assert str(tmp_path)
    world.serve(Account, Bank, durable=True)
    account = await world.connect(Account)
    assert await account.transfer("ann", "bob", cents) == 1


class TestInAClass:
    @rpc_sim(seeds=1)
    async def test_a_method_may_be_decorated(self, world: World) -> None:
        assert world.seed == 0


def test_the_decorator_refuses_what_is_no_scenario() -> None:
    def plain(world: World) -> None: ...
    async def lonely() -> None: ...

    for wrong in (plain, lonely):
        with pytest.raises(UsageError, match=r"an `async def` test that has a parameter `world`"):
            rpc_sim()(wrong)  # type: ignore[arg-type]


def test_seeds_are_those_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    async def scenario(world: World) -> None:
        seen.append(world.seed)

    def seeds(**options: Any) -> list[int]:
        seen.clear()
        prove(scenario, **options)
        return seen[2:]  # After the two runs without faults.

    assert seeds(seeds=3) == [0, 1, 2]
    assert seeds(seeds=(7, 5)) == [7, 5]
    assert seeds(seed=9) == [9]
    monkeypatch.setenv("ONERACK_RPC_SEEDS", "2")
    assert seeds(seeds=50) == [0, 1]
    monkeypatch.setenv("ONERACK_RPC_SEED", "33")
    assert seeds(seeds=50) == [33]
    assert seeds(seeds=50, seed=4) == [4]
    monkeypatch.setenv("ONERACK_RPC_SEED", "many")
    with pytest.raises(UsageError, match="ONERACK_RPC_SEED='many' must be a whole number"):
        seeds(seeds=1)


def test_inside_of_a_running_loop_it_says_so() -> None:
    async def scenario(world: World) -> None: ...

    async def inside() -> None:
        prove(scenario)

    with pytest.raises(UsageError, match="runs an event loop of its own"):
        asyncio.run(inside())


def test_a_report_counts() -> None:
    async def scenario(world: World) -> None:
        world.serve(Tally, TallyServer)
        counter = await world.connect(Tally)
        await in_turns(counter.add, 10)

    report = prove(scenario, seeds=6, faults=Faults(drop=0.2, duplicate=0.2, server_crashes=1, vary=False))
    assert (report.runs, report.calls, report.crashes) == (6, 60, 6)
    assert report.outcomes.total() == 60
    assert 0 < report.outcomes["OK"] <= report.executions <= 60
    assert report.lost > 0
    assert report.repeated > 0
    assert report.seconds > 1.0


def test_a_scenario_that_is_not_the_same_twice_is_refused() -> None:
    draws = iter(range(100))

    async def scenario(world: World) -> None:
        world.serve(Tally, TallyServer)
        await (await world.connect(Tally)).add(next(draws))

    with pytest.raises(UsageError, match=r"not the same twice.*draws from something else than world\.random"):
        prove(scenario)


def test_a_scenario_that_never_ends_is_found() -> None:
    async def waits(world: World) -> None:
        await asyncio.Event().wait()

    with pytest.raises(Violation, match="it has not ended after 86400 s of virtual time"):
        once(waits)

    async def sleeps(world: World) -> None:
        for _ in range(100):
            await asyncio.sleep(1000)

    with pytest.raises(Violation, match="it has not ended after 86400 s of virtual time"):
        once(sleeps)


def test_what_a_scenario_raises_is_a_violation_with_its_cause() -> None:
    async def scenario(world: World) -> None:
        raise LookupError("lost")

    with pytest.raises(Violation, match="the scenario raised LookupError: lost") as caught:
        once(scenario)
    assert isinstance(caught.value.__cause__, LookupError)


def test_an_outcome_that_is_not_caught_is_explained() -> None:
    async def scenario(world: World) -> None:
        world.serve(Tally, TallyServer)
        counter = await world.connect(Tally)
        world.crash("tally")
        await counter.add(1)
        for number in range(20):
            await counter.add(number)
            world.crash("client-1")

    with pytest.raises(Violation, match=r"let Unknown \(cause crashed\) escape.*whoever goes on.*rpc\.CallError"):
        once(scenario, Faults(client_crashes=1, vary=False))


def test_the_guide_says_what_each_fault_does() -> None:
    guide = (ROOT / "docs/rpc.md").read_text(encoding="utf-8").partition("## Testing")[2].partition("\n## ")[0]
    named = [name for row in re.findall(r"^\| (`[^|]*) \|", guide, re.M) for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(Faults.__struct_fields__)


# ------------------------------------------------------------------------------------------------ pytest

FIXTURE_TESTS = """
    import pytest
    from contextlib import suppress
    from onerack import rpc
    from onerack.rpc.testing import Faults, World
    from tests.rpc.simulated import Account, Bank, Tally, TallyServer

    seen = []

    @pytest.fixture
    def cents():
        return 3

    @pytest.mark.rpc_sim(seeds=4, faults=Faults(drop=0.1))
    async def test_with_a_fixture(cents, rpc_world: World):
        seen.append(rpc_world.seed)
        rpc_world.serve(Account, Bank, durable=True)
        account = await rpc_world.connect(Account)
        with suppress(rpc.CallError):
            assert await account.transfer("ann", "bob", cents) == 1

    def test_how_often():
        print("SEEDS", seen[2:])

    async def test_that_fails(rpc_world: World):
        rpc_world.serve(Tally, TallyServer)
        counter = await rpc_world.connect(Tally)
        assert await counter.put(1) == 2

    def test_that_cannot_wait(rpc_world): ...
"""


def run_pytest(tmp_path: Path, *options: str) -> str:
    path = tmp_path / "test_users.py"
    path.write_text(textwrap.dedent(FIXTURE_TESTS))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "onerack.sim.pytest_plugin", "-p", "no:cacheprovider", "-s", "-W",
         "error", "--strict-markers", "--rootdir", str(tmp_path), str(path), *options],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_the_fixture_runs_an_async_test_under_many_seeds(tmp_path: Path) -> None:
    said = run_pytest(tmp_path)
    assert "SEEDS [0, 1, 2, 3]" in said
    assert "seed 0, without any fault: the scenario asserts: assert 1 == 2" in said
    assert "rpc_world is for `async def` tests; others use onerack.rpc.testing.prove" in said
    assert "1 failed, 2 passed, 1 error" in said


def test_the_command_line_says_which_seeds(tmp_path: Path) -> None:
    assert "SEEDS [11]" in run_pytest(tmp_path, "--rpc-seed", "11")
    assert "SEEDS [0, 1]" in run_pytest(tmp_path, "--rpc-seeds", "2")


def test_pytest_finds_the_plugin_by_its_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"onerack": pytest_plugin.__name__}


def test_the_plugin_imports_nothing_of_ours() -> None:
    program = "import sys, onerack.sim.pytest_plugin; print([name for name in sys.modules if 'onerack.rpc' in name])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                          env={"PYTHONPATH": str(ROOT / "src")})  # fmt: skip
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------------ faults on demand


def test_a_crash_on_demand_makes_the_service_anew_and_keeps_what_is_durable() -> None:
    async def scenario(world: World) -> None:
        world.serve(Account, Bank, durable=True)
        world.serve(Tally, TallyServer)
        account, counter = await world.connect(Account), await world.connect(Tally)
        assert await account.transfer("ann", "bob", 5) == 1
        assert await counter.add(1) == 1
        before = world.service(Account)
        world.crash("account")
        world.crash("tally")
        with pytest.raises(UsageError, match="the server of Account is down now"):
            world.service(Account)
        assert await account.transfer("ann", "bob", 5) == 2
        with suppress(rpc.CallError):
            assert await counter.add(2) == 1, "what was volatile is gone"
        assert world.service(Account) is not before
        assert world.service(Account).balances == {"ann": 490, "bob": 510}

    once(scenario)


def test_the_dead_do_nothing_any_more() -> None:
    said: list[str] = []

    class Nap(Protocol):
        async def nap(self) -> None: ...

    class Napper:
        async def nap(self) -> None:
            try:
                said.append("lies down")
                await asyncio.sleep(5.0)
                said.append("gets up")
            finally:
                said.append("finally")

    async def scenario(world: World) -> None:
        said.clear()
        world.serve(Nap, Napper)
        stub = await world.connect(Nap)
        call = asyncio.create_task(stub.nap())
        await asyncio.sleep(0.1)
        world.crash("nap")
        with pytest.raises(rpc.Unknown, match="restarted"):
            await call
        await asyncio.sleep(60.0)
        assert said == ["lies down"]

    once(scenario)


def test_a_call_whose_client_crashes_is_unknown_and_the_client_comes_back() -> None:
    async def scenario(world: World) -> None:
        world.serve(Tally, TallyServer)
        counter = await world.connect(Tally)
        call = asyncio.create_task(counter.add_slowly(4))
        await asyncio.sleep(0.02)
        world.crash("client-1", power=False)
        with pytest.raises(rpc.Unknown) as crashed:
            await call
        assert crashed.value.cause == "crashed"
        await counter.add_slowly(5)
        await world.calm()
        assert world.service(Tally).added == [4, 5], "nobody can call back what was sent"

    once(scenario)


def test_a_cut_ends_calls_with_deadlines_and_delays_the_others() -> None:
    async def scenario(world: World) -> None:
        world.serve(Tally, TallyServer)
        counter = await world.connect(Tally)
        loop = asyncio.get_running_loop()
        await counter.add(0)
        world.cut("client-1", "tally", 10.0)
        began_at = loop.time()
        with rpc.options(deadline=1.0), pytest.raises(rpc.Unknown) as late:
            await counter.add(1)
        assert late.value.cause == "deadline"
        assert await counter.add(2) in (2, 3)
        assert loop.time() - began_at > 9.0
        with pytest.raises(UsageError, match="no node is called 'nobody'; there are tally, client-1"):
            world.cut("nobody", "tally", 1.0)

    once(scenario)


def test_a_cancelled_call_is_called_off_at_the_server() -> None:
    async def scenario(world: World) -> None:
        world.serve(Tally, TallyServer)
        counter = await world.connect(Tally)
        call = asyncio.create_task(counter.add_slowly(4))
        await asyncio.sleep(0.02)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await world.calm()
        assert world.service(Tally).added == []

    once(scenario)


def test_options_of_the_scenario_reach_the_client() -> None:
    async def scenario(world: World) -> None:
        world.serve(Tally, TallyServer, durable=False)
        counter = await world.connect(Tally)
        with rpc.options(mode="exactly_once"), pytest.raises(rpc.NotExecuted, match="no durable log"):
            await counter.add(1)
        with rpc.options(mode="at_least_once"), pytest.raises(UsageError, match="weaker"):
            await counter.add(1)
        with pytest.raises(TypeError, match=r"Tally\.add"):
            await counter.add()  # type: ignore[call-arg]

    with pytest.raises(Violation, match="UsageError"):
        once(lambda world: world.connect(Tally))
    once(scenario)


# ------------------------------------------------------------------------------------------------ every kind of method


def test_streams_and_attachments_pass_and_break_as_they_do_outside() -> None:
    async def scenario(world: World) -> None:
        world.serve(Feed, FeedServer)
        feed = await world.connect(Feed)
        for _ in range(8):
            with suppress(rpc.CallError):
                assert [number async for number in feed.count(30)] == list(range(30))
            with suppress(rpc.CallError):
                assert await feed.total(upto(30)) == sum(range(30))
            with suppress(rpc.CallError):
                size, body = await feed.echo(b"x" * 70_000)
                assert (size, bytes(body)) == (70_000, b"x" * 70_000)
        with suppress(rpc.CallError):
            async for number in feed.count(1000):
                if number == 3:
                    break

    once(scenario)
    faults = Faults(breaks=3, cuts=1, server_crashes=2, client_crashes=1, slow=0.02, vary=False)
    report = prove(scenario, seeds=15, faults=faults)
    assert report.outcomes["Unknown"] > 10
    assert report.outcomes["OK"] > 100


def test_a_stream_over_a_lossy_link_is_refused_with_the_remedy() -> None:
    async def scenario(world: World) -> None:
        world.serve(Feed, FeedServer)
        feed = await world.connect(Feed)
        async for _ in feed.count(3):
            pass

    with pytest.raises(Violation, match="streams are never sent again, so they need Faults without drop"):
        prove(scenario, seeds=1, faults=Faults(drop=0.1, vary=False))


class Front(Protocol):
    """Passes calls on."""

    async def add(self, key: int) -> int: ...


class FrontServer:
    def __init__(self, behind: Any) -> None:
        self.behind = behind

    async def add(self, key: int) -> int:
        return int(await self.behind.add(key))


def test_a_service_may_call_another() -> None:
    async def front() -> FrontServer:
        client = await rpc.connect(Tally, "sim://behind", connect_timeout=1000.0)
        return FrontServer(client.stub)

    async def scenario(world: World) -> None:
        world.serve(Tally, TallyServer, name="behind")
        world.serve(Front, front)
        front_stub = await world.connect(Front)
        await in_turns(front_stub.add, 30)
        world.assert_at_most_once(Front.add)
        world.assert_at_most_once("Tally.add")

    report = prove(scenario, seeds=8, faults=Faults(drop=0.1, duplicate=0.2, server_crashes=2, breaks=1, vary=False))
    assert report.calls > 8 * 50, "calls of services count too"


def test_several_services_share_a_server() -> None:
    async def scenario(world: World) -> None:
        address = world.serve({Account: Bank, Tally: TallyServer}, durable=True, name="all")
        assert address == "sim://all"
        account, counter = await world.connect(Account), await world.connect(Tally, address, name="other")
        assert await account.transfer("ann", "bob", 1) == 1
        assert await counter.add(1) == 1
        with pytest.raises(UsageError, match="there is a node 'other' already"):
            await world.connect(Tally, name="other")
        with pytest.raises(UsageError, match="a factory, which makes the implementation anew"):
            world.serve(Front, TallyServer())  # type: ignore[arg-type]

    once(scenario)


def test_an_implementation_that_does_not_fit_is_refused_as_outside() -> None:
    async def scenario(world: World) -> None:
        world.serve(Account, TallyServer, durable=True)
        await world.connect(Account)

    with pytest.raises(Violation, match=r"account does not start: UsageError: TallyServer\.balance is missing"):
        once(scenario)


# ------------------------------------------------------------------------------------------------ claims


def test_a_claim_needs_calls() -> None:
    async def scenario(world: World) -> None:
        world.serve(Tally, TallyServer)
        counter = await world.connect(Tally)
        await counter.put(1)
        with pytest.raises(UsageError, match=r"Tally\.add was never called"):
            world.assert_exactly_once(Tally.add)
        with pytest.raises(UsageError, match="is no method of an interface of this world"):
            world.assert_exactly_once(Account.transfer)
        world.assert_at_least_once(Tally.put)

    once(scenario)


def test_what_always_holds_is_asked_after_every_execution() -> None:
    async def scenario(world: World) -> None:
        world.serve(Tally, TallyServer)

        def has_few(tally: TallyServer) -> None:
            assert len(tally.added) < 3, "too many"

        world.always(Tally, has_few)
        counter = await world.connect(Tally)
        await in_turns(counter.add, 5)

    with pytest.raises(Violation, match="what always holds of Tally does not: too many"):
        once(scenario)


# ------------------------------------------------------------------------------------------------ stories


def test_a_story_is_the_same_each_time_and_tells_of_messages_crashes_and_disks() -> None:
    @rpc_sim(seeds=3, faults=ROUGH)
    async def transfer(world: World) -> None:
        world.serve(Account, Bank, durable=True)
        account = await world.connect(Account)
        for _ in range(5):
            with suppress(rpc.CallError):
                await account.transfer("ann", "bob", 1)

    story = tell(transfer, seed=2)
    assert story == tell(transfer, seed=2)
    assert "drop=0.15" in story
    for words in ("client-1     sends Request  (call 3)", "account      runs Account.transfer from its log  (call 3)",
                  "append to /account/log-", "account      CRASHES at point", "is told OK"):  # fmt: skip
        assert words in story
    assert story != tell(transfer, seed=1)


def test_a_violation_tells_the_story_of_its_call() -> None:
    class Twice(TallyServer):
        def add(self, key: int) -> int:
            return key // (key - 3) if key == 3 else key

    async def scenario(world: World) -> None:
        world.serve(Tally, Twice)
        counter = await world.connect(Tally)
        for key in range(5):
            assert await counter.add(key) == key

    with pytest.raises(Violation) as caught:
        once(scenario)
    assert "cause error" in str(caught.value)

    async def claims(world: World) -> None:
        world.serve(Tally, TallyServer)
        counter = await world.connect(Tally)
        await in_turns(counter.put, 30)
        world.assert_exactly_once(Tally.put)

    with pytest.raises(Violation) as caught:
        prove(claims, seeds=20, faults=Faults(drop=0.2, duplicate=0.2, vary=False))
    violation = caught.value
    number = violation.call.split()[1].rstrip(",")
    said = str(violation)
    assert f"call {number}, Tally.put(" in said
    assert f"its handler ran {violation.executions} times" in said
    assert "faults: drop=0.2 duplicate=0.2" in said
    others = [line for line in said.splitlines() if "(call " in line and f"(call {number})" not in line]
    assert others == []
    assert len(violation.story.splitlines()) > len(said.splitlines())
