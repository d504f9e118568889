"""The store's own RPC service, on a raft node and the machine that is mounted on it.

    node = RaftNode(..., machines={MOUNT: machine}, services={Kv: (service := NativeKv(machine))})
    service.node = node

The idea: a put is a command's bytes, one proposal and one future; a get is one read barrier and a look into the store.
No task is made for either, and what arrived in one read of a socket becomes one entry of the log. Everything else goes
through etcd's messages, as it would from the other edge.

The rules: what the machine has refused is told as a KvRefused, which is definite; what became of a command otherwise is
told as the node's own NotExecuted or Unknown. A revision in an answer is that of the command, since the answer is made
while the command is being applied.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final, Protocol

import onerack
from onerack.errors import CallError
from onerack.kv.client.failures import KvRefused
from onerack.kv.client.values import (
    Deleted,
    Done,
    Events,
    Found,
    Get,
    Granted,
    MemberStatus,
    NodeStatus,
    Remaining,
    Txn,
    Written,
)
from onerack.kv.core import KvError, KvMachine, encode_command, errors, query, wire
from onerack.kv.core.commands import MOUNT, Kind
from onerack.kv.core.errors import Refused
from onerack.kv.core.store import end_of
from onerack.kv.core.version import VERSION_BYTES, Version
from onerack.kv.messages import LIBRARY, NOSPACE
from onerack.kv.server.native_txn import done_of, kvs_of, previous_of, txn_request
from onerack.kv.server.native_watch import Watches
from onerack.raft import Member, RaftNode

NOBODY: Final = ""
"""Calls come without a user; once auth is enabled they are refused as any other of nobody's."""
_PUT: Final = b"\x01\x00\x0a"
"""The command of a put by nobody, up to the length of its key."""
_GROWING: Final = frozenset({Kind.PUT, Kind.TXN, Kind.LEASE_GRANT})
_CAUSES: Final = {
    errors.INVALID_ARGUMENT: "invalid_argument",
    errors.NOT_FOUND: "not_found",
    errors.PERMISSION_DENIED: "permission_denied",
    errors.RESOURCE_EXHAUSTED: "resource_exhausted",
    errors.FAILED_PRECONDITION: "failed_precondition",
    errors.OUT_OF_RANGE: "out_of_range",
    errors.UNIMPLEMENTED: "unimplemented",
    errors.INTERNAL: "internal",
    errors.UNAVAILABLE: "unavailable",
    errors.DATA_LOSS: "data_loss",
    errors.UNAUTHENTICATED: "unauthenticated",
}

Answer = asyncio.Future[Any]


class LeaseClock(Protocol):
    """Who knows how long leases have left: the leader does, and any node can ask it (`KvDoor`)."""

    async def renew(self, leases: list[int]) -> list[int]:
        """They begin anew. Gives the TTL of each in seconds, 0 if there is no such lease. Raises: CallError."""

    async def remaining(self, lease: int) -> int:
        """Seconds. Raises: CallError."""


