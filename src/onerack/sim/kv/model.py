"""The model: the store in its plainest form, told wish after wish in the order of the log.

The idea: every state that there ever was is a dictionary of its own. Nothing is shared, indexed, or swept away, so it
is slow, and plainly right.

The rule: it is written from what etcd promises, without a look at the store; where the two differ, one is wrong.
"""

from __future__ import annotations

from typing import Any

from onerack.kv.core.errors import COMPACTED, FUTURE_REVISION, LEASE_EXISTS, LEASE_NOT_FOUND
from onerack.sim.kv.wishes import (
    REFUSED,
    Answer,
    Compact,
    Delete,
    Expire,
    Get,
    Grant,
    Item,
    Put,
    Revoke,
    TakeOver,
    Txn,
    Wish,
)

State = dict[str, Item]


class _Refused(Exception):
    """With its text."""


class Model:
    def __init__(self) -> None:
        self.states: list[State] = [{}, {}]
        """By revision; nothing has revision 0, and 1 is the empty store."""
        self.compacted = -1
        self.compactions: list[tuple[int, int]] = []
        """Which revision was compacted, and at which revision of the store."""
        self.leases: set[int] = set()
        self.lease_term = 0
        self._next: State = {}
        self._changed = False

    @property
    def revision(self) -> int:
        return len(self.states) - 1

    @property
    def state(self) -> State:
        return self.states[-1]

    def apply(self, wish: Wish) -> Answer:
        """One command of the log, and what must be answered."""
        self._next, self._changed = dict(self.state), False
        try:
            answer = self._apply(wish)
        except _Refused as refused:
            return (REFUSED, str(refused))
        if self._changed:
            self.states.append(self._next)
        return ("ok", self.revision, *answer)

    def changes_at(self, revision: int) -> tuple[tuple[str, Item | None], ...]:
        """What it changed, by key; None: deleted."""
        before, after = self.states[revision - 1], self.states[revision]
        keys = sorted({*before, *after})
        return tuple((key, after.get(key)) for key in keys if before.get(key) != after.get(key))

    def _apply(self, wish: Wish) -> tuple[Any, ...]:
        match wish:
            case Put():
                self._put(wish)
            case Delete():
                return (self._delete(wish),)
            case Txn():
                return self._txn(wish)
            case Compact(revision):
                self._compact(revision)
            case Grant(lease):
                _require(lease not in self.leases, LEASE_EXISTS.text)
                self.leases.add(lease)
            case Revoke(lease):
                _require(lease in self.leases, LEASE_NOT_FOUND.text)
                self._end((lease,))
            case Expire(term, leases):
                if term >= self.lease_term:
                    self._end(leases)
            case TakeOver(term):
                self.lease_term = max(self.lease_term, term)
            case Get():
                raise AssertionError("a read does not enter the log")
        return ()

    # ------------------------------------------------------------------------------------------------ keys

    def _put(self, wish: Put) -> None:
        _require(not wish.lease or wish.lease in self.leases, LEASE_NOT_FOUND.text)
        before, revision = self._next.get(wish.key), self.revision + 1
        create, version = (before.create, before.version + 1) if before is not None else (revision, 1)
        self._next[wish.key] = Item(wish.value, create, revision, version, wish.lease)
        self._changed = True

    def _delete(self, wish: Delete) -> int:
        keys = [key for key in self._next if is_in(key, wish.first, wish.behind)]
        for key in keys:
            del self._next[key]
        self._changed = self._changed or bool(keys)
        return len(keys)

    def _txn(self, wish: Txn) -> tuple[Any, ...]:
        item = self.state.get(wish.key)
        succeeded = (item.mod if item is not None else 0) == wish.mod
        ops = wish.then if succeeded else wish.otherwise
        for op in ops:
            if isinstance(op, Get):
                self._require_readable(op.revision)
        return (succeeded, tuple(map(self._op, ops)))

    def _op(self, op: Put | Delete | Get) -> Any:
        match op:
            case Put():
                self._put(op)
                return "put"
            case Delete():
                return self._delete(op)
            case Get():
                return found_in(self.states[op.revision] if op.revision else self._next, op.first, op.behind)

    # ------------------------------------------------------------------------------------------------ revisions, leases

    def _require_readable(self, revision: int) -> None:
        if revision:
            _require(revision <= self.revision, FUTURE_REVISION.text)
            _require(revision >= self.compacted, COMPACTED.text)

    def _compact(self, revision: int) -> None:
        _require(revision > self.compacted, COMPACTED.text)
        _require(revision <= self.revision, FUTURE_REVISION.text)
        self.compacted = revision
        self.compactions.append((revision, self.revision))

    def _end(self, leases: tuple[int, ...]) -> None:
        ending = self.leases & {*leases}
        self.leases -= ending
        for key in [key for key, item in self._next.items() if item.lease in ending]:
            del self._next[key]
            self._changed = True


def is_in(key: str, first: str, behind: str) -> bool:
    return first <= key < behind if behind else key == first


def found_in(state: State, first: str, behind: str) -> tuple[tuple[str, Item], ...]:
    return tuple((key, state[key]) for key in sorted(state) if is_in(key, first, behind))


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise _Refused(text)
