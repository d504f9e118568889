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

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Protocol

from onerack.errors import CallError
from onerack.kv.client.failures import KvRefused
from onerack.kv.client.values import Deleted, Done, Events, Found, Get, Granted, Remaining, Txn
from onerack.kv.core import KvMachine, errors, query
from onerack.kv.core.commands import Kind
from onerack.kv.core.errors import Refused
from onerack.kv.core.store import end_of
from onerack.kv.core.version import Version
from onerack.kv.messages import LIBRARY
from onerack.kv.server.native_calls import NOBODY, Answer, check, checked, refused
from onerack.kv.server.native_care import NativeCare
from onerack.kv.server.native_puts import NativePuts
from onerack.kv.server.native_txn import done_of, kvs_of, txn_request
from onerack.kv.server.native_users import NativeUsers
from onerack.kv.server.native_watch import Watches


class LeaseClock(Protocol):
    """Who knows how long leases have left: the leader does, and any node can ask it (`KvDoor`)."""

    async def renew(self, leases: list[int]) -> list[int]:
        """They begin anew. Gives the TTL of each in seconds, 0 if there is no such lease. Raises: CallError."""

    async def remaining(self, lease: int) -> int:
        """Seconds. Raises: CallError."""


class NativeKv(NativePuts, NativeUsers, NativeCare):
    """Implements `onerack.kv.client.interface.Kv`."""

    def __init__(
        self,
        machine: KvMachine,
        leases: LeaseClock | None = None,
        *,
        user_of: Callable[[str], str | None] | None = None,
    ) -> None:
        super().__init__(machine, user_of)
        self.lease_clock = leases
        self._watches = Watches(machine)

    # ------------------------------------------------------------------------------------------------ keys

    def get(self, key: bytes, serializable: bool = False) -> Answer | Found:
        user = self.user() if self.machine.auth.state.enabled else NOBODY
        if serializable and not self.node.is_witness:
            return self._one(key, user)
        future: Answer = self._loop.create_future()
        self.node.read(partial(self._get_now, future, key, user))
        return future

    def _get_now(self, future: Answer, key: bytes, user: str, error: CallError | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
            return
        try:
            future.set_result(self._one(key, user))
        except KvRefused as refusal:
            future.set_exception(refusal)

    def _one(self, key: bytes, user: str) -> Found:
        machine = self.machine
        if not key or machine.auth.state.enabled or machine.alarms.raised:
            return self._found(Get(key), user)
        store = machine.store
        version: Any = store.current.get(key)
        if version is None or not version.version:
            return Found(store.revision)
        return Found(store.revision, [version], 1)

    def find(self, wanted: Get, serializable: bool = False) -> Answer | Found:
        user = self.user()
        if serializable and not self.node.is_witness:
            return self._found(wanted, user)
        return self.after_barrier(partial(self._found, wanted, user))

    def _found(self, wanted: Get, user: str) -> Found:
        """As of what is applied here. Raises: KvRefused."""
        machine, store = self.machine, self.machine.store
        try:
            query.check_range(wanted)
            machine.auth.check_read(user, wanted.key, end_of(wanted.range_end))
            machine.alarms.check_serving()
            found = query.find(store, wanted, store.revision)
        except Refused as refusal:
            raise refused(refusal.error) from None
        versions: list[Any] = found.versions
        if wanted.keys_only:
            versions = [Version(v.key, b"", v.create, v.mod, v.version, v.lease) for v in versions]
        return Found(store.revision, versions, found.count, found.more)

    def delete(self, key: bytes, range_end: bytes = b"", previous: bool = False) -> Answer:
        request = LIBRARY["DeleteRangeRequest"](key=key, range_end=range_end, prev_kv=previous)
        return self.command(Kind.DELETE_RANGE, request.SerializeToString(), _deleted)

    def txn(self, txn: Txn) -> Answer:
        request = txn_request(txn)
        body = request.SerializeToString()
        machine = self.machine
        if machine.is_read_only(body):
            user = self.user()
            return self.after_barrier(lambda: _done(checked(machine.txn(user, body))))
        return self.command(Kind.TXN, body, _done)

    # ------------------------------------------------------------------------------------------------ leases

    def grant(self, ttl_s: int, lease: int = 0) -> Answer:
        request = LIBRARY["LeaseGrantRequest"](TTL=ttl_s, ID=lease)
        return self.command(Kind.LEASE_GRANT, request.SerializeToString(), _granted)

    def revoke(self, lease: int) -> Answer:
        request = LIBRARY["LeaseRevokeRequest"](ID=lease)
        return self.command(Kind.LEASE_REVOKE, request.SerializeToString(), self.revision_now)

    async def renew(self, lease: int) -> int:
        check(self.machine.auth.check_known, self.user())
        (ttl_s,) = await self._clock.renew([lease])
        return ttl_s

    async def remaining(self, lease: int, keys: bool = False) -> Remaining:
        await self.node.catch_up()
        check(self.machine.auth.check_known, self.user())
        known = self.machine.leases.by_id.get(lease)
        if known is None:
            return Remaining(lease, -1)
        held = sorted(known.keys) if keys else []
        return Remaining(lease, await self._clock.remaining(lease), known.ttl_s, held)

    def leases(self) -> Answer:
        check(self.machine.auth.check_known, self.user())
        return self.after_barrier(lambda: sorted(self.machine.leases.by_id))

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
        if not self.machine.may_watch(self.user(), key, end):
            raise refused(errors.PERMISSION_REFUSED)
        watch = self._watches.begin(key, end, revision, previous=previous, puts=puts, deletes=deletes)
        try:
            yield Events(watch.next - 1)
            while True:
                try:
                    events = await watch.more()
                except Refused as refusal:
                    raise refused(refusal.error) from None
                yield events
        finally:
            watch.end()


def _deleted(result: bytes) -> Deleted:
    response = LIBRARY["DeleteRangeResponse"].FromString(result)
    return Deleted(response.header.revision, response.deleted, kvs_of(response.prev_kvs))


def _done(result: bytes) -> Done:
    response = LIBRARY["TxnResponse"].FromString(result)
    return done_of(response, response.header.revision)


def _granted(result: bytes) -> Granted:
    response = LIBRARY["LeaseGrantResponse"].FromString(result)
    return Granted(response.ID, response.TTL)
