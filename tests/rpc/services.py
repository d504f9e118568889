"""A service that shows every kind of method, for tests of client and server together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol, TypeVar

import msgspec

from onerack import rpc
from onerack.errors import ApplicationError

T = TypeVar("T")


class Receipt(msgspec.Struct, frozen=True):
    number: int
    words: tuple[str, ...] = ()


class Shop(Protocol):
    """Every kind of method."""

    async def buy(self, item: str, count: int = 1) -> Receipt: ...
    @rpc.readonly
    async def stock(self, item: str) -> int: ...
    @rpc.at_least_once(attempts=3)
    async def set_price(self, item: str, cents: int) -> None: ...
    async def fail(self, how: str) -> None: ...
    async def wait(self, seconds: float) -> str: ...
    @rpc.readonly
    async def about_call(self) -> dict[str, str]: ...
    @rpc.readonly
    async def size(self, body: rpc.Attachment, name: str = "") -> int: ...
    @rpc.readonly
    async def blob(self, size: int) -> rpc.Attachment: ...
    async def both(self, body: rpc.Attachment) -> tuple[str, rpc.Attachment]: ...
    @rpc.readonly
    def count(self, upto: int) -> AsyncIterator[int]: ...
    async def total(self, numbers: AsyncIterator[int]) -> int: ...
    def upper(self, words: AsyncIterator[str]) -> AsyncIterator[str]: ...


class ShopServer:
    """Plain `def` where nothing is waited for."""

    def __init__(self) -> None:
        self.bought: list[str] = []
        self.prices: dict[str, int] = {}
        self.called_off: list[str] = []
        self.generators_closed = 0

    def buy(self, item: str, count: int = 1) -> Receipt:
        self.bought.append(item)
        return Receipt(len(self.bought), (item,) * count)

    def stock(self, item: str) -> int:
        return len(item)

    def set_price(self, item: str, cents: int) -> None:
        self.prices[item] = cents

    def fail(self, how: str) -> None:
        self.bought.append(how)
        if how == "application":
            raise ApplicationError("no funds", cause="insufficient_funds")
        raise ValueError(f"bad {how}")

    async def wait(self, seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError as error:
            self.called_off.append(str(error))
            raise
        return "done"

    def about_call(self) -> dict[str, str]:
        call = rpc.current()
        remaining = "none" if call.remaining_s is None else f"{call.remaining_s:.3f}"
        return {"method": call.method, "peer": call.peer.address, "remaining": remaining, **call.metadata}

    def size(self, body: rpc.Attachment, name: str = "") -> int:
        return len(body) + len(name)

    def blob(self, size: int) -> rpc.Attachment:
        return bytes(size)

    def both(self, body: rpc.Attachment) -> tuple[str, rpc.Attachment]:
        return str(len(body)), body

    async def count(self, upto: int) -> AsyncIterator[int]:
        try:
            for number in range(upto):
                if number == 13_000_000:
                    raise ValueError("unlucky")
                yield number
        finally:
            self.generators_closed += 1

    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    async def upper(self, words: AsyncIterator[str]) -> AsyncIterator[str]:
        async for word in words:
            if word == "fail":
                raise ValueError("told to")
            yield word.upper()


def run(test: Callable[[], Coroutine[Any, Any, T]], seconds: float = 30) -> T:
    """Runs an asynchronous test; one that hangs fails."""

    async def limited() -> T:
        async with asyncio.timeout(seconds):
            return await test()

    return asyncio.run(limited())


@contextlib.asynccontextmanager
async def shop(address: str = "memory://shop", **options: Any) -> AsyncIterator[tuple[Any, ShopServer, rpc.Server]]:
    """A stub, the implementation behind it, and the server."""
    implementation = ShopServer()
    server = await rpc.serve(Shop, implementation, address, **options.pop("server", {}))
    try:
        async with await rpc.connect(Shop, server.address, **options) as stub:
            yield stub, implementation, server
    finally:
        await server.close(drain_s=0)
