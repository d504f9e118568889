"""A client of a store that stands alone: requests go in as bytes, as from the log, and answers come back as messages.

The idea: a test says what it means, and every command is checked on the way: all invariants hold after it, a refused
one has changed nothing, and another machine that applies the same commands without being asked for answers agrees.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from onerack.config import KvConfig
from onerack.kv import messages
from onerack.kv.core import Kind, KvError, KvMachine, encode_command
from onerack.kv.core.commands import encode_expiry, encode_term
from onerack.kv.core.errors import Refused
from onerack.kv.invariants import check_state, check_step, moment_of

METHOD_OF = {
    Kind.PUT: "Put",
    Kind.DELETE_RANGE: "DeleteRange",
    Kind.TXN: "Txn",
    Kind.COMPACT: "Compaction",
    Kind.LEASE_GRANT: "LeaseGrant",
    Kind.LEASE_REVOKE: "LeaseRevoke",
    Kind.ALARM: "Alarm",
    Kind.ALARM_BY_NODE: "Alarm",
    Kind.AUTH_ENABLE: "AuthEnable",
    Kind.AUTH_DISABLE: "AuthDisable",
    Kind.USER_ADD: "AuthUserAdd",
    Kind.USER_DELETE: "AuthUserDelete",
    Kind.USER_CHANGE_PASSWORD: "AuthUserChangePassword",
    Kind.USER_GRANT_ROLE: "AuthUserGrantRole",
    Kind.USER_REVOKE_ROLE: "AuthUserRevokeRole",
    Kind.ROLE_ADD: "AuthRoleAdd",
    Kind.ROLE_DELETE: "AuthRoleDelete",
    Kind.ROLE_GRANT_PERMISSION: "AuthRoleGrantPermission",
    Kind.ROLE_REVOKE_PERMISSION: "AuthRoleRevokePermission",
    Kind.LOG_IN: "Authenticate",
}


class Client:
    """`user` may be changed between two calls."""

    def __init__(self, config: KvConfig | None = None) -> None:
        self.machine = KvMachine(config)
        self.twin = KvMachine(config)
        self.user = ""
        self.log: list[bytes] = []

    # ------------------------------------------------------------------------------------------------ commands

    def command(self, kind: Kind, **fields: Any) -> Any:
        """Raises: Refused: the machine's refusal."""
        stem = METHOD_OF[kind]
        body = getattr(messages, f"{stem}Request")(**fields).SerializeToString()
        return getattr(messages, f"{stem}Response").FromString(self.apply(kind, body))

    def apply(self, kind: int, body: bytes) -> bytes:
        before = moment_of(self.machine)
        command = encode_command(kind, self.user.encode(), body)
        self.log.append(command)
        answer = self.machine.apply(command, True)
        assert self.twin.apply(command, False) is None
        check_state(self.machine)
        check_step(before, self.machine, isinstance(answer, KvError))
        assert moment_of(self.twin) == moment_of(self.machine)
        if isinstance(answer, KvError):
            raise Refused(answer)
        assert answer is not None
        return answer

    def put(self, key: bytes, value: bytes = b"", **fields: Any) -> Any:
        return self.command(Kind.PUT, key=key, value=value, **fields)

    def delete(self, key: bytes, range_end: bytes = b"", **fields: Any) -> Any:
        return self.command(Kind.DELETE_RANGE, key=key, range_end=range_end, **fields)

    def txn(self, compare: list[Any], success: list[Any], failure: list[Any] | None = None) -> Any:
        return self.command(Kind.TXN, compare=compare, success=success, failure=failure or [])

    def compact(self, revision: int) -> Any:
        return self.command(Kind.COMPACT, revision=revision)

    def grant(self, lease: int, ttl_s: int = 60) -> Any:
        return self.command(Kind.LEASE_GRANT, ID=lease, TTL=ttl_s)

    def revoke(self, lease: int) -> Any:
        return self.command(Kind.LEASE_REVOKE, ID=lease)

    def expire(self, *leases: int, term: int = 1) -> None:
        self.apply(Kind.LEASE_EXPIRE, encode_expiry(term, leases))

    def take_over(self, term: int) -> None:
        self.apply(Kind.LEASE_TAKE_OVER, encode_term(term))

    # ------------------------------------------------------------------------------------------------ reads

    def range(self, key: bytes, range_end: bytes = b"", **fields: Any) -> Any:
        """Raises: Refused."""
        request = messages.RangeRequest(key=key, range_end=range_end, **fields)
        answer = self.machine.range(self.user, request.SerializeToString())
        return messages.RangeResponse.FromString(_given(answer))

    def get(self, key: bytes, revision: int = 0) -> bytes | None:
        found = self.range(key, revision=revision).kvs
        return bytes(found[0].value) if found else None

    def keys(self, key: bytes, range_end: bytes = b"", **fields: Any) -> list[bytes]:
        return [bytes(kv.key) for kv in self.range(key, range_end, **fields).kvs]

    def read_txn(self, compare: list[Any], success: list[Any], failure: list[Any] | None = None) -> Any:
        request = messages.TxnRequest(compare=compare, success=success, failure=failure or [])
        answer = self.machine.txn(self.user, request.SerializeToString())
        return messages.TxnResponse.FromString(_given(answer))

    def time_to_live(self, lease: int, remaining_s: int = 7, keys: bool = False) -> Any:
        request = messages.LeaseTimeToLiveRequest(ID=lease, keys=keys)
        answer = self.machine.time_to_live(self.user, request.SerializeToString(), remaining_s)
        return messages.LeaseTimeToLiveResponse.FromString(_given(answer))

    def ask(self, method: str, **fields: Any) -> Any:
        known = messages.METHODS[f"/etcdserverpb.Auth/{method}"]
        answer = self.machine.ask(known.path, self.user, known.request_class(**fields).SerializeToString())
        return known.response_class.FromString(_given(answer))

    @property
    def revision(self) -> int:
        return self.machine.revision


def _given(answer: bytes | KvError) -> bytes:
    if isinstance(answer, KvError):
        raise Refused(answer)
    return answer


@contextmanager
def refused(error: KvError) -> Iterator[None]:
    """`with refused(errors.COMPACTED):` nothing but this refusal, code and text."""
    with pytest.raises(Refused) as caught:
        yield
    assert caught.value.error == error


# ---------------------------------------------------------------------------------------------- parts of transactions


def put_op(key: bytes, value: bytes = b"", **fields: Any) -> Any:
    return messages.RequestOp(request_put=messages.PutRequest(key=key, value=value, **fields))


def delete_op(key: bytes, range_end: bytes = b"", **fields: Any) -> Any:
    return messages.RequestOp(request_delete_range=messages.DeleteRangeRequest(key=key, range_end=range_end, **fields))


def range_op(key: bytes, range_end: bytes = b"", **fields: Any) -> Any:
    return messages.RequestOp(request_range=messages.RangeRequest(key=key, range_end=range_end, **fields))


def txn_op(compare: list[Any], success: list[Any], failure: list[Any] | None = None) -> Any:
    inner = messages.TxnRequest(compare=compare, success=success, failure=failure or [])
    return messages.RequestOp(request_txn=inner)


def compare(key: bytes, result: str, target: str, range_end: bytes = b"", **given: Any) -> Any:
    """`compare(b"k", "EQUAL", "VALUE", value=b"v")`."""
    kind = messages.Compare
    return kind(
        key=key, range_end=range_end, result=kind.CompareResult.Value(result), target=kind.CompareTarget.Value(target),
        **given,
    )  # fmt: skip