class NativeKv:
    """Implements `onerack.kv.client.interface.Kv`."""

    node: RaftNode
    """To be set before the first call comes: the node is made with this service, and this service needs the node."""

    def __init__(self, machine: KvMachine, leases: LeaseClock | None = None) -> None:
        self.machine = machine
        self.lease_clock = leases
        self._watches = Watches(machine)
        self._loop = asyncio.get_running_loop()

    # ------------------------------------------------------------------------------------------------ keys

    def put(
        self,
        key: bytes,
        value: bytes,
        lease: int = 0,
        previous: bool = False,
        keep_value: bool = False,
        keep_lease: bool = False,
    ) -> Answer:
        if lease or previous or keep_value or keep_lease or not key:
            request = LIBRARY["PutRequest"](
                key=key, value=value, lease=lease, prev_kv=previous, ignore_value=keep_value, ignore_lease=keep_lease
            )
            return self._command(Kind.PUT, request.SerializeToString(), self._written)
        machine, length_of = self.machine, wire.length_of
        future: Answer = self._loop.create_future()
        if value:
            command = b"".join((_PUT, length_of(len(key)), key, b"\x12", length_of(len(value)), value))
        else:
            command = b"".join((_PUT, length_of(len(key)), key))
        config, size, node = machine.config, len(command), self.node
        is_tight = (
            machine.store.size_bytes + size + VERSION_BYTES >= config.quota_bytes or node.storage_full is not None
        )
        if is_tight or size > config.request_bytes_max:
            return self._command(Kind.PUT, command[2:], self._written)
        node.propose(MOUNT, command, partial(self._plainly_written, future), eager=True)
        return future

    def _plainly_written(self, future: Answer, result: Any) -> None:
        if future.done():  # The server is being closed.
            return
        if type(result) is bytes:
            future.set_result(Written(self.machine.store.revision))
        else:
            future.set_exception(_error_of(result))

    def _written(self, result: bytes) -> Written:
        response = LIBRARY["PutResponse"].FromString(result)
        return Written(response.header.revision, previous_of(response))

    def get(self, key: bytes, serializable: bool = False) -> Answer | Found:
        if serializable and not self.node.is_witness:
            return self._one(key)
        future: Answer = self._loop.create_future()
        self.node.read(partial(self._get_now, future, key))
        return future

    def _get_now(self, future: Answer, key: bytes, error: CallError | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
            return
        try:
            future.set_result(self._one(key))
        except KvRefused as refused:
            future.set_exception(refused)

    def _one(self, key: bytes) -> Found:
        machine = self.machine
        if not key or machine.auth.state.enabled or machine.alarms.raised:
            return self._found(Get(key))
        store = machine.store
        version: Any = store.current.get(key)
        if version is None or not version.version:
            return Found(store.revision)
        return Found(store.revision, [version], 1)

    def find(self, wanted: Get, serializable: bool = False) -> Answer | Found:
        if serializable and not self.node.is_witness:
            return self._found(wanted)
        return self._after_barrier(partial(self._found, wanted))

    def _found(self, wanted: Get) -> Found:
        """As of what is applied here. Raises: KvRefused."""
        machine, store = self.machine, self.machine.store
        try:
            query.check_range(wanted)
            machine.auth.check_read(NOBODY, wanted.key, end_of(wanted.range_end))
            machine.alarms.check_serving()
            found = query.find(store, wanted, store.revision)
        except Refused as refused:
            raise _refused(refused.error) from None
        versions: list[Any] = found.versions
        if wanted.keys_only:
            versions = [Version(v.key, b"", v.create, v.mod, v.version, v.lease) for v in versions]
        return Found(store.revision, versions, found.count, found.more)

    def delete(self, key: bytes, range_end: bytes = b"", previous: bool = False) -> Answer:
        request = LIBRARY["DeleteRangeRequest"](key=key, range_end=range_end, prev_kv=previous)
        return self._command(Kind.DELETE_RANGE, request.SerializeToString(), _deleted)

    def txn(self, txn: Txn) -> Answer:
        request = txn_request(txn)
        body = request.SerializeToString()
        machine = self.machine
        if machine.is_read_only(body):
            return self._after_barrier(lambda: _done(_checked(machine.txn(NOBODY, body))))
        return self._command(Kind.TXN, body, _done)

    def compact(self, revision: int) -> Answer:
        request = LIBRARY["CompactionRequest"](revision=revision)
        return self._command(Kind.COMPACT, request.SerializeToString(), self._revision)

    def _revision(self, result: bytes) -> int:
        return self.machine.revision

    # ------------------------------------------------------------------------------------------------ leases

    def grant(self, ttl_s: int, lease: int = 0) -> Answer:
        request = LIBRARY["LeaseGrantRequest"](TTL=ttl_s, ID=lease)
        return self._command(Kind.LEASE_GRANT, request.SerializeToString(), _granted)

    def revoke(self, lease: int) -> Answer:
        request = LIBRARY["LeaseRevokeRequest"](ID=lease)
        return self._command(Kind.LEASE_REVOKE, request.SerializeToString(), self._revision)

    async def renew(self, lease: int) -> int:
        self._check(lambda: self.machine.auth.check_known(NOBODY))
        (ttl_s,) = await self._clock.renew([lease])
        return ttl_s

    async def remaining(self, lease: int, keys: bool = False) -> Remaining:
        await self.node.catch_up()
        self._check(lambda: self.machine.auth.check_known(NOBODY))
        known = self.machine.leases.by_id.get(lease)
        if known is None:
            return Remaining(lease, -1)
        held = sorted(known.keys) if keys else []
        return Remaining(lease, await self._clock.remaining(lease), known.ttl_s, held)

    def leases(self) -> Answer:
        self._check(lambda: self.machine.auth.check_known(NOBODY))
        return self._after_barrier(lambda: sorted(self.machine.leases.by_id))

    @property
    def _clock(self) -> LeaseClock:
        if self.lease_clock is None:
            raise KvRefused("this node keeps no clock for leases", cause="unimplemented")
        return self.lease_clock

    # ------------------------------------------------------------------------------------------------ watches

    async def watch(
        self,
        key: bytes,
        range_end: bytes = b"",
        revision: int = 0,
        previous: bool = False,
        puts: bool = True,
        deletes: bool = True,
    ) -> AsyncIterator[Events]:
        await self.node.catch_up()  # "From now" is from what was acknowledged before this call, at least.
        end = end_of(range_end)
        if not self.machine.may_watch(NOBODY, key, end):
            raise _refused(errors.PERMISSION_REFUSED)
        watch = self._watches.begin(key, end, revision, previous=previous, puts=puts, deletes=deletes)
        try:
            yield Events(watch.next - 1)
            while True:
                try:
                    events = await watch.more()
                except Refused as refused:
                    raise _refused(refused.error) from None
                yield events
        finally:
            watch.end()

    # ------------------------------------------------------------------------------------------------ the group

    def status(self) -> NodeStatus:
        node, store = self.node, self.machine.store
        now = node.status()
        return NodeStatus(
            name=node.name, role=now.role, leader=now.leader,
            leader_address=node.book.address_of(now.leader) or "", cluster=node.cluster, term=now.term,
            commit=now.commit, applied=now.applied, revision=store.revision, compacted=store.compacted,
            size_bytes=store.size_bytes, storage_full=node.storage_full is not None, version=onerack.__version__,
        )  # fmt: skip

    def members(self) -> list[MemberStatus]:
        now = self.node.status()
        group, book = now.configuration, {member.name: member for member in now.members}
        found = []
        for name in sorted(group.members):
            role = "witness" if name in group.witnesses else "learner" if name in group.learners else "voter"
            known = book.get(name)
            address = self.node.book.address_of(name) or ""
            found.append(MemberStatus(name, role, address, known.endpoints if known else (), name == now.leader))
        return found

    async def manage(self, order: str, node: str) -> None:
        self._check(lambda: self.machine.auth.check_admin(NOBODY))
        await self.node.manage(order, node)

    async def add_member(self, name: str, address: str, role: str = "learner") -> None:
        self._check(lambda: self.machine.auth.check_admin(NOBODY))
        await self.node.add_member(Member(name, address), role)

    async def snapshot(self) -> AsyncIterator[bytes]:
        await self.node.catch_up()
        self._check(lambda: self.machine.auth.check_admin(NOBODY))
        for piece in self.machine.snapshot():
            yield piece

    # ------------------------------------------------------------------------------------------------ how

    def _command(self, kind: Kind, request: bytes, read: Any) -> Answer:
        """Through the log; `read` makes an answer of what the machine has said."""
        machine = self.machine
        if len(request) > machine.config.request_bytes_max:
            raise _refused(errors.REQUEST_TOO_LARGE)
        if self._lacks_room(kind, request):
            if self.node.storage_full is None:
                self._raise_alarm()
            raise _refused(errors.NO_SPACE)
        future: Answer = self._loop.create_future()
        self.node.propose(MOUNT, encode_command(kind, b"", request), partial(_applied, future, read))
        return future

    def _lacks_room(self, kind: Kind, request: bytes) -> bool:
        if self.machine.lacks_room(kind, request):
            return True
        return self.node.storage_full is not None and kind in _GROWING

    def _raise_alarm(self) -> None:
        """The quota is passed: nobody may write, on any node, until somebody takes the alarm back."""
        kind = LIBRARY["AlarmRequest"]
        request = kind(action=kind.ACTIVATE, memberID=self.machine.member_id, alarm=NOSPACE)
        command = encode_command(Kind.ALARM_BY_NODE, b"", request.SerializeToString())
        if not self.machine.alarms.no_space:
            self.node.propose(MOUNT, command, lambda _result: None)

    def _after_barrier(self, look: Any) -> Answer:
        future: Answer = self._loop.create_future()
        self.node.read(partial(_looked, future, look))
        return future

    @staticmethod
    def _check(check: Any) -> None:
        try:
            check()
        except Refused as refused:
            raise _refused(refused.error) from None


def _applied(future: Answer, read: Any, result: Any) -> None:
    if future.done():
        return
    if type(result) is bytes:
        future.set_result(read(result))
    else:
        future.set_exception(_error_of(result))


def _looked(future: Answer, look: Any, error: CallError | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
        return
    try:
        future.set_result(look())
    except KvRefused as refused:
        future.set_exception(refused)


def _error_of(result: Any) -> Exception:
    """What a proposal has come to that is no response."""
    if isinstance(result, KvError):
        return _refused(result)
    assert isinstance(result, CallError), f"a machine that answers {result!r:.80}"
    return result


def _refused(error: KvError) -> KvRefused:
    return KvRefused(error.text, cause=_CAUSES.get(error.code, "unknown"))


def _checked(result: bytes | KvError) -> bytes:
    if isinstance(result, KvError):
        raise _refused(result)
    return result


def _deleted(result: bytes) -> Deleted:
    response = LIBRARY["DeleteRangeResponse"].FromString(result)
    return Deleted(response.header.revision, response.deleted, kvs_of(response.prev_kvs))


def _done(result: bytes) -> Done:
    response = LIBRARY["TxnResponse"].FromString(result)
    return done_of(response, response.header.revision)


def _granted(result: bytes) -> Granted:
    response = LIBRARY["LeaseGrantResponse"].FromString(result)
    return Granted(response.ID, response.TTL)
