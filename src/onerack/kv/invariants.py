"""What must hold of a store at any moment, and from one moment to the next.

    of one state     index_equals_history  order_is_kept  lives_are_contiguous  log_is_contiguous  log_is_the_history
                     size_is_the_sum  leases_agree
    of two states    revision_rises_by_one  refused_changes_nothing  compaction_only_rises

The idea: the store keeps the same facts in several places, for speed: versions by key and by revision, live keys in
order, keys by lease, a running sum of the size. Each of these is counted again here, from the plainest of them.

The rule: these functions are slow and simple. The simulator calls them after each step, tests after each command.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from onerack.errors import uphold
from onerack.kv.core.machine import KvMachine
from onerack.kv.core.store import Store
from onerack.kv.core.version import Version


class Moment(msgspec.Struct, frozen=True):
    """What a later state is compared with."""

    revision: int
    compacted: int
    hash_kv: int
    leases: tuple[tuple[int, int, tuple[bytes, ...]], ...]
    auth_revision: int


def moment_of(machine: KvMachine) -> Moment:
    leases = tuple((lease.id, lease.ttl_s, tuple(sorted(lease.keys))) for lease in machine.leases.by_id.values())
    store = machine.store
    return Moment(store.revision, store.compacted, machine.hash_kv(), leases, machine.auth.state.revision)


def check_state(machine: KvMachine) -> None:
    """Everything that must hold of one state. Raises: InvariantBroken."""
    store = machine.store
    index_equals_history(store)
    order_is_kept(store)
    for key in sorted(store.current):
        lives_are_contiguous(store, key)
    log_is_contiguous(store)
    log_is_the_history(store)
    size_is_the_sum(store)
    leases_agree(machine)


def check_step(before: Moment, machine: KvMachine, refused: bool) -> None:
    """Everything that must hold between two states with one command between them. Raises: InvariantBroken."""
    after = moment_of(machine)
    uphold(
        after.revision - before.revision in (0, 1),
        "revision_rises_by_one",
        f"from {before.revision} to {after.revision} in one command",
    )
    uphold(
        after.compacted >= before.compacted,
        "compaction_only_rises",
        f"from {before.compacted} to {after.compacted}",
    )
    if refused:
        uphold(after == before, "refused_changes_nothing", f"from {before} to {after}")


# ------------------------------------------------------------------------------------------------ of one state


def index_equals_history(store: Store) -> None:
    """Each key that has a past has a present, and the present is newer."""
    for key in sorted(store.history):
        earlier = store.history[key]
        uphold(bool(earlier), "index_equals_history", f"{key!r} has an empty past")
        uphold(key in store.current, "index_equals_history", f"{key!r} has a past and no present")
    for key in sorted(store.current):
        versions = store.versions_of(key)
        numbers = [version.mod for version in versions]
        uphold(numbers == sorted(numbers), "index_equals_history", f"{key!r}: revisions {numbers}")
        uphold(all(version.key == key for version in versions), "index_equals_history", f"{key!r} holds another key")
        uphold(numbers[-1] <= store.revision, "index_equals_history", f"{key!r} is of the future: {numbers[-1]}")


def order_is_kept(store: Store) -> None:
    """The ordered lists are the keys of the index: `live` those that exist, `dead` the others."""
    live = sorted(key for key, version in store.current.items() if version.version)
    dead = sorted(key for key, version in store.current.items() if not version.version)
    uphold(list(store.live) == live, "order_is_kept", f"live keys {list(store.live)[:9]}, index {live[:9]}")
    uphold(list(store.dead) == dead, "order_is_kept", f"dead keys {list(store.dead)[:9]}, index {dead[:9]}")


def lives_are_contiguous(store: Store, key: bytes) -> None:
    """A life begins with version 1 at its create revision, and counts on; a tombstone ends it."""
    previous: Version | None = None
    for version in store.versions_of(key):
        if version.version > 1 and previous is not None:
            uphold(
                previous.version == version.version - 1 and previous.create == version.create,
                "lives_are_contiguous",
                f"{key!r}: {version} follows {previous}",
            )
        elif version.version == 1:
            uphold(version.create == version.mod, "lives_are_contiguous", f"{key!r} begins with {version}")
            uphold(previous is None or not previous.version, "lives_are_contiguous", f"{key!r} begins twice")
        elif not version.version:
            uphold(
                previous is None or previous.version > 0, "lives_are_contiguous", f"{key!r} is deleted twice: {version}"
            )
        previous = version


def log_is_contiguous(store: Store) -> None:
    """From `first_logged` to the present each revision is there, and has changed something."""
    end = store.first_logged + len(store.log)
    uphold(end == store.revision + 1, "log_is_contiguous", f"it ends before {end}, the revision is {store.revision}")
    floor = max(store.compacted, 2)
    uphold(store.first_logged <= floor, "log_is_contiguous", f"it begins at {store.first_logged}, wanted: {floor}")
    for revision in range(store.first_logged, store.revision + 1):
        changes = store.changes_of(revision)
        uphold(bool(changes), "log_is_contiguous", f"revision {revision} has changed nothing")
        wrong = [version for version in changes if version.mod != revision]
        uphold(not wrong, "log_is_contiguous", f"revision {revision} holds {wrong}")


def log_is_the_history(store: Store) -> None:
    """What the log says of a key behind the compacted revision is what its own history says."""
    by_key: dict[bytes, list[Version]] = {}
    for version in _logged_behind(store, store.compacted):
        by_key.setdefault(version.key, []).append(version)
    for key in sorted(store.current):
        own = [version for version in store.versions_of(key) if version.mod > store.compacted]
        logged = by_key.pop(key, [])
        uphold(_same(own, logged), "log_is_the_history", f"{key!r}: log {logged}, history {own}")
    uphold(not by_key, "log_is_the_history", f"the log has keys that the index has not: {sorted(by_key)[:9]}")


def size_is_the_sum(store: Store) -> None:
    size = sum(version.size for key in sorted(store.current) for version in store.versions_of(key))
    uphold(size == store.size_bytes, "size_is_the_sum", f"it is {size}, the estimate says {store.size_bytes}")


def leases_agree(machine: KvMachine) -> None:
    """A lease has the keys whose newest version names it, and no others; each named lease exists."""
    named: dict[int, set[bytes]] = {lease: set() for lease in machine.leases.by_id}
    for key, version in machine.store.current.items():
        if version.lease:
            uphold(version.lease in named, "leases_agree", f"{key!r} names lease {version.lease}, which is not there")
            named[version.lease].add(key)
    for number, lease in machine.leases.by_id.items():
        uphold(lease.id == number, "leases_agree", f"lease {number} calls itself {lease.id}")
        uphold(
            set(lease.keys) == named[number],
            "leases_agree",
            f"lease {number} has {sorted(lease.keys)[:9]}, named by {sorted(named[number])[:9]}",
        )


def _logged_behind(store: Store, revision: int) -> Iterator[Version]:
    for logged in range(max(store.first_logged, revision + 1), store.revision + 1):
        yield from store.changes_of(logged)


def _same(some: list[Version], others: list[Version]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))
