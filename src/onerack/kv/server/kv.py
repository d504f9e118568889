"""The service KV: Range, Put, DeleteRange, Txn, Compact.

The idea: a write is a command of the log, whichever node is asked. A linearizable read waits until this node has
applied all that was committed before, and is answered here; a serializable one is answered at once. Nothing is parsed
that need not be: of the usual request only the last two bytes.

The rule: a request is answered by the machine's bytes, or by one of etcd's errors.
Source: the KV service of etcd v3; ReadIndex, Ongaro's dissertation 2014, section 6.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from google.protobuf.message import DecodeError

from onerack.kv.core import Kind
from onerack.kv.messages import LIBRARY
from onerack.kv.server.desk import Desk
from onerack.kv.server.grpc import Call, Stream, Unary
from onerack.kv.server.outcomes import answer

_RANGE: Final = LIBRARY["RangeRequest"]
_TXN: Final = LIBRARY["TxnRequest"]
_SERIALIZABLE: Final = b"\x38\x01"
"""The field `serializable`, when it is true."""
_SUCCESS, _FAILURE, _OP_RANGE = 0x12, 0x1A, 0x0A
"""Tags of the lists of a TxnRequest, and of a range in one of their operations."""


class KvService:
    """Of one node."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._node = desk.node
        self._machine = desk.machine

    def handlers(self) -> Mapping[str, Unary | Stream]:
        return {
            "/etcdserverpb.KV/Range": Unary(self.range),
            "/etcdserverpb.KV/Put": Unary(partial(self._write, Kind.PUT)),
            "/etcdserverpb.KV/DeleteRange": Unary(partial(self._write, Kind.DELETE_RANGE)),
            "/etcdserverpb.KV/Txn": Unary(self.txn),
            "/etcdserverpb.KV/Compact": Unary(partial(self._write, Kind.COMPACT)),
        }

    def _write(self, kind: int, call: Call, request: bytes) -> None:
        user = self._desk.admit(call)
        if user is not None:
            self._desk.propose(call, kind, user, request)

    def range(self, call: Call, request: bytes) -> None:
        is_serializable = is_serializable_range(request)
        user = self._desk.admit(call, by_learner=is_serializable)
        if user is None:
            return
        if is_serializable:
            answer(call, self._machine.range(user, request))
        else:
            self._node.read(partial(self._range_now, call, user, request))

    def _range_now(self, call: Call, user: str, request: bytes, error: object) -> None:
        answer(call, self._machine.range(user, request) if error is None else error)

    def txn(self, call: Call, request: bytes) -> None:
        if may_write(request) or not self._machine.is_read_only(request):
            self._write(Kind.TXN, call, request)
            return
        user = self._desk.admit(call)
        if user is None:
            return
        if is_serializable_txn(request):
            answer(call, self._machine.txn(user, request))
        else:
            self._node.read(partial(self._txn_now, call, user, request))

    def _txn_now(self, call: Call, user: str, request: bytes, error: object) -> None:
        answer(call, self._machine.txn(user, request) if error is None else error)


def is_serializable_range(request: bytes) -> bool:
    """Whether a RangeRequest may be answered by a node that does not know whether it is up to date."""
    size = len(request)
    if size > 2 and request[0] == 0x0A and request[1] < 128:
        if request[1] == size - 2:
            return False  # A key and nothing else: the usual question.
        if request[1] == size - 4 and request[-2:] == _SERIALIZABLE:
            return True
    return _SERIALIZABLE[:1] in request and bool(_parsed(_RANGE, request).serializable)


def may_write(request: bytes) -> bool:
    """A glance at a TxnRequest: whether it has an operation that is no range. (To say so wrongly costs time only.)"""
    at, size = 0, len(request)
    while at + 2 < size:
        tag, length = request[at], request[at + 1]
        at += 2
        if length > 127:
            if request[at] > 127:
                return False  # Long: whoever parses it will see.
            length = length & 127 | request[at] << 7
            at += 1
        if (tag in (_SUCCESS, _FAILURE)) and at < size and request[at] != _OP_RANGE:
            return True
        at += length
    return False


def is_serializable_txn(request: bytes) -> bool:
    """The same for a TxnRequest that only reads: all its ranges must be serializable, and there must be one."""
    parsed = _parsed(_TXN, request)
    ops = [*parsed.success, *parsed.failure]
    return bool(ops) and all(op.request_range.serializable for op in ops)


def _parsed(kind: Any, request: bytes) -> Any:
    """Bytes that are no message are for the machine to refuse."""
    try:
        return kind.FromString(request)
    except DecodeError:
        return kind()
