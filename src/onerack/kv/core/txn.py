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

from onerack.kv.core.auth import Auth
from onerack.kv.core.errors import (
    COMPACTED,
    DUPLICATE_KEY,
    EMPTY_KEY,
    FUTURE_REVISION,
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
_Check = Callable[[Store, Leases, str, Any], None]
Path = Iterator[bool]
"""Whether the comparisons held, of the outermost transaction and then of each one that is met on the way."""


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


def check_txn(request: Any, ops_max: int) -> None:
    """Raises: Refused: the request makes no sense, whatever the store holds."""
    _check_ops(request, ops_max)
    _check_overlaps(request.success)
    _check_overlaps(request.failure)


def _check_ops(request: Any, ops_max: int) -> None:
    longest = max(len(request.compare), len(request.success), len(request.failure))
    if longest > ops_max:
        raise Refused(TOO_MANY_OPS)
    for compare in request.compare:
        if not compare.key:
            raise Refused(EMPTY_KEY)
    for op in (*request.success, *request.failure):
        kind = op.WhichOneof("request")
        if kind == "request_range":
            check_range(op.request_range)
        elif kind == "request_put":
            check_put(op.request_put)
        elif kind == "request_delete_range":
            check_delete(op.request_delete_range)
        elif kind == "request_txn":
            _check_ops(op.request_txn, ops_max - longest)
        else:
            raise Refused(KEY_NOT_FOUND)


def _check_overlaps(ops: Any) -> tuple[set[bytes], list[_Range]]:
    """What this list puts and deletes, itself and below. Raises: Refused: a key would be changed twice."""
    # As in etcd a deletion of all keys from one on (`range_end` is one zero byte) overlaps with nothing: what is put
    # behind it in the list stays, and what is put before it goes.
    deleted: list[_Range] = [
        (op.request_delete_range.key, op.request_delete_range.range_end or None)
        for op in ops
        if op.WhichOneof("request") == "request_delete_range"
    ]
    put: set[bytes] = set()
    for op in ops:
        if op.WhichOneof("request") == "request_txn":
            put_then, deleted_then = _check_overlaps(op.request_txn.success)
            put_else, deleted_else = _check_overlaps(op.request_txn.failure)
            if put & (put_then | put_else) or _overlap(put_then | put_else, deleted):
                raise Refused(DUPLICATE_KEY)
            put |= put_then | put_else
            deleted += deleted_then + deleted_else
    own = [op.request_put.key for op in ops if op.WhichOneof("request") == "request_put"]
    if len(set(own)) < len(own) or put & set(own) or _overlap(set(own), deleted):
        raise Refused(DUPLICATE_KEY)
    return put | set(own), deleted


def _overlap(keys: set[bytes], ranges: list[_Range]) -> bool:
    if not keys or not ranges:
        return False
    cover = Cover(ranges)
    return any(cover.holds(key, None) for key in sorted(keys))


def is_read_only(request: Any) -> bool:
    """Whether it need not enter the log."""
    return all(op.WhichOneof("request") == "request_range" for op in (*request.success, *request.failure))


# ------------------------------------------------------------------------------------------------ who may


def check_permitted(auth: Auth, leases: Leases, user: str, request: Any) -> None:
    """Both branches, whichever is taken: else the answer would tell what the user may not read."""
    for compare in request.compare:
        auth.check_read(user, compare.key, end_of(compare.range_end))
    for op in (*request.success, *request.failure):
        kind = op.WhichOneof("request")
        if kind == "request_range":
            auth.check_read(user, op.request_range.key, end_of(op.request_range.range_end))
        elif kind == "request_put":
            check_put_permitted(auth, leases, user, op.request_put)
        elif kind == "request_delete_range":
            check_delete_permitted(auth, user, op.request_delete_range)
        elif kind == "request_txn":
            check_permitted(auth, leases, user, op.request_txn)


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


def paths(store: Store, request: Any) -> list[bool]:
    """Which way each transaction goes, outermost first, as far as they are on the way."""
    taken = all(_holds(store, compare) for compare in request.compare)
    chosen = [taken]
    for op in request.success if taken else request.failure:
        if op.WhichOneof("request") == "request_txn":
            chosen += paths(store, op.request_txn)
    return chosen


def check_path(store: Store, leases: Leases, request: Any, taken: list[bool]) -> None:
    """Raises: Refused: an operation on the path cannot be carried out. After this nothing can fail any more."""
    for check_one in (_check_put_possible, _check_range_possible):
        _check_each(store, leases, request, iter(taken), check_one)


def _check_each(store: Store, leases: Leases, request: Any, path: Path, check_one: _Check) -> None:
    for op in request.success if next(path) else request.failure:
        kind = op.WhichOneof("request")
        if kind == "request_txn":
            _check_each(store, leases, op.request_txn, path, check_one)
        else:
            check_one(store, leases, kind, op)


def _check_put_possible(store: Store, leases: Leases, kind: str, op: Any) -> None:
    if kind == "request_put":
        put = op.request_put
        if (put.ignore_value or put.ignore_lease) and store.now(put.key) is None:
            raise Refused(KEY_NOT_FOUND)
        if put.lease and put.lease not in leases:
            raise Refused(LEASE_NOT_FOUND)


def _check_range_possible(store: Store, leases: Leases, kind: str, op: Any) -> None:
    if kind == "request_range" and op.request_range.revision:
        revision = op.request_range.revision
        if revision > store.revision:
            raise Refused(FUTURE_REVISION)
        if revision < store.compacted:
            raise Refused(COMPACTED)


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
