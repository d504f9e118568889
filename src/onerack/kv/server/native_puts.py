"""Puts of the native interface: what most of a busy store's calls are.

The idea: a plain put is a command's bytes and one proposal, without a message object in between; puts that came in one
call enter the log together, and the call is answered when each of them has come to something.

The rule: what is not plain (a lease, a flag, hardly any room) goes the long way, which every other write goes, too.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

from onerack.errors import NotExecuted
from onerack.kv.client.failures import KvRefused
from onerack.kv.client.values import AllWritten, Failed, Written
from onerack.kv.core import KvMachine, wire
from onerack.kv.core.commands import MOUNT, Kind
from onerack.kv.core.version import VERSION_BYTES
from onerack.kv.messages import LIBRARY
from onerack.kv.server.native_calls import Answer, NativeCalls, error_of
from onerack.kv.server.native_txn import previous_of
from onerack.raft.server.proposals import Done

_PUT: Final = b"\x01\x00\x0a"
"""The command of a put by nobody, up to the length of its key."""


class NativePuts(NativeCalls):
    """A part of `NativeKv`."""

    def put(
        self,
        key: bytes,
        value: bytes,
        lease: int = 0,
        previous: bool = False,
        keep_value: bool = False,
        keep_lease: bool = False,
    ) -> Answer:
        command = None if lease or previous or keep_value or keep_lease else self._plain(self._head(), key, value)
        if command is None:
            request = LIBRARY["PutRequest"](
                key=key, value=value, lease=lease, prev_kv=previous, ignore_value=keep_value, ignore_lease=keep_lease
            )
            return self.command(Kind.PUT, request.SerializeToString(), self._written)
        future: Answer = self._loop.create_future()
        self.node.propose(MOUNT, command, partial(self._plainly_written, future), eager=True)
        return future

    def put_all(self, pairs: list[tuple[bytes, bytes]]) -> AllWritten | asyncio.Future[AllWritten]:
        if not pairs:
            return AllWritten([])
        head, plain = self._head(), self._plain
        answer = _Together(self.machine, len(pairs))
        commands: list[bytes] = []
        done: list[Done] = []
        for place, (key, value) in enumerate(pairs):
            command = plain(head, key, value)
            if command is None:
                self._put_apart(place, key, value, answer)
            else:
                commands.append(command)
                done.append(partial(answer.came_to, place))
        self.node.propose_all(MOUNT, commands, done)
        return answer.future

    def _put_apart(self, place: int, key: bytes, value: bytes, answer: _Together) -> None:
        try:
            future = self.put(key, value)
        except KvRefused as refusal:
            answer.failed_with(place, refusal)
        else:
            future.add_done_callback(partial(answer.settled, place))

    def _head(self) -> bytes:
        """How a put of whoever is calling begins."""
        if not self.machine.auth.state.enabled:
            return _PUT
        name = self.user().encode()
        return b"\x01%c%b\x0a" % (len(name), name)

    def _plain(self, head: bytes, key: bytes, value: bytes) -> bytes | None:
        """The command; None: this needs a closer look."""
        machine, length_of = self.machine, wire.length_of
        if value:
            command = b"".join((head, length_of(len(key)), key, b"\x12", length_of(len(value)), value))
        else:
            command = b"".join((head, length_of(len(key)), key))
        size, config = len(command), machine.config
        fits = machine.store.size_bytes + size + VERSION_BYTES < config.quota_bytes and size <= config.request_bytes_max
        return command if key and fits and self.node.storage_full is None else None

    def _plainly_written(self, future: Answer, result: Any) -> None:
        if future.done():  # The server is being closed.
            return
        if type(result) is bytes:
            future.set_result(Written(self.machine.store.revision))
        else:
            future.set_exception(error_of(result))

    @staticmethod
    def _written(result: bytes) -> Written:
        response = LIBRARY["PutResponse"].FromString(result)
        return Written(response.header.revision, previous_of(response))


class _Together:
    """The answer to several puts of one call."""

    __slots__ = ("_failed", "_left", "_machine", "_revisions", "future")

    def __init__(self, machine: KvMachine, count: int) -> None:
        self.future: asyncio.Future[AllWritten] = asyncio.get_running_loop().create_future()
        self._machine = machine
        self._revisions = [0] * count
        self._failed: dict[int, Failed] = {}
        self._left = count

    def came_to(self, place: int, result: Any) -> None:
        """What the log has made of one of them."""
        if type(result) is bytes:
            self._revisions[place] = self._machine.store.revision
            self._count()
        else:
            self.failed_with(place, error_of(result))

    def settled(self, place: int, future: Answer) -> None:
        """One that went the long way."""
        error = NotExecuted("the server is closed", cause="stopping") if future.cancelled() else future.exception()
        if error is not None:
            self.failed_with(place, error)
        else:
            self._revisions[place] = future.result().revision
            self._count()

    def failed_with(self, place: int, error: BaseException) -> None:
        self._failed[place] = Failed(type(error).__name__, getattr(error, "cause", "unknown"), str(error))
        self._count()

    def _count(self) -> None:
        self._left -= 1
        if not self._left and not self.future.done():
            self.future.set_result(AllWritten(self._revisions, self._failed))
