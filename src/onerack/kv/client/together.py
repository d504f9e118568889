"""Puts that are made in the same turn of the event loop, as one call.

    256 callers: put, put, put ...  ->  put_all [32 of them]  ->  one entry of the log  ->  32 answers

The idea: what a call costs both sides, whatever is in it, is several times what a put costs. So the puts of many
callers travel together, and nobody has to make batches; each has its own answer. One caller alone does not wait for
others: his put is a call of its own.

The rule: together they are no transaction. Each is done, refused or unknown by itself; if the call as a whole fails,
that is what has become of each.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Final

from onerack.errors import CallError, NotExecuted, Unknown
from onerack.kv.client.failures import KvRefused
from onerack.kv.client.link import Link
from onerack.kv.client.values import Failed, Written
from onerack.rpc.context import DEFAULT, chosen, serving

_PUTS_MAX: Final = 32
"""As many as the layer below sends at once: while the server works on these, the next ones gather."""
_VALUE_BYTES_MAX: Final = 4096
"""A longer value is a call of its own: it costs more than the call."""
_UNSAID: Final = Failed("Unknown", "malformed", "the server has not said what has become of this put")


class Together:
    """Of one client."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._gathered: list[tuple[bytes, bytes]] = []
        self._waiting: list[asyncio.Future[Written]] = []
        self._open = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def put(self, key: bytes, value: bytes) -> Written:
        """Raises: CallError, as `Kv.put`."""
        self._open += 1
        try:
            if self._open > 1 and _is_small(key, value) and not _has_options():
                return await self._put_with_others(key, value)
            return await self._link.stub.put(key, value)
        finally:
            self._open -= 1

    def _put_with_others(self, key: bytes, value: bytes) -> asyncio.Future[Written]:
        future: asyncio.Future[Written] = self._loop.create_future()
        self._gathered.append((key, value))
        self._waiting.append(future)
        if len(self._gathered) == 1:
            self._loop.call_soon(self._send)
        elif len(self._gathered) == _PUTS_MAX:
            self._send()
        return future

    def _send(self) -> None:
        if self._gathered:
            pairs, waiting = self._gathered, self._waiting
            self._gathered, self._waiting = [], []
            task = self._loop.create_task(self._put_all(pairs, waiting), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _put_all(self, pairs: list[tuple[bytes, bytes]], waiting: list[asyncio.Future[Written]]) -> None:
        try:
            done = await self._link.stub.put_all(pairs)
        except Exception as error:  # Of whatever kind: nobody may wait for ever.
            for future in waiting:
                _fail(future, error)
            return
        if len(done.revisions) != len(waiting):
            for future in waiting:
                _fail(future, Unknown("the server has answered another number of puts", cause="malformed"))
            return
        for place, (future, revision) in enumerate(zip(waiting, done.revisions, strict=True)):
            if not revision:
                _fail(future, _error_of(done.failed.get(place, _UNSAID)))
            elif not future.done():
                future.set_result(Written(revision))


def _is_small(key: bytes, value: bytes) -> bool:
    """And what it should be: others must not suffer for a key that is a number."""
    return type(key) is type(value) is bytes and len(value) <= _VALUE_BYTES_MAX


def _has_options() -> bool:
    """Whether the caller has said how this very call is to be made."""
    return chosen.get() is not DEFAULT or serving.get() is not None


def _fail(future: asyncio.Future[Written], error: Exception) -> None:
    if not future.done():  # Its caller may have been cancelled.
        future.set_exception(error)


def _error_of(failed: Failed) -> CallError:
    if failed.type == "KvRefused":
        return KvRefused(failed.message, cause=failed.cause)
    if failed.type in ("NotExecuted", "Overloaded"):
        return NotExecuted(failed.message, cause=failed.cause)
    return Unknown(failed.message, cause=failed.cause)
