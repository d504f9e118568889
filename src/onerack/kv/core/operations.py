"""The operations on keys, alone or inside a transaction: range, put, delete, txn.

The idea: an operation does not care whether it is alone. It appends what it changes to a list; whoever began the
list commits it as one revision when all is done. What it answers has no header yet: alone it gets that of the whole
cluster, inside a transaction one with the revision only.

The rule: nothing here refuses once something has been changed. Checks come first (`txn.check_path`, `check_put`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from onerack.config import KvConfig
from onerack.kv.core import query, wire
from onerack.kv.core.alarms import Alarms
from onerack.kv.core.auth import Auth
from onerack.kv.core.commands import Changes, Handler, Kind
from onerack.kv.core.leases import NO_LEASE, Leases
from onerack.kv.core.query import check_range
from onerack.kv.core.store import Store, end_of
from onerack.kv.core.txn import (
    DELETE,
    PUT,
    RANGE,
    TXN,
    Op,
    Plan,
    check_before,
    check_delete,
    check_delete_permitted,
    check_lease,
    check_path,
    check_permitted,
    check_put,
    check_put_permitted,
    check_txn,
    paths,
    plan_of,
)
from onerack.kv.core.version import VERSION_BYTES
from onerack.kv.messages import LIBRARY

_RANGE, _PUT, _DELETE, _TXN = 0x0A, 0x12, 0x1A, 0x22
"""Tags of the fields of a ResponseOp."""
_RESPONSE: Final = 0x1A
"""Tag of an operation's answer in a TxnResponse."""
_PREV_KV: Final = 0x12
"""Tag of `prev_kv` in a PutResponse."""
_PREV_KVS: Final = 0x1A
"""Tag of `prev_kvs` in a DeleteRangeResponse."""


