"""A client of the etcd v3 API for the benchmarks' own questions: who leads, is it there, put this.

The rule: every call has a deadline, and whatever goes wrong with it is a RuntimeError or an OSError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import grpc

from onerack.kv.messages import (
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    RequestOp,
    StatusRequest,
    StatusResponse,
    TxnRequest,
    TxnResponse,
)

TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Status:
    member_id: int
    leader: int
    """0: nobody."""
    revision: int


class Api:
    """One endpoint."""

    def __init__(self, endpoint: str) -> None:
        self._channel = grpc.insecure_channel(endpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._channel.close()

    def call(self, path: str, request: Any, answer: Any, timeout_s: float = TIMEOUT_S) -> Any:
        try:
            content = self._channel.unary_unary(path)(request.SerializeToString(), timeout=timeout_s)
        except grpc.RpcError as error:
            raise RuntimeError(f"{path}: {error}") from error
        return answer.FromString(content)

    def status(self) -> Status:
        found = self.call("/etcdserverpb.Maintenance/Status", StatusRequest(), StatusResponse)
        return Status(found.header.member_id, found.leader, found.header.revision)

    def put(self, key: bytes, value: bytes, timeout_s: float = TIMEOUT_S) -> None:
        self.call("/etcdserverpb.KV/Put", PutRequest(key=key, value=value), PutResponse, timeout_s)

    def put_all(self, pairs: Sequence[tuple[bytes, bytes]], timeout_s: float = TIMEOUT_S) -> None:
        """As one revision. Requires: not more than a transaction takes, 128."""
        request = TxnRequest(success=[RequestOp(request_put=PutRequest(key=key, value=value)) for key, value in pairs])
        self.call("/etcdserverpb.KV/Txn", request, TxnResponse, timeout_s)

    def count(self) -> int:
        """Keys in the store."""
        request = RangeRequest(key=b"\0", range_end=b"\0", count_only=True)
        return int(self.call("/etcdserverpb.KV/Range", request, RangeResponse).count)
