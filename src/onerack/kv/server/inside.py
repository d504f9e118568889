"""A watch from inside: procedures of this node that wait for a change of some key.

The idea: whoever waits for a lock or a leader needs just what a client's watch gives: every change from a revision on,
in order. So it is a stream of the hub like any other, only that its responses go into a queue.

The rule: it is closed by who has opened it (`async with`).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Self

from onerack.kv.core import KvError
from onerack.kv.core.errors import COMPACTED, PERMISSION_REFUSED, Refused
from onerack.kv.messages import LIBRARY
from onerack.kv.server.watch import WatchService

_RESPONSE: Final = LIBRARY["WatchResponse"]


class InsideWatch:
    """The events of a range, from a revision on."""

    def __init__(self, watches: WatchService, user: str, key: bytes, end: bytes, revision: int) -> None:
        self._watches = watches
        self._user = user
        self._request = LIBRARY["WatchCreateRequest"](key=key, range_end=end, start_revision=revision)
        self._arrived: asyncio.Queue[Any] = asyncio.Queue()
        self._number = 0

    async def __aenter__(self) -> Self:
        self._number = self._watches.add(self)
        self._watches.hub.create(self._number, self._user, self._request)
        self._watches.tell_soon()
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._watches.forget(self._number)

    async def events(self) -> list[Any]:
        """The next ones, in order. Raises: Refused: there will be none."""
        while True:
            arrived = await self._arrived.get()
            if isinstance(arrived, KvError):
                raise Refused(arrived)
            response = _RESPONSE.FromString(arrived)
            if response.canceled:
                raise Refused(COMPACTED if response.compact_revision else PERMISSION_REFUSED)
            if response.events:
                return list(response.events)

    # ------------------------------------------------------------------------------------------------ for the service

    def send(self, response: bytes) -> None:
        self._arrived.put_nowait(response)

    def end(self, refusal: KvError) -> None:
        self._watches.forget(self._number)
        self._arrived.put_nowait(refusal)
