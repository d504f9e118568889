"""Clients of the store: what they wish for, and the book in which all of it is written down.

The idea: as clients of raft's own schedules (sessions, attempts, giving up), with wishes that meet each other: few
keys, transactions that compare what was seen last, old revisions, compactions just behind the present, leases that end.

The rule: keys beginning with r are only put, deleted and read one by one, so that the search for a linearization
understands them; t keys are changed by transactions and ranges, l keys belong to leases.
"""

from __future__ import annotations

from typing import Any

import msgspec

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
    answer_of,
    encode,
)
from onerack.sim.raft.clients import SimClient
from onerack.sim.raft.requests import Request

REGISTERS = ("r0", "r1")
TRANSACTED = ("t0", "t1", "t2")
LEASED = ("l0", "l1")
EVERYTHING = Get("a", "z")


class Done(msgspec.Struct):
    """One wish, and what is known of it."""

    session: str
    number: int
    wish: Wish
    call: int
    end: int | None = None
    answer: Answer = ()


class Book:
    """What all clients did."""

    def __init__(self) -> None:
        self.by_id: dict[tuple[str, int], Done] = {}

    def __len__(self) -> int:
        return len(self.by_id)


class KvClient(SimClient):
    def __init__(self, around: Any, name: str, chance: Any) -> None:
        super().__init__(around, name, chance)
        self._book: Book = around.book
        self._wish: Wish = EVERYTHING
        self._revision = 1
        """The newest that was seen."""
        self._items: dict[str, Item] = {}
        """What was last seen of a key."""
        self._leases: list[int] = []
        self._granted = 0

    # ------------------------------------------------------------------------------------------------ the workload

    def go_on(self) -> None:
        if self._request is None and self.left > 0:
            self.left -= 1
            self.wish(self._draw())

    def wish(self, wish: Wish) -> None:
        self._wish = wish
        self.begin("read" if isinstance(wish, Get) else "change", "", encode(wish))

    def _draw(self) -> Wish:
        if self._chance.random() < self.around.options.reads:
            return self._draw_read()
        kind = self._chance.choices(("put", "delete", "txn", "compact", "lease"), (6, 3, 6, 1, 7))[0]
        match kind:
            case "put":
                return self._put(self._chance.choice((*REGISTERS, *TRANSACTED, *LEASED)))
            case "delete":
                return self._draw_delete()
            case "txn":
                return self._draw_txn()
            case "compact":
                return Compact(max(1, self._revision - self._chance.choice([0, 0, 1, 3])))
            case _:
                return self._draw_lease()

    def _draw_read(self) -> Get:
        past = self._chance.random() < 0.3
        revision = max(1, self._revision - self._chance.choice([0, 1, 2, 5])) if past else 0
        if self._chance.random() < 0.5:
            return Get(self._chance.choice(REGISTERS), "", revision)
        return self._chance.choice([Get("a", "z", revision), Get("t0", "t9", revision)])

    def _draw_delete(self) -> Delete:
        if self._chance.random() < 0.6:
            return Delete(self._chance.choice((*REGISTERS, *TRANSACTED)))
        return self._chance.choice([Delete("t0", "t2"), Delete("t0", "t9")])

    def _draw_txn(self) -> Txn:
        """Two keys together, if nobody was faster; else a look at them, maybe at an older revision."""
        key = self._chance.choice(TRANSACTED)
        item = self._items.get(key)
        one, other = self._chance.sample(TRANSACTED, 2)
        then: tuple[Any, ...] = (self._put(one), self._put(other))
        if self._chance.random() < 0.4:
            then = (Delete(one), self._put(other), Get("t0", "t9"))
        old = max(1, self._revision - self._chance.choice([0, 1, 3]))
        otherwise = (Get("t0", "t9", self._chance.choice([0, old])),)
        return Txn(key, item.mod if item is not None else 0, then, otherwise)

    def _draw_lease(self) -> Wish:
        if not self._leases or self._chance.random() < 0.2:
            self._granted += 1
            lease = int(self.name[1:]) * 1000 + self._granted
            self._leases.append(lease)
            return Grant(lease)
        lease = self._chance.choice(self._leases)
        draw = self._chance.random()
        if draw < 0.5:
            return self._put(self._chance.choice(LEASED), lease)
        if draw < 0.6:
            return TakeOver(self._chance.randint(1, 5))
        if draw < 0.8:
            return Revoke(lease)
        return Expire(self._chance.randint(1, 5), tuple(sorted({lease, *self._leases[:1]})))

    def _put(self, key: str, lease: int = 0) -> Put:
        return Put(key, f"v{self.around.next_value()}", lease)

    # ------------------------------------------------------------------------------------------------ the book

    def _note_begun(self, request: Request) -> None:
        now = self.around.world.now_ns
        self._book.by_id[request.session, request.number] = Done(request.session, request.number, self._wish, now)

    def _note_ended(self, request: Request, result: Any) -> None:
        done = self._book.by_id[request.session, request.number]
        done.end, done.answer = self.around.world.now_ns, answer_of(done.wish, result)
        if done.answer[0] == REFUSED:
            return
        self._revision = max(self._revision, done.answer[1])
        if isinstance(done.wish, Get) and not done.wish.revision:
            found = dict(done.answer[2])
            if done.wish.behind:
                self._items = {key: found[key] for key in TRANSACTED if key in found}
