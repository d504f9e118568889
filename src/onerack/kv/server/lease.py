"""The service Lease: LeaseGrant, LeaseRevoke, LeaseKeepAlive, LeaseTimeToLive, LeaseLeases.

The idea: granting and revoking are commands of the log. How long a lease still holds only the leader knows, so
renewals and questions go to it, through the door. What arrives in one turn travels as one question.

The rule: a lease that is gone is no error: its time to live is 0 for a renewal, -1 for a question.
Source: the Lease service of etcd v3.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Final

from google.protobuf.message import DecodeError

from onerack.errors import OnerackError
from onerack.kv.core import Kind, KvError, wire
from onerack.kv.core.errors import MALFORMED, STOPPED, Refused
from onerack.kv.core.lease_desk import GONE
from onerack.kv.messages import LIBRARY
from onerack.kv.server.desk import Desk
from onerack.kv.server.grpc import Call, Stream, Unary
from onerack.kv.server.outcomes import granted, refusal_of

log = logging.getLogger(__name__)

_KEEP_ALIVE: Final = LIBRARY["LeaseKeepAliveRequest"]
_TIME_TO_LIVE: Final = LIBRARY["LeaseTimeToLiveRequest"]
_BATCH: Final = 10_000
"""Leases that are renewed by one question."""


class LeaseService:
    """Of one node."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._renewals: dict[int, list[_KeepAlive]] = {}
        """Gathered in this turn."""
        self.streams: dict[_KeepAlive, None] = {}

    def close(self) -> None:
        for stream in list(self.streams):
            stream.end(STOPPED)

    def handlers(self) -> Mapping[str, Unary | Stream]:
        return {
            "/etcdserverpb.Lease/LeaseGrant": Unary(partial(self._write, Kind.LEASE_GRANT)),
            "/etcdserverpb.Lease/LeaseRevoke": Unary(partial(self._write, Kind.LEASE_REVOKE)),
            "/etcdserverpb.Lease/LeaseKeepAlive": Stream(self._keep_alive),
            "/etcdserverpb.Lease/LeaseTimeToLive": Unary(self._time_to_live),
            "/etcdserverpb.Lease/LeaseLeases": Unary(self._all),
        }

    def _write(self, kind: int, call: Call, request: bytes) -> None:
        user = self.desk.admit(call)
        if user is not None:
            self.desk.propose(call, kind, user, request)

    # ------------------------------------------------------------------------------------------------ questions

    def _time_to_live(self, call: Call, request: bytes) -> None:
        user = self.desk.admit(call)
        if user is not None:
            self.desk.run(call, self._how_long(user, request))

    async def _how_long(self, user: str, request: bytes) -> bytes:
        try:
            lease = _TIME_TO_LIVE.FromString(request).ID
        except DecodeError:
            raise Refused(MALFORMED) from None
        remaining_s = await self.desk.door.remaining(lease)
        await self.desk.node.catch_up()
        if remaining_s == GONE and lease in self.desk.machine.leases:
            remaining_s = self.desk.machine.leases.get(lease).ttl_s  # Granted since the leader was asked.
        return granted(self.desk.machine.time_to_live(user, request, remaining_s))

    def _all(self, call: Call, request: bytes) -> None:
        user = self.desk.admit(call)
        if user is not None:
            self.desk.run(call, self._which(user))

    async def _which(self, user: str) -> bytes:
        await self.desk.node.catch_up()
        return granted(self.desk.machine.all_leases(user))

    # ------------------------------------------------------------------------------------------------ renewals

    def _keep_alive(self, call: Call) -> _KeepAlive:
        stream = _KeepAlive(self, call)
        try:
            self.desk.admitted(call)
        except Refused as refused:
            stream.end(refused.error)
        return stream

    def renew(self, lease: int, stream: _KeepAlive) -> None:
        """The stream will be told, with all others who ask in this turn."""
        if not self._renewals:
            asyncio.get_running_loop().call_soon(self._renew_all)
        self._renewals.setdefault(lease, []).append(stream)

    def _renew_all(self) -> None:
        renewals, self._renewals = self._renewals, {}
        leases = list(renewals)
        for begin in range(0, len(leases), _BATCH):
            self.desk.spawn(self._renew_some({lease: renewals[lease] for lease in leases[begin : begin + _BATCH]}))

    async def _renew_some(self, renewals: dict[int, list[_KeepAlive]]) -> None:
        try:
            seconds = await self.desk.door.renew(list(renewals))
        except Exception as error:
            if not isinstance(error, OnerackError):
                log.exception("leases were not renewed")
            for streams in renewals.values():
                for stream in streams:
                    stream.end(refusal_of(error))
            return
        header = self.desk.machine.header()
        for (lease, streams), ttl_s in zip(renewals.items(), seconds, strict=True):
            number = b"\x10" + wire.varint(lease) if lease else b""
            response = header + number + (b"\x18" + wire.varint(ttl_s) if ttl_s else b"")
            for stream in streams:
                stream.renewed(response)


class _KeepAlive:
    """One client's stream of renewals; implements StreamReceiver."""

    def __init__(self, service: LeaseService, call: Call) -> None:
        self._service = service
        self._call = call
        self._open = 0
        """Renewals that are not answered."""
        self._is_half_closed = False
        service.streams[self] = None
        service.desk.end_without_leader(call, self.end)

    def message(self, body: bytes) -> None:
        try:
            lease = _KEEP_ALIVE.FromString(body).ID
        except DecodeError:
            self.end(MALFORMED)
            return
        self._open += 1
        self._service.renew(lease, self)

    def half_closed(self) -> None:
        self._is_half_closed = True
        self._finish_if_done()

    def cancelled(self) -> None:
        self._forget()

    def renewed(self, response: bytes) -> None:
        self._open -= 1
        self._call.send(response)
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._is_half_closed and not self._open:
            self._forget()
            self._call.finish()

    def end(self, refusal: KvError) -> None:
        self._forget()
        self._call.fail(refusal.code, refusal.text)

    def _forget(self) -> None:
        self._service.streams.pop(self, None)
        self._service.desk.forget(self._call)
