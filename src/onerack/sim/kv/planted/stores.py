"""Planted bugs of keys, revisions, compaction and leases; some were etcd's."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from onerack.kv.core import KvMachine
from onerack.kv.core.errors import FUTURE_REVISION, Refused
from onerack.kv.core.leases import Leases
from onerack.kv.core.store import Store
from onerack.kv.core.version import Version
from onerack.sim.kv.kit import KvKit
from onerack.sim.kv.machine import SimKvMachine
from onerack.sim.kv.planted.kits import WrongMachine, WrongStore, plant


@plant
class CompactedRevisionsAreRead(WrongStore):
    """A read at a compacted revision shows what happens to be left of it (etcd 18667)."""

    class WrongStore(Store):
        def check_readable(self, revision: int) -> None:
            if revision > self.revision:
                raise Refused(FUTURE_REVISION)


@plant
class CompactionTakesOneVersionTooMany(WrongStore):
    """Of each key the version goes, too, that a read at the compacted revision should see."""

    class WrongStore(Store):
        def _prune(self, key: bytes, floor: int) -> None:
            earlier = self.history.get(key, [])
            newest = self.current.get(key)
            super()._prune(key, floor)
            if newest is not None and newest.mod > floor and (left := self.history.get(key)):
                cut = bisect_right(left, floor, key=_mod)
                self.size_bytes -= sum(version.size for version in earlier[:cut])
                del left[:cut]
                if not left:
                    del self.history[key]


def _mod(version: Version) -> int:
    return version.mod


@plant
class CompactionDoesNotWaitForWatches(WrongStore):
    """The log is swept although somebody has still to be told of it (etcd 18089)."""

    class WrongStore(Store):
        @property
        def _floor(self) -> int:
            return self.compacted


@plant
class OldRevisionsShowThePresent(WrongStore):
    """A read at an old revision shows keys that were changed since as they are now."""

    class WrongStore(Store):
        def at(self, key: bytes, revision: int) -> Version | None:
            version = super().at(key, revision)
            return self.now(key) if version is not None else None


@plant
class DeletedKeysComeBackOld(WrongStore):
    """A key that is put after its deletion goes on counting its versions."""

    class WrongStore(Store):
        def put(self, key: bytes, value: bytes, lease: int, revision: int) -> Version:
            earlier = self.history.get(key)
            new = super().put(key, value, lease, revision)
            if earlier and new.version == 1 and earlier[0].version:
                first = earlier[0]
                new = self.current[key] = Version(key, value, first.create, revision, first.version + 1, lease)
            return new


@plant
class RevisionsFallWithASnapshot(WrongMachine):
    """Who is restored has the revision of its newest key, though a deletion came after it (etcd 17780)."""

    class Wrong(KvMachine):
        def restore(self, pieces: Iterator[bytes]) -> None:
            super().restore(pieces)
            store = self.store
            newest = max((store.current[key].mod for key in store.live), default=store.revision)
            cut = max(newest - store.first_logged + 1, 0)
            if newest < store.revision and store.first_logged <= newest:
                del store.log[cut:]
                store.revision = newest


@plant
class SnapshotsForgetTheCompaction(WrongMachine):
    """Who is restored answers reads of revisions that are gone."""

    class Wrong(KvMachine):
        def restore(self, pieces: Iterator[bytes]) -> None:
            super().restore(pieces)
            self.store.compacted = -1


@plant
class SnapshotsForgetTheKeysOfLeases(WrongMachine):
    """Who is restored knows the leases, and no key that is attached to them."""

    class Wrong(KvMachine):
        def restore(self, pieces: Iterator[bytes]) -> None:
            super().restore(pieces)
            for lease in self.leases.by_id.values():
                lease.keys.clear()


@plant
class SnapshotsForgetWhoLeads(WrongMachine):
    """Who is restored takes the word of an earlier leader on what has expired."""

    class Wrong(KvMachine):
        def restore(self, pieces: Iterator[bytes]) -> None:
            super().restore(pieces)
            self.leases.term = 0


@plant
class AnyLeaderEndsLeases(WrongStore):
    """Expiry counts though a later leader has taken the leases over, and may have renewed them."""

    class WrongLeases(Leases):
        def take_over(self, term: int) -> None:
            return


@plant
class KeysStayWithTheirOldLease(WrongStore):
    """A key that is put without a lease, or with another one, still goes with the old one."""

    class WrongLeases(Leases):
        def move(self, key: bytes, before: int, after: int) -> None:
            super().move(key, 0, after)


@plant
class PlainPutsKeepTheLease(WrongMachine):
    """The fast way of a put does not look whether the key had a lease."""

    class Wrong(KvMachine):
        def _put_plain(self, key: bytes, value: bytes, wanted: bool) -> bytes | None:
            before = self.store.current.get(key)
            lease = before.lease if before is not None else 0
            answer = super()._put_plain(key, value, wanted)
            self.leases.move(key, 0, lease if lease in self.leases else 0)
            return answer


@plant
class RefusedTransactionsTakeARevision(WrongMachine):
    """A command that changed nothing is counted (etcd 13766: revisions that differ)."""

    class Wrong(KvMachine):
        def _apply(self, command: bytes) -> bytes:
            try:
                return super()._apply(command)
            except Refused:
                self.store.revision += 1
                self.store.log.append(())
                raise


@plant
class RetriesAfterASnapshotRunAgain(KvKit):
    """A snapshot holds no sessions, so that a write which comes again after it takes effect again."""

    class Wrong(SimKvMachine):
        def restore(self, snapshot: bytes) -> None:
            super().restore(snapshot)
            self.sessions.clear()

    machine = Wrong
