"""Transactions of the native interface as etcd's messages, and their responses back.

The idea: there is one transaction in the store, etcd's; the native one is another spelling of it. The rule: nothing is
checked here but what cannot be spelled; what makes no sense is refused by the store, with its own words.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from onerack.errors import UsageError
from onerack.kv.client.values import Compare, Delete, Deleted, Done, Found, Get, KeyValue, Put, Txn, Written
from onerack.kv.messages import LIBRARY

_RELATIONS: Final = {"=": "EQUAL", "!=": "NOT_EQUAL", "<": "LESS", ">": "GREATER"}
_TARGETS: Final = {
    "version": ("VERSION", "version"),
    "create": ("CREATE", "create_revision"),
    "mod": ("MOD", "mod_revision"),
    "value": ("VALUE", "value"),
    "lease": ("LEASE", "lease"),
}


def txn_request(txn: Txn) -> Any:
    """A TxnRequest. Raises: UsageError: a comparison of a number with bytes."""
    return LIBRARY["TxnRequest"](
        compare=[_compare(each) for each in txn.compare],
        success=[_request_op(each) for each in txn.success],
        failure=[_request_op(each) for each in txn.failure],
    )


def _compare(compare: Compare) -> Any:
    kind = LIBRARY["Compare"]
    target, field = _TARGETS[compare.target]
    if isinstance(compare.to, bytes) != (compare.target == "value"):
        wanted = "bytes" if compare.target == "value" else "a number"
        raise UsageError(f"{compare.target} of {compare.key!r:.80} is compared with {wanted}, not {compare.to!r:.80}")
    made = kind(
        key=compare.key,
        range_end=compare.range_end,
        result=getattr(kind, _RELATIONS[compare.relation]),
        target=getattr(kind, target),
    )
    setattr(made, field, compare.to)
    return made


def _request_op(op: Put | Get | Delete | Txn) -> Any:
    kind = LIBRARY["RequestOp"]
    match op:
        case Put():
            return kind(
                request_put=LIBRARY["PutRequest"](
                    key=op.key, value=op.value, lease=op.lease, prev_kv=op.previous, ignore_value=op.keep_value,
                    ignore_lease=op.keep_lease,
                )
            )  # fmt: skip
        case Get():
            return kind(request_range=_range_request(op))
        case Delete():
            return kind(
                request_delete_range=LIBRARY["DeleteRangeRequest"](
                    key=op.key, range_end=op.range_end, prev_kv=op.previous
                )
            )
        case Txn():
            return kind(request_txn=txn_request(op))


def _range_request(get: Get) -> Any:
    return LIBRARY["RangeRequest"](**{name: getattr(get, name) for name in get.__struct_fields__})


# ------------------------------------------------------------------------------------------------ back


def done_of(response: Any, revision: int) -> Done:
    """`revision`: of the whole transaction; inner ones have no header of their own."""
    return Done(revision, response.succeeded, [_result(each, revision) for each in response.responses])


def _result(response: Any, revision: int) -> Written | Found | Deleted | Done:
    match response.WhichOneof("response"):
        case "response_put":
            return Written(revision, previous_of(response.response_put))
        case "response_range":
            found = response.response_range
            return Found(revision, kvs_of(found.kvs), found.count, found.more)
        case "response_delete_range":
            gone = response.response_delete_range
            return Deleted(revision, gone.deleted, kvs_of(gone.prev_kvs))
        case _:
            return done_of(response.response_txn, revision)


def previous_of(response: Any) -> KeyValue | None:
    """`prev_kv`, if it is there."""
    return kv_of(response.prev_kv) if response.HasField("prev_kv") else None


def kvs_of(kvs: Iterable[Any]) -> list[KeyValue]:
    return [kv_of(kv) for kv in kvs]


def kv_of(kv: Any) -> KeyValue:
    return KeyValue(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)
