"""The service Election: Campaign, Proclaim, Leader, Observe, Resign, on the server's side.

The rule: the leader is who stands first in the line; its key's value is what it proclaims, and its create revision is
what proves that it still leads.
Source: the v3election service of etcd.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

from google.protobuf.message import DecodeError

from onerack.errors import OnerackError
from onerack.kv.core import KvError
from onerack.kv.core.errors import MALFORMED, STOPPED, UNKNOWN, Refused
from onerack.kv.messages import LIBRARY
from onerack.kv.server.desk import Desk
from onerack.kv.server.grpc import Call, Stream, Unary
from onerack.kv.server.inside import InsideWatch
from onerack.kv.server.line import Line, Place, end_of_prefix
from onerack.kv.server.outcomes import answer
from onerack.kv.server.single import SingleRequest
from onerack.kv.server.watch import WatchService

_NOT_LEADER: Final = KvError(UNKNOWN, "election: not leader")
_NO_LEADER: Final = KvError(UNKNOWN, "election: no leader")
_NO_KEY: Final = KvError(UNKNOWN, '"leader" field must be provided')
_WAITING_BYTES: Final = 1 << 20

Procedure = Callable[[Line, Any], Coroutine[Any, Any, bytes]]


class ElectionService:
    """Of one node."""

    def __init__(self, desk: Desk, watches: WatchService) -> None:
        self._desk = desk
        self._watches = watches

    def handlers(self) -> Mapping[str, Unary | Stream]:
        procedures: dict[str, Procedure] = {
            "Campaign": self._campaign,
            "Proclaim": self._proclaim,
            "Leader": self._leader,
            "Resign": self._resign,
        }
        return {
            "/v3electionpb.Election/Observe": Stream(partial(SingleRequest, self._observe)),
            **{
                f"/v3electionpb.Election/{name}": Unary(partial(self._run, f"{name}Request", procedure))
                for name, procedure in procedures.items()
            },
        }

    def _run(self, name: str, procedure: Procedure, call: Call, body: bytes) -> None:
        try:
            request = LIBRARY[name].FromString(body)
        except DecodeError:
            call.fail(MALFORMED.code, MALFORMED.text)
            return
        user = self._desk.admit(call)
        if user is not None:
            self._desk.run(call, procedure(Line(self._desk, self._watches, user), request))

    # ------------------------------------------------------------------------------------------------ candidates

    async def _campaign(self, line: Line, request: Any) -> bytes:
        place = await line.stand(request.name, request.lease, request.value)
        if place.value != request.value:
            await self._say(line, place, request.value)
        await line.wait_until_first(request.name, place)
        header = self._desk.machine.header(place.seen)  # As with etcd: it tells when the place was taken.
        key = LIBRARY["LeaderKey"](name=request.name, key=place.key, rev=place.revision, lease=place.lease)
        return header + bytes(LIBRARY["CampaignResponse"](leader=key).SerializeToString())

    async def _proclaim(self, line: Line, request: Any) -> bytes:
        place = _place(request)
        return self._desk.machine.header(await self._say(line, place, request.value))

    async def _say(self, line: Line, place: Place, value: bytes) -> int:
        put = LIBRARY["PutRequest"](key=place.key, value=value, lease=place.lease)
        answer = await line.txn(place.key, place.revision, LIBRARY["RequestOp"](request_put=put))
        if not answer.succeeded:
            raise Refused(_NOT_LEADER)
        return int(answer.header.revision)

    async def _resign(self, line: Line, request: Any) -> bytes:
        place = _place(request)
        answer = await line.resign(place.key, place.revision)
        return self._desk.machine.header(answer.header.revision)

    # ------------------------------------------------------------------------------------------------ everybody else

    async def _leader(self, line: Line, request: Any) -> bytes:
        found = await line.first(request.name)
        if not found.kvs:
            raise Refused(_NO_LEADER)
        return self._shown(found.header.revision, found.kvs[0])

    def _shown(self, revision: int, kv: Any) -> bytes:
        return self._desk.machine.header(revision) + bytes(LIBRARY["LeaderResponse"](kv=kv).SerializeToString())

    def _observe(self, call: Call, body: bytes) -> Callable[[], object]:
        try:
            name = LIBRARY["LeaderRequest"].FromString(body).name
        except DecodeError:
            call.fail(MALFORMED.code, MALFORMED.text)
            return lambda: None
        user = self._desk.admit(call)
        if user is None:
            return lambda: None
        return self._desk.spawn(self._send_leaders(call, Line(self._desk, self._watches, user), name)).cancel

    async def _send_leaders(self, call: Call, line: Line, name: bytes) -> None:
        drained = asyncio.Event()
        call.on_drained = drained.set
        try:
            async for revision, kv in self._leaders(line, name):
                drained.clear()
                call.send(self._shown(revision, kv))
                if call.waiting_bytes > _WAITING_BYTES:
                    await drained.wait()
        except asyncio.CancelledError:
            answer(call, STOPPED)
            raise
        except (OnerackError, Refused) as error:
            answer(call, error)

    async def _leaders(self, line: Line, name: bytes) -> AsyncIterator[tuple[int, Any]]:
        """Each leader, and each value that it proclaims: (revision, key and value)."""
        while True:
            found = await line.first(name)
            revision = found.header.revision
            if found.kvs:
                kv = found.kvs[0]
            else:
                kv = await self._first_put(line, name + b"/", revision + 1)
                revision = kv.mod_revision
            yield revision, kv
            async with InsideWatch(line.watches, line.user, kv.key, b"", revision + 1) as watch:
                is_gone = False
                while not is_gone:
                    for event in await watch.events():
                        if event.type:
                            is_gone = True
                            break
                        yield event.kv.mod_revision, event.kv

    async def _first_put(self, line: Line, prefix: bytes, revision: int) -> Any:
        async with InsideWatch(line.watches, line.user, prefix, end_of_prefix(prefix), revision) as watch:
            while True:
                for event in await watch.events():
                    if not event.type:
                        return event.kv


def _place(request: Any) -> Place:
    """Where the one stands who calls himself the leader. Raises: Refused: he does not say."""
    if not request.HasField("leader"):
        raise Refused(_NO_KEY)
    leader = request.leader
    return Place(leader.key, leader.rev, leader.lease, b"", 0, False)
