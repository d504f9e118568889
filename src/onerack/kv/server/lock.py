"""The service Lock: Lock and Unlock, on the server's side.

The rule: who holds the lock is who stands first in its line; to unlock is to leave the line.
Source: the v3lock service of etcd.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError

from onerack.kv.core import Kind
from onerack.kv.core.errors import MALFORMED
from onerack.kv.messages import LIBRARY
from onerack.kv.server.desk import Desk
from onerack.kv.server.grpc import Call, Stream, Unary
from onerack.kv.server.line import Line
from onerack.kv.server.watch import WatchService


class LockService:
    """Of one node."""

    def __init__(self, desk: Desk, watches: WatchService) -> None:
        self._desk = desk
        self._watches = watches

    def handlers(self) -> Mapping[str, Unary | Stream]:
        return {"/v3lockpb.Lock/Lock": Unary(self._lock), "/v3lockpb.Lock/Unlock": Unary(self._unlock)}

    def _lock(self, call: Call, body: bytes) -> None:
        try:
            request = LIBRARY["LockRequest"].FromString(body)
        except DecodeError:
            call.fail(MALFORMED.code, MALFORMED.text)
            return
        user = self._desk.admit(call)
        if user is not None:
            self._desk.run(call, self._locked(Line(self._desk, self._watches, user), request))

    async def _locked(self, line: Line, request: Any) -> bytes:
        place = await line.stand(request.name, request.lease, b"")
        header = await line.wait_until_first(request.name, place)
        return header + bytes(LIBRARY["LockResponse"](key=place.key).SerializeToString())

    def _unlock(self, call: Call, body: bytes) -> None:
        try:
            request = LIBRARY["UnlockRequest"].FromString(body)
        except DecodeError:
            call.fail(MALFORMED.code, MALFORMED.text)
            return
        user = self._desk.admit(call)
        if user is not None:
            self._desk.run(call, self._unlocked(user, request.key))

    async def _unlocked(self, user: str, key: bytes) -> bytes:
        deletion = LIBRARY["DeleteRangeRequest"](key=key).SerializeToString()
        response = await self._desk.execute(Kind.DELETE_RANGE, user, deletion)
        revision = LIBRARY["DeleteRangeResponse"].FromString(response).header.revision
        return self._desk.machine.header(revision)
