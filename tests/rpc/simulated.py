"""Services and scenarios for the tests of simulated worlds: one method of each mode, and a bank."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from onerack import rpc
from onerack.config import RpcConfig
from onerack.rpc.testing import Faults, World

STORM = Faults(
    drop=0.15, duplicate=0.15, reorder=True, slow=0.05, breaks=2, cuts=1, server_crashes=3, client_crashes=1, vary=False
)
"""On links that lose 15 %, double 15 % and reorder the rest."""
STORM_ON_TCP = Faults(
    slow=0.05, breaks=6, cuts=2, server_crashes=3, client_crashes=1, fsync_failures=1, vary=False
)  # fmt: skip
"""On links that keep the order, and break."""

CLIENTS = 3
OUTSTANDING = 4
"""Calls that each client has open at once."""


class Tally(Protocol):
    """Counts. Each call has a number of its own."""

    @rpc.at_least_once(attempts=8)
    async def put(self, key: int) -> int: ...
    async def add(self, key: int) -> int: ...
    async def add_slowly(self, key: int) -> int: ...
    @rpc.readonly
    async def size(self) -> int: ...


class TallyServer:
    """Volatile: a crash empties it."""

    def __init__(self) -> None:
        self.keys: set[int] = set()
        self.added: list[int] = []

    def put(self, key: int) -> int:
        self.keys.add(key)
        return key

    def add(self, key: int) -> int:
        self.added.append(key)
        return len(self.added)

    async def add_slowly(self, key: int) -> int:
        await asyncio.sleep(0.01 * (key % 5))
        return self.add(key)

    def size(self) -> int:
        return len(self.added)


class Account(Protocol):
    """A bank's."""

    @rpc.exactly_once
    async def transfer(self, source: str, target: str, cents: int) -> int: ...
    @rpc.readonly
    async def balance(self, user: str) -> int: ...


class Bank:
    """Keeps the sum of all balances. A transfer is refused when there is too little."""

    def __init__(self) -> None:
        self.balances = {"ann": 500, "bob": 500}
        self.transfers = 0

    def transfer(self, source: str, target: str, cents: int) -> int:
        if self.balances[source] < cents:
            raise rpc.ApplicationError(f"{source} has too little", cause="insufficient")
        self.balances[source] -= cents
        self.balances[target] += cents
        self.transfers += 1
        return self.transfers

    def balance(self, user: str) -> int:
        return self.balances[user]

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self.balances, self.transfers))

    def restore(self, snapshot: bytes) -> None:
        self.balances, self.transfers = msgspec.msgpack.decode(snapshot)


class Everything(Protocol):
    """A method of each mode, on one state."""

    @rpc.exactly_once
    async def once(self, key: int) -> int: ...
    @rpc.at_least_once
    async def again(self, key: int) -> int: ...
    async def most(self, key: int) -> int: ...
    async def slowly(self, key: int) -> int: ...
    @rpc.readonly
    async def look(self, key: int) -> int: ...


class EverythingServer:
    def __init__(self) -> None:
        self.keys: list[int] = []

    def once(self, key: int) -> int:
        if key % 7 == 0:
            raise ValueError(f"{key} is unlucky")
        self.keys.append(key)
        return len(self.keys)

    def again(self, key: int) -> int:
        return key + 1

    def most(self, key: int) -> int:
        return self.look(key)

    async def slowly(self, key: int) -> int:
        await asyncio.sleep(0.02 * (key % 8))
        return self.look(key)

    def look(self, key: int) -> int:
        if key % 7 == 0:
            raise ValueError(f"{key} is unlucky")
        return key + 2

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.keys)

    def restore(self, snapshot: bytes) -> None:
        self.keys = msgspec.msgpack.decode(snapshot)


class Feed(Protocol):
    """Streams and attachments."""

    @rpc.readonly
    def count(self, upto: int) -> AsyncIterator[int]: ...
    async def total(self, numbers: AsyncIterator[int]) -> int: ...
    def double(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]: ...
    async def echo(self, body: rpc.Attachment) -> tuple[int, rpc.Attachment]: ...


