"""The judge of a round: can the store have behaved so?

    log         every revision has one owner: a write whose answer says so, or one whose answer was lost, or a kv lease
                that was over. Nothing that was refused is in it; everything that was acknowledged is, where it was said
    revisions   that log explains every read, and every watch was told all of it, once, in order (sim.checker)
    keys        each key by itself is a register, as clients saw it: the search of Wing, Gong and Lowe (sim.checker)
    leases      no key went before the time of its lease was over

The idea: the log that one watch was told is only a claim. What clients were told is held against it from every side,
and a key's history is also searched without it.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from onerack.sim.checker import REGISTER, Read, Watch, Write, check_linearizable, check_revisions
from onerack.sim.checker import Operation as Step
from tests.faults.clients import Operation, Record


class Wrong(AssertionError):
    """The store has done what it must not do."""


class Round:
    """One record, with the writes of earlier rounds whose answers were lost: they may come late."""

    def __init__(self, record: Record, pending: list[Operation]) -> None:
        self.record = record
        self.pending = [*pending, *(each for each in record.operations if is_open(each))]
        """Writes without an answer; after `judge` those of which the log knows nothing yet."""
        self._owners: dict[int, Operation] = {}
        """Of each revision of the log that has one."""
        self._by_value = {
            value: each for each in (*pending, *record.operations) for _, value in each.changes if value is not None
        }
        self._acknowledged = {each.revision: each for each in record.operations if is_change(each)}

    def judge(self) -> None:
        """Raises: Wrong."""
        self._find_owners()
        self._check_acknowledged()
        verdict = check_revisions(list(self._writes()), self._reads(), self._watches())
        if not verdict.is_good:
            raise Wrong(str(verdict))
        self._check_leases()
        verdict = check_linearizable(self._steps(), REGISTER)
        if not verdict.is_good:
            raise Wrong(str(verdict))
        taken = set(map(id, self._owners.values()))
        self.pending = [each for each in self.pending if id(each) not in taken]

    # ------------------------------------------------------------------------------------------------ the log

    def _find_owners(self) -> None:
        record, given = self.record, set[int]()
        for revision, changes in record.log.told:
            if not changes or revision > record.last:
                continue
            values = [value for _, value in changes if value is not None]
            owner = self._by_value.get(values[0]) if values else self._deleter(revision, changes, given)
            if owner is None and not values and all(key.startswith(record.prefix + "lease/") for key, _ in changes):
                continue  # A lease was over. When, is looked at below.
            if owner is None:
                raise Wrong(f"nobody has written revision {revision}: {changes}")
            if tuple(sorted(owner.changes)) != changes:
                raise Wrong(f"revision {revision} is not as it was asked for: {changes} of {owner}")
            if owner.was_refused:
                raise Wrong(f"what was refused was executed, at revision {revision}: {owner}")
            if owner.end is not None and owner.revision != revision:
                raise Wrong(f"what was executed at {owner.revision} is in the log at {revision}: {owner}")
            if id(owner) in given:
                raise Wrong(f"what was asked for once was executed twice, again at {revision}: {owner}")
            given.add(id(owner))
            self._owners[revision] = owner

    def _deleter(self, revision: int, changes: object, given: set[int]) -> Operation | None:
        known = self._acknowledged.get(revision)
        if known is not None:
            return known
        fits = (each for each in self.pending if tuple(sorted(each.changes)) == changes and id(each) not in given)
        return next(fits, None)

    def _check_acknowledged(self) -> None:
        for revision, operation in self._acknowledged.items():
            if self._owners.get(revision or 0) is not operation:
                raise Wrong(f"an acknowledged write is lost: {operation}")

    # ------------------------------------------------------------------------------------------------ all keys at once

    def _placed(self, revision: int) -> int:
        """For the checker a store begins at revision 1."""
        return revision - self.record.base + 1

    def _writes(self) -> Iterator[Write]:
        leases = {each.key: each for each in self.record.leases.values()}
        for revision, changes in self.record.log.told:
            if changes and revision <= self.record.last:
                owner = self._owners.get(revision)
                call = leases[changes[0][0]].since if owner is None else owner.call
                yield Write(self._placed(revision), changes, call, None if owner is None else owner.end)

    def _reads(self) -> Iterator[Read]:
        for read in self.record.reads:
            if read.revision <= self.record.last:
                at = None if read.at_revision is None else self._placed(read.at_revision)
                yield replace(read, revision=self._placed(read.revision), at_revision=at)

    def _watches(self) -> Iterator[Watch]:
        last = self.record.last
        for each in self.record.watchers:
            told = tuple((self._placed(revision), changes) for revision, changes in each.told if revision <= last)
            yield Watch(each.first, each.behind, self._placed(each.start), told, closed=True)

    # ------------------------------------------------------------------------------------------------ key by key

    def _steps(self) -> Iterator[Step]:
        """A write without an answer that is in the log has happened by the end of the round; else it never did."""
        end = max([each.end or 0 for each in self.record.operations], default=0)
        known = set(map(id, self._owners.values()))
        for each in self.record.operations:
            if each.was_refused or (each.end is None and id(each) not in known):
                continue
            if each.kind == "get":
                key, value = each.result
                yield Step(each.client, key, "read", None, value, each.call, each.end)
            for key, value in each.changes:
                if each.kind == "cas":
                    result = True if each.end is None else each.result
                    yield Step(each.client, key, "cas", (each.expected, value), result, each.call, each.end or end)
                elif "/lease/" not in key:
                    yield Step(each.client, key, "write", value, None, each.call, each.end or end)

    # ------------------------------------------------------------------------------------------------ leases

    def _check_leases(self) -> None:
        leases = {each.key: each for each in self.record.leases.values()}
        for watcher in self.record.watchers:
            for (revision, changes), told_at in zip(watcher.told, watcher.told_at, strict=True):
                for key, value in changes:
                    lease = leases.get(key)
                    if value is None and lease is not None and told_at < lease.since + lease.ttl_s * 10**9:
                        early = (lease.since - told_at) / 1e9 + lease.ttl_s
                        raise Wrong(f"{key} went {early:.3f} s before its lease was over, at revision {revision}")


def is_open(operation: Operation) -> bool:
    """A write without an answer."""
    return bool(operation.changes) and operation.end is None and not operation.was_refused


def is_change(operation: Operation) -> bool:
    """A write whose answer says that it has changed something."""
    return bool(operation.changes) and operation.end is not None and operation.result is not False
