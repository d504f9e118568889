"""The simulated Env: clock and network of env.py for code that runs on a virtual loop.

The idea: the same promises as the real ones give (in order, nothing repeated, the end is noticed), with seeded delays
in between, and with the one fault that a connection has: it ends.

The rule: what is sent before `close` arrives before the end does.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque

from onerack.runtime.env import Connection, Listener, Serve


class SimClock:
    """The virtual loop's time."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SimConnection:
    """One end of a connection."""

    def __init__(self, network: SimNetwork, peer: str) -> None:
        self.peer = peer
        self.other: SimConnection | None = None
        self._network = network
        self._in_flight: deque[bytes | None] = deque()
        self._arrived: deque[bytes | None] = deque()
        self._bell = asyncio.Event()
        self._closed = False
        self._last_arrival = 0.0

    def send(self, payload: bytes) -> None:
        if not self._closed:
            self._transmit(bytes(payload))

    async def flush(self) -> None:
        await asyncio.sleep(0)

    async def receive(self) -> bytes | None:
        while not self._arrived:
            self._bell.clear()
            await self._bell.wait()
        # The end stays at the end: whoever asks again hears it again.
        return self._arrived.popleft() if self._arrived[0] is not None else None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._arrive(None)
            self._transmit(None)

    def _transmit(self, payload: bytes | None) -> None:
        loop = asyncio.get_running_loop()
        self._last_arrival = max(self._last_arrival, loop.time() + self._network.draw_delay())
        # asyncio does not keep the order of timers of the same moment; the queue does.
        self._in_flight.append(payload)
        loop.call_at(self._last_arrival, self._land)

    def _land(self) -> None:
        assert self.other is not None
        self.other._arrive(self._in_flight.popleft())

    def _arrive(self, payload: bytes | None) -> None:
        if payload is None:
            self._closed = True
        if not self._arrived or self._arrived[-1] is not None:
            self._arrived.append(payload)
        self._bell.set()


class SimListener:
    """Takes connections at one address."""

    def __init__(self, network: SimNetwork, address: str, serve: Serve) -> None:
        self.address = address
        self._network = network
        self._serve = serve
        self._serving: set[asyncio.Task[None]] = set()

    def accept(self, connection: SimConnection) -> None:
        task = asyncio.get_running_loop().create_task(self._run(connection))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _run(self, connection: SimConnection) -> None:
        try:
            await self._serve(connection)
        finally:
            connection.close()

    async def close(self) -> None:
        self._network.listeners.pop(self.address, None)
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


class SimNetwork:
    """Connections inside one process."""

    def __init__(self, chance: random.Random, delay_min_s: float = 0.0005, delay_max_s: float = 0.005) -> None:
        self.listeners: dict[str, SimListener] = {}
        self._chance = chance
        self._delay_min_s = delay_min_s
        self._delay_max_s = delay_max_s
        self._ports = 0

    def draw_delay(self) -> float:
        return self._chance.uniform(self._delay_min_s, self._delay_max_s)

    async def listen(self, address: str, serve: Serve) -> Listener:
        if address.endswith(":0"):
            self._ports += 1
            address = f"{address[:-1]}{self._ports}"
        if address in self.listeners:
            raise OSError(f"somebody listens at {address} already")
        listener = self.listeners[address] = SimListener(self, address, serve)
        return listener

    async def connect(self, address: str) -> Connection:
        await asyncio.sleep(self.draw_delay())
        listener = self.listeners.get(address)
        if listener is None:
            raise ConnectionError(f"nobody listens at {address}")
        near, far = SimConnection(self, address), SimConnection(self, "a simulated client")
        near.other, far.other = far, near
        listener.accept(far)
        return near
