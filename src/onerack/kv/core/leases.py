"""Leases: who holds which keys, and for how long it was granted.

The idea: when a lease ends is a question of clocks, and clocks differ. So nothing here knows the time: the leader
counts the seconds outside, and when it holds a lease for expired it says so through the log, as everything else is
said. What is replicated is only which leases exist, what time they were granted, and the keys attached to them.

The rules:
- a key is attached to at most one lease: the one that its newest version names;
- an expiry that an earlier leader has said does not count any more once a later one has taken the leases over: it
  may have renewed them since (`term`).

Source: Gray & Cheriton 1989; the lease API of etcd v3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from onerack.config import KvConfig
from onerack.kv.core.errors import LEASE_EXISTS, LEASE_NOT_FOUND, LEASE_TTL_TOO_LARGE, Refused
from onerack.kv.core.version import Version

NO_LEASE: Final = 0


class Lease(msgspec.Struct, eq=False):
    """A promise to keep some keys for a time."""

    id: int
    ttl_s: int
    """As granted."""
    keys: dict[bytes, None] = {}
    """A set that remembers an order, so that it is the same on every node."""


class Leases:
    """All leases that exist."""

    def __init__(self, config: KvConfig) -> None:
        self.by_id: dict[int, Lease] = {}
        self.granted = 0
        """How many ids were drawn."""
        self.term = 0
        """Of the last leader that has taken the leases over."""
        self._config = config

    def __contains__(self, lease: int) -> bool:
        return lease in self.by_id

    def grant(self, wanted_id: int, ttl_s: int) -> Lease:
        """A new lease. Raises: Refused: its id is taken, or it is too long."""
        if ttl_s > self._config.lease_ttl_s_max:
            raise Refused(LEASE_TTL_TOO_LARGE)
        if wanted_id in self.by_id:
            raise Refused(LEASE_EXISTS)
        lease = Lease(wanted_id or self._fresh_id(), max(ttl_s, self._config.lease_ttl_s_min), {})
        self.by_id[lease.id] = lease
        return lease

    def get(self, lease: int) -> Lease:
        """Raises: Refused: there is none of this id."""
        found = self.by_id.get(lease)
        if found is None:
            raise Refused(LEASE_NOT_FOUND)
        return found

    def end(self, lease: int) -> list[bytes]:
        """The lease is over: its keys, sorted, which have to go in one revision."""
        return sorted(self.by_id.pop(lease).keys)

    def take_over(self, term: int) -> None:
        """The leader of `term` begins to count: what earlier leaders may still say of expiry is void."""
        self.term = max(self.term, term)

    def move(self, key: bytes, before: int, after: int) -> None:
        """The newest version of the key names another lease than the one before."""
        if before:
            lease = self.by_id.get(before)
            if lease is not None:
                lease.keys.pop(key, None)
        if after:
            self.by_id[after].keys[key] = None

    def restore(self, granted: int, term: int, leases: list[tuple[int, int]], versions: Iterable[Version]) -> None:
        """As of a snapshot: `leases` are (id, granted TTL), `versions` the newest of each key."""
        self.granted, self.term = granted, term
        self.by_id = {number: Lease(number, ttl_s, {}) for number, ttl_s in leases}
        for version in versions:
            if version.lease:
                self.by_id[version.lease].keys[version.key] = None

    def _fresh_id(self) -> int:
        """The same on every node, and not guessed by looking at the last one; never one that is taken."""
        while True:
            self.granted += 1
            digest = hashlib.blake2b(self.granted.to_bytes(8, "little"), digest_size=8, person=b"lease").digest()
            number = int.from_bytes(digest, "little") >> 1
            if number != NO_LEASE and number not in self.by_id:
                return number