class FeedServer:
    async def count(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            if number % 16 == 15:
                await asyncio.sleep(0.001)
            yield number

    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    async def double(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        async for number in numbers:
            yield 2 * number

    async def echo(self, body: rpc.Attachment) -> tuple[int, rpc.Attachment]:
        return len(body), body


async def upto(count: int) -> AsyncIterator[int]:
    """0, 1, 2 ..., from the caller."""
    for number in range(count):
        if number % 16 == 15:
            await asyncio.sleep(0.001)
        yield number


def keeps_its_money(bank: Bank) -> bool:
    return sum(bank.balances.values()) == 1000


async def in_turns(make: Callable[[int], Awaitable[Any]], count: int) -> None:
    """Makes `count` calls, some at once, and goes on whatever becomes of them."""
    numbers = iter(range(count))

    async def one_after_the_other() -> None:
        for number in numbers:
            with suppress(rpc.CallError):
                await make(number)

    await asyncio.gather(*(one_after_the_other() for _ in range(OUTSTANDING)))


def tally(method: str, calls: int) -> Callable[[World], Awaitable[None]]:
    """A scenario: `calls` calls of one method by each of several clients."""

    async def scenario(world: World) -> None:
        world.serve(Tally, TallyServer)
        stubs = [await world.connect(Tally) for _ in range(CLIENTS)]

        async def call(client: int, number: int) -> None:
            await getattr(stubs[client], method)(client * calls + number)

        await asyncio.gather(*(in_turns(functools.partial(call, client), calls) for client in range(CLIENTS)))

    return scenario


def transfers(calls: int, factory: Callable[[], Bank] = Bank, **options: Any) -> Callable[[World], Awaitable[None]]:
    """A scenario: transfers between two accounts by each of several clients."""

    async def scenario(world: World) -> None:
        world.serve(Account, factory, **{"durable": True, **options})
        world.always(Account, keeps_its_money)
        stubs = [await world.connect(Account) for _ in range(CLIENTS)]

        async def transfer(account: Account, _: int) -> None:
            pair = world.random.sample(("ann", "bob"), 2)
            await account.transfer(pair[0], pair[1], world.random.randint(1, 300))

        await asyncio.gather(*(in_turns(functools.partial(transfer, stub), calls) for stub in stubs))
        world.assert_exactly_once(Account.transfer)

    return scenario


def everything(calls: int) -> Callable[[World], Awaitable[None]]:
    """A scenario: calls of every method, some under another mode, some with a deadline, some called off."""

    async def scenario(world: World) -> None:
        chance = world.random
        config = RpcConfig(
            window=chance.choice((2, 8, 2048)), running_max=chance.choice((1, 3, 1024)),
            waiting_max=chance.choice((2, 8192)), session_lease_s=chance.choice((6.0, 60.0)),
            drain_timeout_s=chance.choice((0.01, 10.0)), attempts_max=chance.choice((1, 5)),
            snapshot_after_bytes=chance.choice((300, 2000, 1 << 20)),
        )  # fmt: skip
        world.serve(Everything, EverythingServer, durable=True, config=config)
        stubs = [await world.connect(Everything, config=config) for _ in range(CLIENTS)]

        async def call(client: int, number: int) -> None:
            method = chance.choice(("once", "again", "most", "slowly", "look"))
            options: dict[str, Any] = {}
            if chance.random() < 0.3:
                options["deadline"] = chance.choice((0.001, 0.02, 1.0, 20.0))
            if chance.random() < 0.1 and method != "slowly":
                options["mode"] = "exactly_once"
            elif chance.random() < 0.1:
                options |= {"mode": "at_least_once", "unsafe": True}
            called_off_after_s = chance.choice((0.001, 0.03, 2.0)) if chance.random() < 0.15 else None
            with rpc.options(**options), suppress(TimeoutError):
                async with asyncio.timeout(called_off_after_s):
                    await getattr(stubs[client], method)(client * calls + number)

        await asyncio.gather(*(in_turns(functools.partial(call, client), calls) for client in range(CLIENTS)))

    return scenario


def streams(calls: int) -> Callable[[World], Awaitable[None]]:
    """A scenario: streams in every direction, some left early, some called off, some past a deadline."""

    async def scenario(world: World) -> None:
        chance = world.random
        config = RpcConfig(
            stream_window_bytes=chance.choice((16, 200, 1 << 20)), streams_max=chance.choice((2, 1024)),
            running_max=chance.choice((2, 1024)), drain_timeout_s=chance.choice((0.01, 10.0)),
        )  # fmt: skip
        world.serve(Feed, FeedServer, config=config)
        feeds = [await world.connect(Feed, config=config) for _ in range(2)]

        async def call(client: int, _: int) -> None:
            feed, count = feeds[client], chance.choice((0, 1, 60, 400))
            leaves_at = chance.choice((-1, -1, 3))
            called_off_after_s = chance.choice((0.001, 0.03, 2.0)) if chance.random() < 0.2 else None
            deadline = chance.choice((0.002, 0.05, 5.0)) if chance.random() < 0.2 else 1000.0
            with rpc.options(deadline=deadline), suppress(TimeoutError):
                async with asyncio.timeout(called_off_after_s):
                    match chance.choice(("count", "total", "double", "echo")):
                        case "count":
                            await _read(feed.count(count), list(range(count)), leaves_at)
                        case "double":
                            await _read(feed.double(upto(count)), [2 * n for n in range(count)], leaves_at)
                        case "total":
                            assert await feed.total(upto(count)) == sum(range(count))
                        case "echo":
                            size, body = await feed.echo(bytes(count * 1000))
                            assert (size, bytes(body)) == (count * 1000, bytes(count * 1000))

        await asyncio.gather(*(in_turns(functools.partial(call, client), calls) for client in range(2)))

    return scenario


async def _read(items: AsyncIterator[int], expected: list[int], leaves_at: int) -> None:
    """What arrives is the beginning of what was sent, and all of it if nothing is raised."""
    read: list[int] = []
    async for item in items:
        assert item == expected[len(read)]
        read.append(item)
        if len(read) == leaves_at:
            return
    assert read == expected
