"""Transactions: compare, then one of two lists of operations, all in one revision.

The idea: what can be refused is refused before anything is written. First the request itself is looked at, without
the store; then the comparisons choose a path, also through transactions inside; then everything on that path that
could fail is checked against the store as it is; only then is it carried out. So a transaction is whole or not at all.

The rules (etcd's):
- the comparisons of inner transactions, too, see the store as it was before the outermost began; reads on the path
  see what earlier operations of the path have written;
- order of checks: counts, then each comparison's key, then each operation, then overlaps;
- a key may be put once, and not where a bounded deletion of the same level or below reaches; `then` and `else` of one
  inner transaction may put the same key, since only one of them happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter, eq, gt, lt, ne
from typing import Any, Final

import msgspec

from onerack.kv.core.auth import Auth
from onerack.kv.core.errors import (
    DUPLICATE_KEY,
    EMPTY_KEY,
    KEY_NOT_FOUND,
    LEASE_NOT_FOUND,
    LEASE_PROVIDED,
    TOO_MANY_OPS,
    VALUE_PROVIDED,
    Refused,
)
from onerack.kv.core.leases import Leases
from onerack.kv.core.permissions import Cover
from onerack.kv.core.query import check_range
from onerack.kv.core.store import End, Store, end_of
from onerack.kv.core.version import Version

RANGE: Final = "request_range"
PUT: Final = "request_put"
DELETE: Final = "request_delete_range"
TXN: Final = "request_txn"
NOTHING: Final = ""

_RESULTS: Final[list[Callable[[Any, Any], bool]]] = [eq, gt, lt, ne]
_TARGETS: Final = ["version", "create_revision", "mod_revision", "value", "lease"]
_VALUE: Final = 3
_FIELDS: Final[list[Callable[[Version], Any]]] = [
    attrgetter("version"),
    attrgetter("create"),
    attrgetter("mod"),
    attrgetter("value"),
    attrgetter("lease"),
]
_MISSING: Final = Version(b"", b"", 0, 0, 0, 0)

_Range = tuple[bytes, End]


class Plan(msgspec.Struct):
    """A TxnRequest, taken apart once: to look into a message costs more than what is done here."""

    compares: list[Any]
    success: list[Op]
    failure: list[Op]


Op = tuple[str, Any]
"""("request_put", its request) ...; ("request_txn", its Plan); ("", None): an empty one."""
Path = Iterator[bool]
"""Whether the comparisons held, of the outermost transaction and then of each one that is met on the way."""


def plan_of(request: Any) -> Plan:
    return Plan(list(request.compare), _ops_of(request.success), _ops_of(request.failure))


def _ops_of(ops: Any) -> list[Op]:
    found: list[Op] = []
    for op in ops:
        kind = op.WhichOneof("request") or NOTHING
        if kind == TXN:
            found.append((TXN, plan_of(op.request_txn)))
        else:
            found.append((kind, getattr(op, kind) if kind else None))
    return found


# ------------------------------------------------------------------------------------------------ the request itself


def check_put(request: Any) -> None:
    if not request.key:
        raise Refused(EMPTY_KEY)
    if request.ignore_value and request.value:
        raise Refused(VALUE_PROVIDED)
    if request.ignore_lease and request.lease:
        raise Refused(LEASE_PROVIDED)


def check_delete(request: Any) -> None:
    if not request.key:
        raise Refused(EMPTY_KEY)


def check_txn(plan: Plan, ops_max: int) -> None:
    """Raises: Refused: the request makes no sense, whatever the store holds."""
    _check_ops(plan, ops_max)
    _check_overlaps(plan.success)
    _check_overlaps(plan.failure)


def _check_ops(plan: Plan, ops_max: int) -> None:
    longest = max(len(plan.compares), len(plan.success), len(plan.failure))
    if longest > ops_max:
        raise Refused(TOO_MANY_OPS)
    for compare in plan.compares:
        if not compare.key:
            raise Refused(EMPTY_KEY)
    for kind, request in (*plan.success, *plan.failure):
        if kind == RANGE:
            check_range(request)
        elif kind == PUT:
            check_put(request)
        elif kind == DELETE:
            check_delete(request)
        elif kind == TXN:
            _check_ops(request, ops_max - longest)
        else:
            raise Refused(KEY_NOT_FOUND)


def _check_overlaps(ops: list[Op]) -> tuple[set[bytes], list[_Range]]:
    """What this list puts and deletes, itself and below. Raises: Refused: a key would be changed twice."""
    # As in etcd a deletion of all keys from one on (`range_end` is one zero byte) overlaps with nothing: what is put
    # behind it in the list stays, and what is put before it goes.
    deleted: list[_Range] = [(request.key, request.range_end or None) for kind, request in ops if kind == DELETE]
    put: set[bytes] = set()
    for kind, inner in ops:
        if kind == TXN:
            put_then, deleted_then = _check_overlaps(inner.success)
            put_else, deleted_else = _check_overlaps(inner.failure)
            put_either = put_then | put_else
            if put & put_either or _overlap(put_either, deleted):
                raise Refused(DUPLICATE_KEY)
            put |= put_either
            deleted += deleted_then + deleted_else
    own = [request.key for kind, request in ops if kind == PUT]
    both = put.union(own)
    if len(both) < len(put) + len(own) or _overlap(set(own), deleted):
        raise Refused(DUPLICATE_KEY)
    return both, deleted


def _overlap(keys: set[bytes], ranges: list[_Range]) -> bool:
    if not keys or not ranges:
        return False
    cover = Cover(ranges)
    return any(cover.holds(key, None) for key in sorted(keys))


def is_read_only(plan: Plan) -> bool:
    """Whether it need not enter the log."""
    return all(kind == RANGE for kind, _ in (*plan.success, *plan.failure))


# ------------------------------------------------------------------------------------------------ who may


def check_permitted(auth: Auth, leases: Leases, user: str, plan: Plan) -> None:
    """Both branches, whichever is taken: else the answer would tell what the user may not read."""
    for compare in plan.compares:
        auth.check_read(user, compare.key, end_of(compare.range_end))
    for kind, request in (*plan.success, *plan.failure):
        if kind == RANGE:
            auth.check_read(user, request.key, end_of(request.range_end))
        elif kind == PUT:
            check_put_permitted(auth, leases, user, request)
        elif kind == DELETE:
            check_delete_permitted(auth, user, request)
        elif kind == TXN:
            check_permitted(auth, leases, user, request)


def check_put_permitted(auth: Auth, leases: Leases, user: str, request: Any) -> None:
    auth.check_write(user, request.key, None)
    if request.lease in leases:
        auth.check_keys_writable(user, leases.get(request.lease).keys)
    if request.prev_kv:
        auth.check_read(user, request.key, None)


def check_delete_permitted(auth: Auth, user: str, request: Any) -> None:
    end = end_of(request.range_end)
    auth.check_write(user, request.key, end)
    if request.prev_kv:
        auth.check_read(user, request.key, end)


# ------------------------------------------------------------------------------------------------ against the store


def paths(store: Store, plan: Plan) -> list[bool]:
    """Which way each transaction goes, outermost first, as far as they are on the way."""
    taken = all(_holds(store, compare) for compare in plan.compares)
    chosen = [taken]
    for kind, inner in plan.success if taken else plan.failure:
        if kind == TXN:
            chosen += paths(store, inner)
    return chosen


def check_path(store: Store, leases: Leases, plan: Plan, taken: list[bool]) -> None:
    """Raises: Refused: an operation on the path cannot be carried out. After this nothing can fail any more."""
    ops = list(_path(plan, iter(taken)))
    for kind, request in ops:
        if kind == PUT:
            check_before(store, request)
            check_lease(leases, request)
    for kind, request in ops:
        if kind == RANGE and request.revision:
            store.check_readable(request.revision)


def _path(plan: Plan, taken: Path) -> Iterator[Op]:
    for op in plan.success if next(taken) else plan.failure:
        if op[0] == TXN:
            yield from _path(op[1], taken)
        else:
            yield op


def check_lease(leases: Leases, request: Any) -> None:
    """Raises: Refused: a PutRequest names a lease that is not there."""
    if request.lease and request.lease not in leases:
        raise Refused(LEASE_NOT_FOUND)


def check_before(store: Store, request: Any) -> None:
    """Raises: Refused: a PutRequest wants to keep something of a key that is not there."""
    if (request.ignore_value or request.ignore_lease) and store.now(request.key) is None:
        raise Refused(KEY_NOT_FOUND)


def _holds(store: Store, compare: Any) -> bool:
    versions, _ = store.range_now(compare.key, end_of(compare.range_end))
    if versions:
        return all(_compare(compare, version) for version in versions)
    # A key that is not there has no value that could be compared, but its numbers are 0.
    return compare.target != _VALUE and _compare(compare, _MISSING)


def _compare(compare: Any, version: Version) -> bool:
    if not 0 <= compare.target < len(_TARGETS) or not 0 <= compare.result < len(_RESULTS):
        return True
    # What is not given is 0 or empty, also when another one is given by mistake.
    given = getattr(compare, _TARGETS[compare.target])
    return bool(_RESULTS[compare.result](_FIELDS[compare.target](version), given))
