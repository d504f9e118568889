"""A server in a thread of its own, for tests of what blocks: the command line, and programs without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from onerack import rpc
from tests.rpc.services import Shop, ShopServer


class Shopkeeper:
    """The server, seen from other threads."""

    def __init__(self, server: rpc.Server, implementation: ShopServer, loop: asyncio.AbstractEventLoop) -> None:
        self.address = server.address
        self.server = server
        self.implementation = implementation
        self._loop = loop

    def do(self, procedure: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Runs it in the server's loop."""
        return asyncio.run_coroutine_threadsafe(procedure(), self._loop).result(30)

    def until(self, condition: Callable[[], bool]) -> None:
        """Returns when it holds, in the server's loop."""

        async def waiting() -> None:
            while not condition():
                await asyncio.sleep(0.001)

        self.do(waiting)


@contextmanager
def shopkeeper(address: str = "tcp://127.0.0.1:0", **options: Any) -> Iterator[Shopkeeper]:
    ready: list[Shopkeeper] = []
    started = threading.Event()
    stopping = asyncio.Event()

    async def keep() -> None:
        implementation = ShopServer()
        async with await rpc.serve(Shop, implementation, address, **options) as server:
            ready.append(Shopkeeper(server, implementation, asyncio.get_running_loop()))
            started.set()
            await stopping.wait()
            await server.close(drain_s=0)

    thread = threading.Thread(target=lambda: asyncio.run(keep()))
    thread.start()
    assert started.wait(30)
    try:
        yield ready[0]
    finally:
        ready[0]._loop.call_soon_threadsafe(stopping.set)
        thread.join(30)
        assert not thread.is_alive()
