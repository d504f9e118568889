"""Random requests about keys and leases: few keys, so that they meet, and every option of every request.

Not asked is what etcd 3.4 does wrongly: to sort by what is no field, of which a node dies, and to read what is not
there, compacted or in the future, in a transaction that writes: it refuses that, and yet has done half of it.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

from onerack.kv.messages import LIBRARY
from tests.kv.server.beside.sides import Step

KEYS: Final = (b"a", b"aa", b"ab", b"b", b"b/1", b"b/2", b"c", b"\x00", b"\xff", b"k\x00", b"b/")
_ENDS: Final = (b"", b"", b"\0", b"b0", b"\xff\xff", *KEYS)
LEASES: Final = (1, 2, 3, 4, 7_000_000_000_000_000_001)
LONG_S: Final = 5000
"""Leases that are not to end while it lasts."""
_DEPTH_MAX: Final = 3


class KeyRequests:
    """Draws the next request, given the store's revision."""

    def __init__(self, random: Random, for_users: bool = False) -> None:
        """`for_users`: nothing for which etcd forgets to look at permissions: transactions inside transactions,
        previous values of puts inside them, the keys of a lease."""
        self._random = random
        self._for_users = for_users
        self._only_reads = False

    def draw(self, revision: int, user: str = "") -> Step:
        random, for_users = self._random, self._for_users
        kinds: list[tuple[int, str, Callable[[int], dict[str, Any]]]] = [
            (25, "Range", self.range),
            (25, "Put", self.put),
            (10, "DeleteRange", self.delete),
            (25, "Txn", self.txn),
            (2, "Compact", self.compact),
            (4, "LeaseGrant", self.lease_grant),
            (2, "LeaseRevoke", lambda _: {"ID": self.lease()}),
            (3, "LeaseTimeToLive", lambda _: {"ID": self.lease(), "keys": not for_users and random.random() < 0.7}),
            (1, "LeaseLeases", lambda _: {}),
        ]
        _, method, fields = random.choices(kinds, [weight for weight, *_ in kinds])[0]
        return Step(method, fields(revision), random.randrange(3), user)

    # ------------------------------------------------------------------------------------------------ pieces

    def key(self) -> bytes:
        return b"" if self._random.random() < 0.02 else self._random.choice(KEYS)

    def end(self) -> bytes:
        return self._random.choice(_ENDS)

    def lease(self) -> int:
        return self._random.choice((0, 99, *LEASES))

    def at(self, revision: int) -> int:
        """A revision: mostly one that is there; also one that is compacted, or that nobody knows yet."""
        return self._random.choice((revision, *(max(0, revision - self._random.randrange(12)),) * 3, revision + 2, -1))

    def _maybe(self, chance: float, **fields: Any) -> dict[str, Any]:
        return fields if self._random.random() < chance else {}

    # ------------------------------------------------------------------------------------------------ requests

    def range(self, revision: int) -> dict[str, Any]:
        maybe, random = self._maybe, self._random
        return {
            "key": self.key(),
            "range_end": self.end(),
            **maybe(0.3, revision=self.at(revision)),
            **maybe(0.3, limit=random.choice((-1, 1, 2, 3, 100))),
            **maybe(0.3, sort_order=random.choice((0, 1, 2, 2, 3))),
            **maybe(0.3, sort_target=random.choice((0, 1, 2, 3, 4))),
            **maybe(0.2, keys_only=True),
            **maybe(0.15, count_only=True),
            **maybe(0.1, min_mod_revision=self.at(revision)),
            **maybe(0.1, max_mod_revision=self.at(revision)),
            **maybe(0.1, min_create_revision=self.at(revision)),
            **maybe(0.1, max_create_revision=self.at(revision)),
            **maybe(0.2, serializable=True),
        }

    def put(self, revision: int) -> dict[str, Any]:
        maybe, random = self._maybe, self._random
        return {
            "key": self.key(),
            **maybe(0.9, value=random.choice((b"", b"1", b"2", b"x" * random.randrange(40)))),
            **maybe(0.3, lease=self.lease()),
            **maybe(0.3, prev_kv=True),
            **maybe(0.08, ignore_value=True),
            **maybe(0.08, ignore_lease=True),
        }

    def delete(self, revision: int) -> dict[str, Any]:
        return {"key": self.key(), **self._maybe(0.5, range_end=self.end()), **self._maybe(0.4, prev_kv=True)}

    def compact(self, revision: int) -> dict[str, Any]:
        return {"revision": self.at(revision), **self._maybe(0.3, physical=True)}

    def lease_grant(self, revision: int) -> dict[str, Any]:
        ttl_s = self._random.choice((*(LONG_S,) * 8, 9_000_000_000, 9_000_000_001))
        return {"ID": self._random.choice(LEASES), "TTL": ttl_s}

    # ------------------------------------------------------------------------------------------------ transactions

    def txn(self, revision: int, depth: int = 0) -> dict[str, Any]:
        random = self._random
        if not depth:
            self._only_reads = random.random() < 0.25
        few = (0, 1, 1, 2) if depth else (0, 1, 1, 2, 3)
        return {
            "compare": [self.compare(revision) for _ in range(random.choice((0, 0, 1, 2)))],
            "success": [self.op(revision, depth) for _ in range(random.choice(few))],
            "failure": [self.op(revision, depth) for _ in range(random.choice(few))],
        }

    def compare(self, revision: int) -> Any:
        random = self._random
        target = random.choice((0, 1, 2, 3, 4))
        union: dict[str, Any] = (
            {"version": random.randrange(4)},
            {"create_revision": random.choice((0, self.at(revision)))},
            {"mod_revision": random.choice((0, self.at(revision)))},
            {"value": random.choice((b"", b"1", b"2"))},
            {"lease": self.lease()},
        )[target if random.random() < 0.97 else random.randrange(5)]
        end = self._maybe(0.3, range_end=self.end())
        return LIBRARY["Compare"](result=random.choice((0, 0, 1, 2, 3)), target=target, key=self.key(), **union, **end)

    def op(self, revision: int, depth: int) -> Any:
        random, operation = self._random, LIBRARY["RequestOp"]
        kind = random.random()
        if self._only_reads:
            kind = random.choice((0.0, 0.0, 0.9))
        if kind < 0.3:
            asked = self.range(revision)
            if not self._only_reads and "revision" in asked:
                asked["revision"] = random.choice((0, revision))
            return operation(request_range=LIBRARY["RangeRequest"](**asked))
        if kind < 0.65:
            fields = self.put(revision)
            if self._for_users:
                fields.pop("prev_kv", None)
            return operation(request_put=LIBRARY["PutRequest"](**fields))
        if kind < 0.8:
            return operation(request_delete_range=LIBRARY["DeleteRangeRequest"](**self.delete(revision)))
        if kind < 0.98 and depth < _DEPTH_MAX and not self._for_users:
            return operation(request_txn=LIBRARY["TxnRequest"](**self.txn(revision, depth + 1)))
        return operation()
