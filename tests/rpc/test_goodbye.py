"""A server that is stopped in the middle of traffic leaves nobody in doubt."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

from onerack import rpc


class Counter(Protocol):
    async def add(self, amount: int) -> int: ...


class CounterServer:
    def __init__(self) -> None:
        self.total = 0

    def add(self, amount: int) -> int:
        self.total += amount
        return self.total


def test_a_call_that_meets_a_goodbye_on_its_way_runs_on_the_next_server(tmp_path: Path) -> None:
    """The server has said that it stops, and the client has not heard it yet: the call is refused, not cut off."""
    address = f"unix://{tmp_path}/service"

    async def main() -> list[int]:
        first, second = CounterServer(), CounterServer()
        server = await rpc.serve(Counter, first, address)
        async with await rpc.connect(Counter, address) as counter:
            await counter.add(1)
            closing = asyncio.create_task(server.close())
            await asyncio.sleep(0)
            call = asyncio.create_task(counter.add(10))
            await closing
            async with await rpc.serve(Counter, second, address):
                assert await call == 10
        return [first.total, second.total]

    assert asyncio.run(main()) == [1, 10]


def test_a_close_that_is_cancelled_still_ends_the_connection() -> None:
    async def main() -> None:
        async with await rpc.serve(Counter, CounterServer(), "tcp://127.0.0.1:0") as server:
            client = await rpc.connect(Counter, server.address)
            closing = asyncio.create_task(client.close())
            await asyncio.sleep(0)
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)
            async with asyncio.timeout(10):
                while server.metrics().connections:
                    await asyncio.sleep(0.001)

    asyncio.run(main())
