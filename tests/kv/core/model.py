"""The store, as simply as it can be said: a copy of all keys for each revision. Nothing is fast, and nothing clever.

The idea: what it shares with the real one is the protocol alone. It answers with the same messages, so that a test
compares whole responses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from onerack.kv import messages
from onerack.kv.core import errors
from onerack.kv.core.errors import KvError
from onerack.kv.messages import KeyValue, RangeRequest


class Pair(NamedTuple):
    """One key at one revision."""

    value: bytes
    create: int
    mod: int
    version: int
    lease: int


State = dict[bytes, Pair]


class Failed(Exception):
    """Carries a KvError."""

    def __init__(self, error: KvError) -> None:
        super().__init__(error.text)
        self.error = error


class Model:
    """Keys, revisions and leases; no users, no alarms."""

    def __init__(self) -> None:
        self.states: list[State] = [{}, {}]
        """By revision; the first one is never used."""
        self.events: dict[int, list[tuple[bytes, Pair | None]]] = {}
        """revision -> (key, what it became; None: it was deleted)."""
        self.compacted = -1
        self.leases: set[int] = set()

    @property
    def revision(self) -> int:
        return len(self.states) - 1

    # ------------------------------------------------------------------------------------------------ commands

    def put(self, request: Any) -> Any:
        return self._alone(lambda draft: self._put(draft, request))

    def delete(self, request: Any) -> Any:
        return self._alone(lambda draft: self._delete(draft, request))

    def txn(self, request: Any) -> Any:
        self._check_path(request)
        return self._alone(lambda draft: self._txn(draft, request))

    def compact(self, revision: int) -> Any:
        if revision <= self.compacted:
            raise Failed(errors.COMPACTED)
        if revision > self.revision:
            raise Failed(errors.FUTURE_REVISION)
        self.compacted = revision
        return messages.CompactionResponse(header=messages.ResponseHeader(revision=self.revision))

    def revoke(self, lease: int) -> Any:
        if lease not in self.leases:
            raise Failed(errors.LEASE_NOT_FOUND)
        self.leases.remove(lease)
        draft = Draft(self)
        for key in sorted(key for key, pair in draft.state.items() if pair.lease == lease):
            draft.change(key, None)
        draft.commit()
        return messages.LeaseRevokeResponse(header=messages.ResponseHeader(revision=self.revision))

    def _alone(self, operation: Any) -> Any:
        draft = Draft(self)
        response = operation(draft)
        draft.commit()
        response.header.revision = self.revision
        return response

    # ------------------------------------------------------------------------------------------------ reads

    def range(self, request: Any) -> Any:
        return self._range(Draft(self), request)

    def _range(self, draft: Draft, request: Any) -> Any:
        revision = request.revision if request.revision > 0 else draft.revision
        if revision > draft.revision:
            raise Failed(errors.FUTURE_REVISION)
        if revision < self.compacted:
            raise Failed(errors.COMPACTED)
        state = draft.state if revision == draft.revision else self.states[revision]
        found = [(key, state[key]) for key in sorted(state) if holds(request, key)]
        response = messages.RangeResponse(header=messages.ResponseHeader(revision=draft.revision), count=len(found))
        if request.count_only:
            return response
        filters = (
            request.min_mod_revision, request.max_mod_revision,
            request.min_create_revision, request.max_create_revision,
        )  # fmt: skip
        if request.limit > 0 and request.sort_order == RangeRequest.NONE and not any(filters):
            found = found[: request.limit + 1]
        low_mod, high_mod, low_create, high_create = filters
        found = [(k, p) for k, p in found if low_mod <= p.mod <= (high_mod or p.mod)]
        found = [(k, p) for k, p in found if low_create <= p.create <= (high_create or p.create)]
        orders = [lambda kp: kp[0], lambda kp: kp[1].version, lambda kp: kp[1].create, lambda kp: kp[1].mod,
                  lambda kp: kp[1].value]  # fmt: skip
        found.sort(key=orders[request.sort_target], reverse=request.sort_order == RangeRequest.DESCEND)
        response.more = 0 < request.limit < len(found)
        if request.limit > 0:
            found = found[: request.limit]
        response.kvs.extend(as_message(key, pair, not request.keys_only) for key, pair in found)
        return response

    # ------------------------------------------------------------------------------------------------ operations

    def _check_put(self, request: Any) -> None:
        if request.lease and request.lease not in self.leases:
            raise Failed(errors.LEASE_NOT_FOUND)
        if (request.ignore_value or request.ignore_lease) and request.key not in self.states[-1]:
            raise Failed(errors.KEY_NOT_FOUND)

    def _put(self, draft: Draft, request: Any) -> Any:
        self._check_put(request)
        was = draft.state.get(request.key)
        value = was.value if request.ignore_value and was else request.value
        lease = was.lease if request.ignore_lease and was else request.lease
        draft.change(
            request.key,
            Pair(
                value,
                was.create if was else self.revision + 1,
                self.revision + 1,
                was.version + 1 if was else 1,
                lease,
            ),
        )
        previous = as_message(request.key, was) if was and request.prev_kv else None
        return messages.PutResponse(header=messages.ResponseHeader(revision=self.revision + 1), prev_kv=previous)

    def _delete(self, draft: Draft, request: Any) -> Any:
        gone = [(key, draft.state[key]) for key in sorted(draft.state) if holds(request, key)]
        for key, _ in gone:
            draft.change(key, None)
        previous = [as_message(key, pair) for key, pair in gone] if request.prev_kv else []
        header = messages.ResponseHeader(revision=draft.revision)
        return messages.DeleteRangeResponse(header=header, deleted=len(gone), prev_kvs=previous)

    def _txn(self, draft: Draft, request: Any) -> Any:
        taken = all(self._compare(compare) for compare in request.compare)
        response = messages.TxnResponse(header=messages.ResponseHeader(), succeeded=taken)
        for op in request.success if taken else request.failure:
            kind = op.WhichOneof("request")
            answer = response.responses.add()
            if kind == "request_range":
                answer.response_range.CopyFrom(self._range(draft, op.request_range))
            elif kind == "request_put":
                answer.response_put.CopyFrom(self._put(draft, op.request_put))
            elif kind == "request_delete_range":
                answer.response_delete_range.CopyFrom(self._delete(draft, op.request_delete_range))
            else:
                answer.response_txn.CopyFrom(self._txn(draft, op.request_txn))
        return response

    def _check_path(self, request: Any) -> None:
        """Puts first, then reads, each in the order in which they would be done."""
        ops = list(self._path(request))
        for op in ops:
            if op.WhichOneof("request") == "request_put":
                put = op.request_put
                if (put.ignore_value or put.ignore_lease) and put.key not in self.states[-1]:
                    raise Failed(errors.KEY_NOT_FOUND)
                self._check_put(put)
        for op in ops:
            if op.WhichOneof("request") == "request_range" and op.request_range.revision > 0:
                if op.request_range.revision > self.revision:
                    raise Failed(errors.FUTURE_REVISION)
                if op.request_range.revision < self.compacted:
                    raise Failed(errors.COMPACTED)

    def _path(self, request: Any) -> list[Any]:
        found = []
        taken = all(self._compare(compare) for compare in request.compare)
        for op in request.success if taken else request.failure:
            found += self._path(op.request_txn) if op.WhichOneof("request") == "request_txn" else [op]
        return found

    def _compare(self, compare: Any) -> bool:
        target = ["version", "create", "mod", "value", "lease"][compare.target]
        given = getattr(compare, ["version", "create_revision", "mod_revision", "value", "lease"][compare.target])
        state = self.states[-1]
        pairs = [pair for key, pair in state.items() if holds(compare, key)]
        if not pairs and target == "value":
            return False
        values = [getattr(pair, target) for pair in pairs] or [0]
        return all([value == given, value > given, value < given, value != given][compare.result] for value in values)


class Draft:
    """An unfinished revision."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._events: list[tuple[bytes, Pair | None]] = []
        self.state: State = dict(model.states[-1])

    @property
    def revision(self) -> int:
        return self._model.revision + bool(self._events)

    def change(self, key: bytes, pair: Pair | None) -> None:
        self._events.append((key, pair))
        if pair is None:
            del self.state[key]
        else:
            self.state[key] = pair

    def commit(self) -> None:
        if self._events:
            self._model.states.append(self.state)
            self._model.events[self._model.revision] = self._events


def holds(request: Any, key: bytes) -> bool:
    """Whether the range of a request, or of a comparison, holds the key."""
    if not request.range_end:
        return bool(key == request.key)
    return bool(key >= request.key and (request.range_end == b"\0" or key < request.range_end))


def as_message(key: bytes, pair: Pair, with_value: bool = True) -> Any:
    return KeyValue(
        key=key,
        create_revision=pair.create,
        mod_revision=pair.mod,
        version=pair.version,
        value=pair.value if with_value else b"",
        lease=pair.lease,
    )
