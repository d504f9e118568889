"""Calls, end to end: what a user of client and server meets, over every transport inside one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from onerack import rpc
from onerack.config import RpcConfig
from onerack.errors import ApplicationError, BindingRefused, NotExecuted, Overloaded, Unknown, UsageError
from tests.rpc.services import Receipt, Shop, ShopServer, run, shop

TRANSPORTS = ["memory://shop", "tcp://127.0.0.1:0", "unix"]


@pytest.fixture(params=TRANSPORTS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"unix://{tmp_path}/s" if request.param == "unix" else str(request.param)


def test_results_come_back_typed(address: str) -> None:
    async def test() -> None:
        async with shop(address) as (stub, implementation, _):
            assert await stub.buy("tea", count=2) == Receipt(1, ("tea", "tea"))
            assert await stub.stock("abc") == 3
            assert await stub.set_price("tea", 5) is None
            assert implementation.prices == {"tea": 5}
            many = await asyncio.gather(*(stub.buy(str(number)) for number in range(500)))
            assert sorted(receipt.number for receipt in many) == list(range(2, 502))

    run(test)


def test_attachments_pass_whole_and_in_both_directions(address: str) -> None:
    async def test() -> None:
        async with shop(address) as (stub, _, _):
            for size in (0, 1, 70_000, 3_000_001):
                body = bytes(range(256)) * (size // 256 + 1)
                assert await stub.size(body[:size], name="ab") == size + 2
                assert bytes(await stub.blob(size)) == bytes(size)
            words, back = await stub.both(b"x" * 200_000)
            assert (words, bytes(back)) == ("200000", b"x" * 200_000)

    run(test)


def test_streams_pass_in_every_direction(address: str) -> None:
    async def numbers(count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    async def words() -> AsyncIterator[str]:
        for word in ("a", "b", "c"):
            yield word

    async def test() -> None:
        async with shop(address) as (stub, implementation, _):
            assert [number async for number in stub.count(30_000)] == list(range(30_000))
            assert await stub.total(numbers(30_000)) == sum(range(30_000))
            assert [word async for word in stub.upper(words())] == ["A", "B", "C"]
            assert implementation.generators_closed == 1

    run(test)


def test_a_stream_that_is_left_early_is_closed_at_the_server() -> None:
    async def test() -> None:
        async with shop() as (stub, implementation, server):
            stream = stub.count(10_000_000)
            async for number in stream:
                if number == 10:
                    break
            await stream.aclose()
            while not implementation.generators_closed or server.core.open_calls:
                await asyncio.sleep(0)
            assert not server.streams

    run(test)


def test_a_reader_that_stops_holds_its_writer_back() -> None:
    async def test() -> None:
        async with shop(config=RpcConfig(stream_window_bytes=4096)) as (stub, _implementation, server):
            stream = aiter(stub.count(10_000_000))
            assert await anext(stream) == 0
            for _ in range(200):
                await asyncio.sleep(0)
            (_, writer), *_ = server.streams.values()
            assert writer is not None
            assert writer._outbound.credit <= 0
            await stream.aclose()

    run(test)


def test_an_iterator_of_arguments_that_fails_fails_the_call() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise LookupError("no more")

    async def test() -> None:
        async with shop() as (stub, _, _):
            with pytest.raises(LookupError, match="no more"):
                await stub.total(broken())

    run(test)


def test_a_stream_that_fails_at_the_server_raises_after_its_items() -> None:
    async def words() -> AsyncIterator[str]:
        yield "a"
        yield "fail"

    async def test() -> None:
        async with shop() as (stub, _, _):
            stream = stub.upper(words())
            assert await anext(stream) == "A"
            with pytest.raises(ApplicationError, match="ValueError: told to"):
                await anext(stream)

    run(test)


# ------------------------------------------------------------------------------------------------ failures


def test_an_exception_of_a_handler_says_that_it_was_executed(address: str) -> None:
    async def test() -> None:
        async with shop(address) as (stub, implementation, _):
            with pytest.raises(ApplicationError, match=r"Shop\.fail raised ValueError: bad luck") as failed:
                await stub.fail("luck")
            assert (failed.value.executed, failed.value.cause, failed.value.type) == (True, "error", "ValueError")
            assert failed.value.traceback == ""
            with pytest.raises(ApplicationError, match="no funds") as failed:
                await stub.fail("application")
            assert failed.value.cause == "insufficient_funds"
            assert implementation.bought == ["luck", "application"]

    run(test)


def test_tracebacks_are_shown_when_the_server_is_told_to() -> None:
    async def test() -> None:
        async with shop(server={"show_tracebacks": True}) as (stub, _, _):
            with pytest.raises(ApplicationError) as failed:
                await stub.fail("luck")
            assert 'raise ValueError(f"bad {how}")' in failed.value.traceback
            assert "onerack/rpc/served" not in failed.value.traceback

    run(test)


def test_arguments_that_do_not_fit_are_refused_and_not_executed() -> None:
    async def test() -> None:
        async with shop() as (stub, implementation, _):
            with pytest.raises(NotExecuted, match=r"Shop\.buy.*count") as refused:
                await stub.buy("tea", count="many")
            assert (refused.value.executed, refused.value.cause) == (False, "bad_arguments")
            with pytest.raises(TypeError, match=r"Shop\.buy"):
                await stub.buy()
            assert implementation.bought == []

    run(test)


def test_a_deadline_ends_the_call_and_calls_the_handler_off(address: str) -> None:
    async def test() -> None:
        async with shop(address) as (stub, implementation, server):
            with rpc.options(deadline=0.05), pytest.raises(Unknown) as late:
                await stub.wait(60)
            assert (late.value.executed, late.value.cause) == (None, "deadline")
            while server.core.open_calls:
                await asyncio.sleep(0.001)
            assert implementation.called_off[0] in ("deadline", "cancelled")
            assert await stub.wait(0) == "done"

    run(test)


def test_a_deadline_before_the_first_send_is_definite() -> None:
    class Silent(Protocol):
        async def say(self, word: str) -> str: ...

    class SilentServer:
        def say(self, word: str) -> str:
            return word

    async def test() -> None:
        server = await rpc.serve(Silent, SilentServer(), "memory://silent")
        client = await rpc.connect(Silent, server.address)
        async with client as stub:
            await server.close(drain_s=0)
            while client.server:
                await asyncio.sleep(0)
            with rpc.options(deadline=0.05), pytest.raises(NotExecuted) as late:
                await stub.say("x")
            assert late.value.executed is False

    run(test)


def test_a_cancelled_caller_cancels_the_handler() -> None:
    async def test() -> None:
        async with shop() as (stub, implementation, server):
            call = asyncio.create_task(stub.wait(60))
            while not server.core.open_calls:
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            while server.core.open_calls:
                await asyncio.sleep(0)
            assert implementation.called_off == ["cancelled"]

    run(test)


def test_deadlines_metadata_and_trace_go_on_to_nested_calls() -> None:
    class Front(Protocol):
        @rpc.readonly
        async def ask(self) -> dict[str, str]: ...

    class FrontServer:
        def __init__(self, behind: Any) -> None:
            self.behind = behind

        async def ask(self) -> dict[str, str]:
            found: dict[str, str] = await self.behind.about_call()
            return found

    async def test() -> None:
        async with shop() as (behind, _, _):
            server = await rpc.serve(Front, FrontServer(behind), "memory://front")
            async with await rpc.connect(Front, server.address) as front:
                plain = await front.ask()
                assert plain["remaining"] == "none"
                metadata = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tenant": "7"}
                with rpc.options(deadline=5, metadata=metadata):
                    found = await front.ask()
                assert 4 < float(found["remaining"]) <= 5
                assert found["traceparent"] == metadata["traceparent"]
                assert "tenant" not in found
            await server.close()

    run(test)


# ------------------------------------------------------------------------------------------------ binding


def test_another_cluster_is_a_clear_error_and_no_hang() -> None:
    async def test() -> None:
        server = await rpc.serve(Shop, ShopServer(), "memory://one", cluster="red")
        with pytest.raises(BindingRefused, match="cluster 'red', not 'blue'") as refused:
            await rpc.connect(Shop, server.address, cluster="blue")
        assert refused.value.cause == "cluster"
        await server.close()

    run(test)


def test_an_incompatible_interface_is_refused_with_the_first_difference() -> None:
    @rpc.service("Shop")
    class Other(Protocol):
        async def buy(self, item: str, count: str) -> None: ...

    @rpc.service("Nowhere")
    class Unserved(Protocol):
        async def buy(self, item: str) -> None: ...

    async def test() -> None:
        server = await rpc.serve(Shop, ShopServer(), "memory://one")
        with pytest.raises(BindingRefused, match=r"client [0-9a-f]{16}, server [0-9a-f]{16}.*Shop\.buy.*count"):
            await rpc.connect(Other, server.address)
        with pytest.raises(BindingRefused, match="no service 'Nowhere' here; served are: Shop"):
            await rpc.connect(Unserved, server.address)
        await server.close()

    run(test)


def test_nobody_there_is_not_executed_within_the_time_given() -> None:
    async def test() -> None:
        with pytest.raises(NotExecuted, match=r"memory://nobody within 0.1 s") as refused:
            await rpc.connect(Shop, "memory://nobody", connect_timeout=0.1)
        assert refused.value.cause == "unreachable"

    run(test)


def test_the_second_address_serves_when_the_first_does_not() -> None:
    async def test() -> None:
        server = await rpc.serve(Shop, ShopServer(), "memory://two")
        async with await rpc.connect(Shop, "memory://one", "memory://two") as stub:
            assert await stub.stock("abc") == 3
        await server.close()

    run(test)


def test_names_are_resolved(tmp_path: Path) -> None:
    services = tmp_path / "services.json"
    services.write_text('{"shop": "memory://hidden"}')

    async def test() -> None:
        server = await rpc.serve(Shop, ShopServer(), "memory://hidden")
        for resolver in (rpc.StaticResolver({"shop": ["memory://hidden"]}), rpc.FileResolver(services)):
            async with await rpc.connect(Shop, "name://shop", resolver=resolver) as stub:
                assert await stub.stock("abc") == 3
            with pytest.raises(UsageError, match="knows no such service"):
                await rpc.connect(Shop, "name://shops", resolver=resolver)
        with pytest.raises(UsageError, match="names need a resolver"):
            await rpc.connect(Shop, "name://shop")
        await server.close()

    run(test)


def test_health_and_reflection_are_served_by_every_server() -> None:
    async def test() -> None:
        server = await rpc.serve(Shop, ShopServer(), "memory://one")
        async with await rpc.connect(rpc.Health, server.address) as health:
            assert await health.check() == "serving"
        async with await rpc.connect(rpc.Reflection, server.address) as reflection:
            described = {service.name: service for service in await reflection.describe()}
        assert list(described) == ["Shop", "onerack.Health", "onerack.Reflection"]
        assert "buy(item: str, count: int = 1)" in described["Shop"].text
        await server.close()

    run(test)


# ------------------------------------------------------------------------------------------------ modes


def test_a_weaker_mode_needs_to_be_called_unsafe() -> None:
    async def test() -> None:
        async with shop() as (stub, _, _):
            with rpc.options(mode="at_least_once"):
                with pytest.raises(UsageError, match="unsafe=True"):
                    await stub.buy("tea")
            with rpc.options(mode="at_least_once", unsafe=True):
                assert (await stub.buy("tea")).number == 1
            with rpc.options(mode="at_most_once"):
                assert await stub.stock("abc") == 3

    run(test)


def test_exactly_once_binds_only_to_a_durable_host() -> None:
    class Bank(Protocol):
        @rpc.exactly_once
        async def add(self, cents: int) -> int: ...

    class BankServer:
        def add(self, cents: int) -> int:
            return cents

    async def test() -> None:
        with pytest.raises(UsageError, match=r"Bank\.add is exactly_once, which needs .*durable"):
            await rpc.serve(Bank, BankServer(), "memory://bank")
        async with shop() as (stub, implementation, _):
            with rpc.options(mode="exactly_once"), pytest.raises(NotExecuted, match="no durable log"):
                await stub.buy("tea")
            assert implementation.bought == []

    run(test)


# ------------------------------------------------------------------------------------------------ load


def test_calls_that_cannot_wait_are_refused_as_overloaded() -> None:
    config = RpcConfig(running_max=2, waiting_max=2, attempts_max=1)

    async def test() -> None:
        async with shop(server={"config": config}, config=config) as (stub, _implementation, _server):
            calls = [asyncio.create_task(stub.wait(0.05)) for _ in range(10)]
            ended = await asyncio.gather(*calls, return_exceptions=True)
            refused = [each for each in ended if isinstance(each, Overloaded)]
            assert [each for each in ended if each == "done"] == ["done"] * 4
            assert len(refused) == 6
            assert all(each.executed is False for each in refused)

    run(test)


def test_interceptors_see_calls_on_both_sides() -> None:
    seen: list[str] = []

    async def at_client(call: rpc.OutgoingCall, proceed: Any) -> Any:
        seen.append(f"client {call.method}")
        call.metadata["tenant"] = "7"
        return await proceed()

    async def at_server(call: rpc.CurrentCall, proceed: Any) -> Any:
        seen.append(f"server {call.method} {call.metadata.get('tenant')}")
        return await proceed()

    async def test() -> None:
        async with shop(interceptors=[at_client], server={"interceptors": [at_server]}) as (stub, _, _):
            assert await stub.stock("abc") == 3

    run(test)
    assert seen == ["client Shop.stock", "server Shop.stock 7"]


def test_a_policy_decides_who_may_call_what() -> None:
    policy = {"Shop.stock": ["*"], "Shop.buy": ["spiffe://shop/teller"]}

    async def test() -> None:
        async with shop(server={"policy": policy}) as (stub, implementation, _):
            assert await stub.stock("abc") == 3
            with pytest.raises(NotExecuted, match=r"may not call Shop\.buy") as refused:
                await stub.buy("tea")
            assert refused.value.cause == "forbidden"
            assert implementation.bought == []

    run(test)


def test_metrics_count_calls_and_failures() -> None:
    async def test() -> None:
        async with shop() as (stub, _, server):
            for _ in range(70):
                await stub.stock("abc")
            with pytest.raises(ApplicationError):
                await stub.fail("x")
            metrics = server.metrics()
            assert metrics.methods["Shop.stock"].calls == 70
            assert metrics.methods["Shop.stock"].timed == 2
            assert metrics.methods["Shop.fail"].failed == 1
            assert (metrics.connections, metrics.sessions, metrics.running) == (1, 1, 0)

    run(test)


# ------------------------------------------------------------------------------------------------ endings


def test_a_server_that_stops_lets_open_calls_end() -> None:
    async def test() -> None:
        async with shop() as (stub, _, server):
            call = asyncio.create_task(stub.wait(0.05))
            while not server.core.open_calls:
                await asyncio.sleep(0)
            await server.close()
            assert await call == "done"

    run(test)


def test_a_restarted_server_never_runs_a_call_again() -> None:
    async def test() -> None:
        first = ShopServer()
        server = await rpc.serve(Shop, first, "memory://again")
        async with await rpc.connect(Shop, "memory://again") as stub:
            assert (await stub.buy("tea")).number == 1
            call = asyncio.create_task(stub.wait(60))
            while not server.core.open_calls:
                await asyncio.sleep(0)
            await server.close(drain_s=0)
            second = ShopServer()
            server = await rpc.serve(Shop, second, "memory://again")
            with pytest.raises((Unknown, ApplicationError)) as ended:
                await call
            assert ended.value.executed is not False
            assert (await stub.buy("tea")).number == 1
            assert second.called_off == []
        await server.close()

    run(test)


def test_closing_the_client_ends_open_calls_as_unknown() -> None:
    async def test() -> None:
        server = await rpc.serve(Shop, ShopServer(), "memory://one")
        client = await rpc.connect(Shop, server.address)
        call = asyncio.create_task(client.stub.wait(60))
        while not server.core.open_calls:
            await asyncio.sleep(0)
        await client.close()
        with pytest.raises(Unknown, match="closed"):
            await call
        with pytest.raises(NotExecuted, match="closed"):
            await client.stub.stock("abc")
        await server.close(drain_s=0)

    run(test)
