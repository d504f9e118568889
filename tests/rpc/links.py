"""What tests of links share: an owner that writes down what it hears, both ends of a link, and both event loops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from onerack.config import RpcConfig
from onerack.rpc.link import Arrival, Link, Listener
from onerack.rpc.transports import attach, dial, listen
from tests.rpc.certificates import Authority

LOOPS = ["asyncio", "uvloop"]
SCHEMES = ["tcp", "tls", "unix", "memory", "attached"]
PATIENCE_S = 20.0
"""So long a test waits for what must come; what must not come is never waited for."""
QUICK = RpcConfig(hello_timeout_s=0.2, keepalive_interval_s=0.1, keepalive_timeout_s=0.1)
"""A connection whose timer ticks every 25 ms."""


def run(main: Coroutine[Any, Any, None], loop: str = "asyncio") -> None:
    """Runs a test in a fresh loop; whatever went wrong in a callback is the test's failure too."""
    if loop == "uvloop":
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
    else:
        factory = None
    complaints: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        async with asyncio.timeout(2 * PATIENCE_S):
            await main

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(watched())
    assert complaints == []


class Recorder:
    """Owns links, and writes down what it hears."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.batches: list[int] = []
        self.lost_reasons: list[str] = []
        self.links: list[Link] = []
        self.answer: Callable[[Link, Sequence[Arrival]], None] | None = None
        self._heard = asyncio.Event()

    def accept(self, link: Link) -> Recorder:
        self.links.append(link)
        self._heard.set()
        return self

    @property
    def link(self) -> Link:
        return self.links[-1]

    @property
    def messages(self) -> list[Any]:
        return [message for message, _ in self.arrivals]

    def received(self, link: Link, arrivals: Sequence[Arrival]) -> None:
        self.arrivals += arrivals
        self.batches.append(len(arrivals))
        self._heard.set()
        if self.answer is not None:
            self.answer(link, arrivals)

    def lost(self, link: Link, reason: str) -> None:
        assert not link.is_open
        self.lost_reasons.append(reason)
        self._heard.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._heard.clear()
                await self._heard.wait()

    async def until_lost(self) -> str:
        await self.until(lambda: self.lost_reasons)
        return self.lost_reasons[0]


class Ends(NamedTuple):
    """Both ends of one link, and who hears at each."""

    client: Link
    at_client: Recorder
    server: Link
    at_server: Recorder
    listener: Listener | None


@asynccontextmanager
async def ends(
    scheme: str, directory: Path, config: RpcConfig | None = None, client_config: RpcConfig | None = None
) -> AsyncIterator[Ends]:
    """A link over a transport; at the end both sides have lost it, once."""
    at_client, at_server = Recorder(), Recorder()
    config = config or RpcConfig()
    listener: Listener | None = None
    if scheme == "attached":
        near, far = socket.socketpair()
        attach(far, at_server.accept, side="server", config=config)
        client = attach(near, at_client.accept, side="client", config=client_config or config)
    else:
        listening_tls = dialling_tls = None
        if scheme == "tls":
            authority = Authority(directory)
            listening_tls = authority.server(authority.issue("server", hosts=["localhost"], addresses=["127.0.0.1"]))
            dialling_tls = authority.client(authority.issue("client", uris=["spiffe://rack/client"]))
        listener = await listen(_address(scheme, directory), at_server.accept, config=config, tls=listening_tls)
        client = await dial(listener.address, at_client, config=client_config or config, tls=dialling_tls)
        await at_server.until(lambda: at_server.links)
    try:
        yield Ends(client, at_client, at_server.link, at_server, listener)
    finally:
        client.close("the test is over")
        if listener is not None:
            await listener.close()
        await at_client.until_lost()
        await at_server.until_lost()
        assert len(at_client.lost_reasons) == len(at_server.lost_reasons) == 1


def _address(scheme: str, directory: Path) -> str:
    return {"unix": f"unix://{directory}/s.sock", "memory": "memory://test"}.get(scheme, f"{scheme}://127.0.0.1:0")
