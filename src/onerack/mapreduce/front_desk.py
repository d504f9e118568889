"""The front desk: the parent's end of its workers' connections.

The idea: one RPC server, to which each worker's socket is attached under the worker's name. A worker makes one call
(worker/desk.py) and stays in it: what it reports is handed to whoever keeps the workers, and the orders that were left
for it leave in the order in which they came.

The rule: what is said here is said by or to a worker that has a place. Whoever was shown out is not heard any more,
whatever has arrived from him meanwhile.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from onerack.mapreduce.messages import FromWorker, LoadJob, ToWorker
from onerack.mapreduce.worker.desk import CHANNEL, Desk, encoded
from onerack.rpc import Server, current
from onerack.rpc.link import Link

_DRAIN_S: Final = 1.0
"""What calls may take to notice that their workers are dead."""


class _Place:
    """One worker's."""

    def __init__(self) -> None:
        self.orders: asyncio.Queue[msgspec.Raw] = asyncio.Queue()
        self.link: Link | None = None


class FrontDesk:
    """`heard(worker, report)` gets what workers report, `lost(worker, why)` the end of a connection."""

    def __init__(self, heard: Callable[[str, FromWorker], None], lost: Callable[[str, str], None]) -> None:
        self._heard = heard
        self._lost = lost
        self._places: dict[str, _Place] = {}
        self._load: tuple[str, msgspec.Raw] = ("", msgspec.Raw())
        self._server = Server({Desk: self}, config=CHANNEL)

    def seat(self, worker: str, connection: socket.socket) -> None:
        """From now on `worker` is whoever holds the other end of this connection."""
        place = self._places[worker] = _Place()
        place.link = self._server.attach(
            connection, identity=worker, lost=lambda why: self._bereft(worker, f"its connection has ended: {why}")
        )

    def _bereft(self, worker: str, why: str) -> None:
        if worker in self._places:
            self._lost(worker, why)

    def show_out(self, worker: str) -> None:
        """Ends a worker's connection. Nothing is heard from it any more."""
        place = self._places.pop(worker, None)
        if place is not None and place.link is not None:
            place.link.close("the worker is no longer wanted")

    def order(self, worker: str, message: ToWorker) -> None:
        """Has it sent. Raises: ProtocolError: it is too long."""
        place = self._places.get(worker)
        if place is not None:
            place.orders.put_nowait(self._encoded(message))

    def _encoded(self, message: ToWorker) -> msgspec.Raw:
        """A job's spec may hold 100,000 fragments and goes to every worker: encoded once."""
        if not isinstance(message, LoadJob):
            return encoded(message)
        if self._load[0] != message.spec.job:
            self._load = (message.spec.job, encoded(message))
        return self._load[1]

    async def close(self) -> None:
        """Ends all connections. Requires: the processes at their other ends have ended."""
        for worker in list(self._places):
            self.show_out(worker)
        await self._server.close(drain_s=_DRAIN_S)

    # ------------------------------------------------------------------------------------------------ the desk itself

    async def attend(self, reports: AsyncIterator[FromWorker]) -> AsyncIterator[msgspec.Raw]:
        """One worker's call, for as long as its connection lasts. Orders are `encoded` already."""
        peer = current().peer
        place = self._places[peer.identity]
        hearing = asyncio.get_running_loop().create_task(self._hear(peer.identity, place, reports))
        try:
            while True:
                yield await place.orders.get()
        finally:
            hearing.cancel()

    async def _hear(self, worker: str, place: _Place, reports: AsyncIterator[FromWorker]) -> None:
        try:
            async for report in reports:
                if self._places.get(worker) is not place:
                    return
                self._heard(worker, report)
        except msgspec.ValidationError as error:
            self._bereft(worker, f"it sent what is no message ({error})")
        except ConnectionError:
            pass  # The server has said so already.