class Operations:
    """What can be done with keys."""

    def __init__(self, store: Store, leases: Leases, auth: Auth, alarms: Alarms, config: KvConfig) -> None:
        self._store = store
        self._leases = leases
        self._auth = auth
        self._alarms = alarms
        self._config = config

    def handlers(self) -> dict[int, tuple[Any, Handler]]:
        """By kind of command: the request's class, and what carries it out."""
        return {
            Kind.PUT: (LIBRARY["PutRequest"], self.put),
            Kind.DELETE_RANGE: (LIBRARY["DeleteRangeRequest"], self.delete),
            Kind.TXN: (LIBRARY["TxnRequest"], self.txn),
            Kind.COMPACT: (LIBRARY["CompactionRequest"], self.compact),
            Kind.COMPACT_BY_NODE: (LIBRARY["CompactionRequest"], self._compact_by_node),
        }

    # ------------------------------------------------------------------------------------------------ alone

    def range(self, user: str, request: Any) -> bytes:
        """A RangeResponse without header. Raises: Refused."""
        check_range(request)
        self._auth.check_read(user, request.key, end_of(request.range_end))
        self._alarms.check_serving()
        return self._range(request, b"", self._store.revision)

    def put(self, user: str, request: Any, changes: Changes) -> bytes:
        """A PutResponse without header. Raises: Refused."""
        check_put(request)
        check_put_permitted(self._auth, self._leases, user, request)
        self._alarms.check_room()
        check_lease(self._leases, request)
        check_before(self._store, request)
        return self._put(request, b"", changes)

    def delete(self, user: str, request: Any, changes: Changes) -> bytes:
        """A DeleteRangeResponse without header. Raises: Refused."""
        check_delete(request)
        check_delete_permitted(self._auth, user, request)
        self._alarms.check_serving()
        return self._delete(request, b"", changes)

    def txn(self, user: str, request: Any, changes: Changes) -> bytes:
        """A TxnResponse without header. Raises: Refused."""
        plan = plan_of(request)
        check_txn(plan, self._config.txn_ops_max)
        if self._auth.enabled:
            check_permitted(self._auth, self._leases, user, plan)
        if self._alarms.raised:
            self._check_alarms(plan)
        taken = paths(self._store, plan)
        check_path(self._store, self._leases, plan, taken)
        return self._txn(plan, b"", iter(taken), changes)

    def _check_alarms(self, plan: Plan) -> None:
        if bytes_of_txn(plan):
            self._alarms.check_room()
        self._alarms.check_serving()

    def compact(self, user: str, request: Any, changes: Changes) -> bytes:
        """A CompactionResponse without header. Raises: Refused."""
        self._auth.check_known(user)
        return self._compact_by_node(user, request, changes)

    def _compact_by_node(self, user: str, request: Any, changes: Changes) -> bytes:
        self._alarms.check_serving()
        self._store.compact(request.revision)
        return b""

    def delete_keys(self, keys: list[bytes], changes: Changes) -> None:
        """Their lease is over. Requires: each exists, once, and is attached to no lease any more."""
        for key in keys:
            changes += [tombstone for _, tombstone in self._store.delete(key, None, self._store.revision + 1)]

    # ------------------------------------------------------------------------------------------------ anywhere

    def _revision_with(self, changes: Changes) -> int:
        """As an unfinished transaction sees it."""
        return self._store.revision + 1 if changes else self._store.revision

    def _range(self, request: Any, header: bytes, revision: int) -> bytes:
        found = query.find(self._store, request, revision)
        return wire.range_response(header, found.versions, found.more, found.count, not request.keys_only)

    def _put(self, request: Any, header: bytes, changes: Changes) -> bytes:
        store = self._store
        key, value, lease = request.key, request.value, request.lease
        before = store.now(key)
        if before is not None:
            value = before.value if request.ignore_value else value
            lease = before.lease if request.ignore_lease else lease
        changes.append(store.put(key, value, lease, store.revision + 1))
        if lease or (before is not None and before.lease):
            self._leases.move(key, before.lease if before is not None else NO_LEASE, lease)
        shown = wire.field(_PREV_KV, wire.key_value(before)) if request.prev_kv and before is not None else b""
        return header + shown

    def _delete(self, request: Any, header: bytes, changes: Changes) -> bytes:
        gone = self._store.delete(request.key, end_of(request.range_end), self._store.revision + 1)
        for before, tombstone in gone:
            changes.append(tombstone)
            if before.lease:
                self._leases.move(before.key, before.lease, NO_LEASE)
        parts = [header]
        if gone:
            parts.append(b"\x10" + wire.varint(len(gone)))
        if request.prev_kv:
            parts += [wire.field(_PREV_KVS, wire.key_value(before)) for before, _ in gone]
        return b"".join(parts)

    def _txn(self, plan: Plan, header: bytes, path: Iterator[bool], changes: Changes) -> bytes:
        succeeded = next(path)
        ops = plan.success if succeeded else plan.failure
        answers = [wire.field(_RESPONSE, self._op(kind, request, path, changes)) for kind, request in ops]
        return b"".join((header, b"\x10\x01" if succeeded else b"", *answers))

    def _op(self, kind: str, request: Any, path: Iterator[bool], changes: Changes) -> bytes:
        if kind == RANGE:
            revision = self._revision_with(changes)
            return wire.field(_RANGE, self._range(request, wire.inner_header(revision), revision))
        if kind == PUT:
            header = wire.inner_header(self._store.revision + 1)
            return wire.field(_PUT, self._put(request, header, changes))
        if kind == DELETE:
            body = self._delete(request, b"", changes)
            return wire.field(_DELETE, wire.inner_header(self._revision_with(changes)) + body)
        return wire.field(_TXN, self._txn(request, wire.EMPTY_HEADER, path, changes))


def bytes_of_put(request: Any) -> int:
    """What a PutRequest adds to the store."""
    return VERSION_BYTES + len(request.key) + len(request.value)


def bytes_of_txn(plan: Plan) -> int:
    """What a transaction may add, by its greedier branch."""
    return max(_bytes_of_ops(plan.success), _bytes_of_ops(plan.failure))


def _bytes_of_ops(ops: list[Op]) -> int:
    total = 0
    for kind, request in ops:
        if kind == PUT:
            total += bytes_of_put(request)
        elif kind == TXN:
            total += bytes_of_txn(request)
    return total
