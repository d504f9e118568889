"""A kv lease that renews itself as long as its block runs.

The idea: whoever holds a lease says so three times within its time. The rule: a lease that may be over is called lost
at once, and for good: `lost` is set, and nobody must count on the lease's keys any more.

Source: Gray & Cheriton, Leases, SOSP 1989.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol, Self

from onerack.errors import CallError
from onerack.kv.client.values import Granted


class Grantor(Protocol):
    """What is needed of a client."""

    async def grant(self, ttl_s: int, lease: int = 0) -> Granted: ...
    async def revoke(self, lease: int) -> None: ...
    async def renew(self, lease: int) -> int: ...


class Lease:
    """`async with client.lease(10) as lease: await client.put("k", "v", lease=lease.id)`."""

    def __init__(self, client: Grantor, ttl_s: int) -> None:
        self._client = client
        self.ttl_s = ttl_s
        self.id = 0
        self.lost = asyncio.Event()
        """It is over, or may be."""
        self._renewal: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Raises: CallError: there is no lease; after `Unknown` there may be one, which nobody renews."""
        granted = await self._client.grant(self.ttl_s)
        self.id, self.ttl_s = granted.lease, granted.ttl_s
        self._renewal = asyncio.get_running_loop().create_task(self._renew())

    async def end(self) -> None:
        """Its keys go now; if no node can be reached, when its time is over."""
        if self._renewal is None:
            return
        renewal, self._renewal = self._renewal, None
        renewal.cancel()
        await asyncio.gather(renewal, return_exceptions=True)
        if not self.lost.is_set():
            self.lost.set()
            with contextlib.suppress(CallError):
                await self._client.revoke(self.id)

    async def _renew(self) -> None:
        """Its time counts from when the renewal was asked for, not from when it was answered."""
        loop = asyncio.get_running_loop()
        over_at = loop.time() + self.ttl_s
        while True:
            await asyncio.sleep(self.ttl_s / 3)
            asked_at = loop.time()
            try:
                async with asyncio.timeout_at(over_at):
                    ttl_s = await self._client.renew(self.id)
            except (CallError, TimeoutError):
                ttl_s = -1
            if ttl_s > 0:
                over_at = asked_at + ttl_s
            elif ttl_s == 0 or loop.time() >= over_at:
                self.lost.set()
                return

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.end()
