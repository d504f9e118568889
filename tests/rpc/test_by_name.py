"""Calls by name: with nothing but an address and JSON, through the same core as everybody's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from onerack import rpc
from onerack.errors import ApplicationError, NotExecuted, Unknown, UsageError
from onerack.rpc.by_name import connect_by_name
from tests.rpc.services import run, shop


async def items(*given: bytes) -> AsyncIterator[bytes]:
    for item in given:
        yield item


def test_every_kind_of_method_is_called_by_name() -> None:
    async def test() -> None:
        async with shop() as (_, implementation, server):
            async with await connect_by_name("Shop", server.address) as client:
                assert (await client.call("buy", b'{"item": "tea"}')).body == b'{"number":1,"words":["tea"]}'
                assert (await client.call("stock", b'{"item": "tea"}')).body == b"3"
                assert (await client.call("size", b'{"name": "ab"}', attachment=b"xyz")).body == b"5"
                blob = await client.call("blob", b'{"size": 100000}')
                assert (blob.body, bytes(blob.attachment or b"")) == (b"null", bytes(100_000))
                assert (await client.call("total", items=items(b"1", b" 2"))).body == b"3"
                assert [item async for item in client.stream("count", b'{"upto": 3}')] == [b"0", b"1", b"2"]
                words = items(b'"a"', b'"b"')
                assert [item async for item in client.stream("upper", items=words)] == [b'"A"', b'"B"']
            assert implementation.bought == ["tea"]

    run(test)


def test_calls_by_name_are_deduplicated_and_have_outcomes() -> None:
    async def test() -> None:
        async with shop() as (_, implementation, server):
            async with await connect_by_name("Shop", server.address) as client:
                with pytest.raises(ApplicationError, match="ValueError: bad luck"):
                    await client.call("fail", b'{"how": "luck"}')
                with pytest.raises(NotExecuted, match=r"Shop\.buy.*count"):
                    await client.call("buy", b'{"item": "tea", "count": "many"}')
                with pytest.raises(Unknown), rpc.options(deadline=0.05):
                    await client.call("wait", b'{"seconds": 60}')
                assert server.metrics().sessions == 1, "at most once, so with a session"
                waiting = asyncio.create_task(client.call("wait", b'{"seconds": 60}'))
                while not server.core.open_calls:
                    await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            assert implementation.bought == ["luck"]

    run(test)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("sell", b"{}", r"Shop has no method 'sell'; it has .*buy, .*wait"),
        ("buy", b'{"item": }', r"Shop\.buy: the arguments are not JSON: .*byte 9"),
        ("buy", b"[" * 100_000, "not JSON"),
        ("buy", b"[1]", r"Shop\.buy\(item: str, count: int = 1\) takes a JSON object by name, and not list"),
        ("buy", b'{"itme": "tea"}', r"has no parameter 'itme' in its JSON; it has item, count"),
        ("buy", b"{}", r"needs 'item'"),
        ("size", b"{}", r"needs an attachment, 'body'"),
        ("total", b"{}", r"takes a stream of arguments"),
        ("count", b'{"upto": 3}', r"is a stream: use stream"),
    ],
)
def test_what_the_schema_can_tell_is_said_before_anything_is_sent(name: str, arguments: bytes, said: str) -> None:
    async def test() -> None:
        async with shop() as (_, _, server):
            async with await connect_by_name("Shop", server.address) as client:
                with pytest.raises(UsageError, match=said):
                    await client.call(name, arguments)
            assert sum(method.calls for method in server.metrics().methods.values()) == 1, "Reflection"

    run(test)


def test_a_mode_is_weakened_by_name_only_if_called_unsafe() -> None:
    async def test() -> None:
        async with shop() as (_, _, server):
            async with await connect_by_name("Shop", server.address) as client:
                with rpc.options(mode="at_least_once"), pytest.raises(UsageError, match="unsafe=True"):
                    await client.call("buy", b'{"item": "tea"}')

    run(test)


def test_a_service_that_is_not_there() -> None:
    async def test() -> None:
        server = await rpc.serve({}, None, "memory://empty")
        with pytest.raises(UsageError, match=r"no service 'Shop'; it has onerack.Health, onerack.Reflection"):
            await connect_by_name("Shop", server.address)
        await server.close()

    run(test)


class Counter(Protocol):
    @rpc.exactly_once
    async def add(self, count: int) -> int: ...


class CounterServer:
    def __init__(self) -> None:
        self.total = 0

    def add(self, count: int) -> int:
        self.total += count
        return self.total

    def snapshot(self) -> bytes:
        return str(self.total).encode()

    def restore(self, snapshot: bytes) -> None:
        self.total = int(snapshot)


def test_exactly_once_by_name_goes_through_the_log(tmp_path: Path) -> None:
    async def served(total: int) -> None:
        server = await rpc.serve(Counter, CounterServer(), "memory://once", durable=rpc.LocalLog(tmp_path))
        async with await connect_by_name("Counter", server.address) as client:
            assert (await client.call("add", b'{"count": 2}')).body == str(total).encode()
        await server.close()

    run(lambda: served(2))
    run(lambda: served(4))


def test_streams_of_json_hold_what_msgpack_would_not(tmp_path: Path) -> None:
    class Bytes(Protocol):
        def turned(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]: ...

    class BytesServer:
        async def turned(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            async for part in parts:
                yield part[::-1]

    async def test() -> None:
        server = await rpc.serve(Bytes, BytesServer(), "memory://bytes")
        async with await connect_by_name("Bytes", server.address) as client:
            assert [item async for item in client.stream("turned", items=items(b'"AAEC"'))] == [b'"AgEA"']
            with pytest.raises(ApplicationError, match="base64"):
                assert [item async for item in client.stream("turned", items=items(b'"*"'))] == []
        await server.close()

    run(test)
