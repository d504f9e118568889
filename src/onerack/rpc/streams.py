"""Streams: arguments or results that come one after the other, as fast as their reader takes them.

The idea: a stream belongs to one call on one connection and is never sent again: if the connection is lost, so is the
stream. Both directions are the same: a `Writer` that waits for credit, and a `Reader` that grants it as it is read.

The rule: what was not read yet is bounded by the window (core/credits.py); a writer whose reader stops, waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from onerack.rpc.core.credits import Inbound, Outbound
from onerack.rpc.link import Link
from onerack.rpc.messages import Credit, StreamItem

T = TypeVar("T")


class Reader(Generic[T]):
    """An async iterator over what arrives."""

    def __init__(self, link: Link, call: int, window_bytes: int, decode: Callable[[bytes], T]) -> None:
        self._link = link
        self._call = call
        self._decode = decode
        self._inbound = Inbound(window_bytes)
        self._items: deque[bytes] = deque()
        self._bell = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None

    def arrived(self, item: bytes) -> None:
        """Raises: ProtocolError: the writer had no credit."""
        if not self._ended:
            self._inbound.arrived(item)
            self._items.append(item)
            self._bell.set()

    def end(self, error: Exception | None = None) -> None:
        """No more will come; what has come can still be read, then `error` is raised, if there is one."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._bell.set()

    def __aiter__(self) -> Reader[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._bell.clear()
            await self._bell.wait()
        item = self._items.popleft()
        grant = self._inbound.taken(item)
        if grant and not self._ended:
            self._link.send(Credit(self._call, grant))
        return self._decode(item)


class Writer:
    """Sends items, each when there is credit for it and the connection takes it."""

    def __init__(self, link: Link, call: int, window_bytes: int, encode: Callable[[Any], bytes]) -> None:
        """`window_bytes`: the reader's, as it said in its greeting."""
        self._link = link
        self._call = call
        self._encode = encode
        self._outbound = Outbound(window_bytes)
        self._bell = asyncio.Event()
        self._closed = False

    def granted(self, count: int) -> None:
        """Raises: ProtocolError."""
        self._outbound.granted(count)
        self._bell.set()

    def close(self) -> None:
        """The reader is gone; whoever waits to write is told by ConnectionError."""
        self._closed = True
        self._bell.set()

    async def write(self, item: Any) -> None:
        """Raises: ConnectionError: nobody reads any more. msgspec.ValidationError and TypeError: not encodable."""
        encoded = self._encode(item)
        while not self._outbound.may_send and not self._closed:
            self._bell.clear()
            await self._bell.wait()
        if self._closed or not self._link.is_open:
            raise ConnectionError("the reader of this stream is gone")
        self._outbound.sent(encoded)
        self._link.send(StreamItem(self._call, encoded))
        await self._link.drained()
