"""The multi-version store: every state of every key since the last compaction, under revisions.

    current   key -> its newest version, a tombstone if it is deleted
    history   key -> its earlier versions, oldest first; only for keys that have any
    live      the keys that exist now, in order; `dead`: those that are deleted, but remembered
    log       what each revision has changed, from `first_logged` on

The idea: most reads want the present, so the present costs one look into a dictionary, and to count a range two
bisections. The past is found by bisection in a key's own history. The log is the same versions in the order in which
they were made: watches read it from any revision on, and a snapshot is nothing but what lies before the log, and the
log.

The rules:
- the revision is 1 when nothing was ever written; a writing command adds exactly one, whatever it changes;
- what is compacted is unreadable at once. It is swept away later, a little with each command, and not while somebody
  walks: so neither a compaction nor a snapshot of a million keys stops the writes;
- the log keeps the compacted revision itself, deletions too: a watch may begin there.

Source: the data model of etcd v3; Reed 1978 for the idea of versions that are never overwritten.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Final, TypeVar

from sortedcontainers import SortedList

from onerack.errors import check
from onerack.kv.core.errors import COMPACTED, FUTURE_REVISION, Refused
from onerack.kv.core.version import VERSION_BYTES, Version

NEVER: Final = -1
"""The compacted revision of a store that was never compacted."""
FIRST_REVISION: Final = 1
SWEPT_PER_COMMAND: Final = 64
SLICE: Final = 1024
"""Keys or versions that a walker looks at between two pauses."""
EVERYTHING: Final = b""
"""As the end of a range: there is none."""

_Slice = TypeVar("_Slice")
_mod: Final[Callable[[Version], int]] = attrgetter("mod")

End = bytes | None
"""Of a range: None: it is one key; EVERYTHING: all from there on; else the first key that is not in it."""


def end_of(range_end: bytes) -> End:
    """The field `range_end` of a request."""
    if not range_end:
        return None
    return EVERYTHING if range_end == b"\0" else range_end


class Store:
    """Keys, values, and how they came to be so."""

    def __init__(self) -> None:
        self.revision = FIRST_REVISION
        self.compacted = NEVER
        self.size_bytes = 0
        """An estimate: keys, values and VERSION_BYTES of all versions that are not swept away."""
        self.current: dict[bytes, Version] = {}
        self.history: dict[bytes, list[Version]] = {}
        self.live: SortedList = SortedList()
        self.dead: SortedList = SortedList()
        self.log: list[Version | tuple[Version, ...]] = []
        self.first_logged = FIRST_REVISION + 1
        """The revision of `log[0]`."""
        self.unswept = FIRST_REVISION + 1
        """The first revision whose keys may still have versions that are compacted."""
        self.wanted_from: int | None = None
        """The first revision that somebody has still to read from the log, compacted or not."""
        self._walkers = 0

    # ------------------------------------------------------------------------------------------------ writing

    def put(self, key: bytes, value: bytes, lease: int, revision: int) -> Version:
        """Makes the next version. It has to be in the log of `revision`, by `commit`."""
        current = self.current
        old = current.get(key)
        if old is None:
            new = Version(key, value, revision, revision, 1, lease)
            self.live.add(key)
        else:
            if old.version:
                new = Version(key, value, old.create, revision, old.version + 1, lease)
            else:
                new = Version(key, value, revision, revision, 1, lease)
                self.dead.remove(key)
                self.live.add(key)
            earlier = self.history.get(key)
            if earlier is None:
                self.history[key] = [old]
            else:
                earlier.append(old)
        current[key] = new
        self.size_bytes += len(key) + len(value) + VERSION_BYTES
        return new

    def delete(self, key: bytes, end: End, revision: int) -> list[tuple[Version, Version]]:
        """Makes tombstones of all keys in the range, in order: (what was, tombstone). The tombstones have to be in the
        log of `revision`, by `commit`."""
        if end is None:
            old = self.current.get(key)
            if old is None or not old.version:
                return []
            keys = [key]
            self.live.remove(key)
        else:
            first, last = self._places(key, end)
            keys = list(self.live.islice(first, last))
            del self.live[first:last]
        self.dead.update(keys)
        return [self._bury(key, revision) for key in keys]

    def _bury(self, key: bytes, revision: int) -> tuple[Version, Version]:
        before = self.current[key]
        tombstone = Version(key, b"", 0, revision, 0, 0)
        self.history.setdefault(key, []).append(before)
        self.current[key] = tombstone
        self.size_bytes += len(key) + VERSION_BYTES
        return before, tombstone

    def commit(self, changes: list[Version]) -> None:
        """These versions were the next revision. Requires: there are some."""
        # A tuple of what refers to nothing is soon let go by the garbage collector; a list would be looked through.
        self.log.append(changes[0] if len(changes) == 1 else tuple(changes))
        self.revision += 1

    # ------------------------------------------------------------------------------------------------ reading

    def check_readable(self, revision: int) -> None:
        """Raises: Refused: `revision` is not there yet, or no more."""
        if revision > self.revision:
            raise Refused(FUTURE_REVISION)
        if revision < self.compacted:
            raise Refused(COMPACTED)

    def at(self, key: bytes, revision: int) -> Version | None:
        """The key as it was then; None if it was not. Requires: the revision is not compacted."""
        version = self.current.get(key)
        if version is None:
            return None
        if version.mod > revision:
            earlier = self.history.get(key)
            place = bisect_right(earlier, revision, key=_mod) if earlier else 0
            if not place:
                return None
            assert earlier is not None
            version = earlier[place - 1]
        return version if version.version else None

    def now(self, key: bytes) -> Version | None:
        """The key as it is."""
        version = self.current.get(key)
        return version if version is not None and version.version else None

    def range_now(self, key: bytes, end: End, limit: int = 0) -> tuple[list[Version], int]:
        """The first `limit` keys of a range (0: all), in order, and how many there are."""
        if end is None:
            version = self.now(key)
            return ([], 0) if version is None else ([version], 1)
        first, last = self._places(key, end)
        current = self.current
        stop = min(last, first + limit) if limit else last
        return ([current[key] for key in self.live.islice(first, stop)], last - first)

    def count_now(self, key: bytes, end: End) -> int:
        if end is None:
            return 0 if self.now(key) is None else 1
        first, last = self._places(key, end)
        return last - first

    def range_at(self, key: bytes, end: End, revision: int, limit: int = 0) -> tuple[list[Version], int]:
        """The same in the past."""
        if end is None:
            version = self.at(key, revision)
            return ([], 0) if version is None else ([version], 1)
        versions = [version for key in self._known(key, end) if (version := self.at(key, revision)) is not None]
        return (versions[:limit] if limit else versions, len(versions))

    def previous(self, version: Version) -> Version | None:
        """What the key was before this; None if it was not there, or if that is swept away."""
        return self.at(version.key, version.mod - 1)

    def changes_of(self, revision: int) -> tuple[Version, ...]:
        """In the order in which they were made. Requires: first_logged <= revision <= self.revision."""
        change = self.log[revision - self.first_logged]
        return change if isinstance(change, tuple) else (change,)

    def versions_of(self, key: bytes) -> list[Version]:
        """All that are remembered, oldest first."""
        version = self.current.get(key)
        return [] if version is None else [*self.history.get(key, ()), version]

    def oldest(self, key: bytes) -> Version:
        """Requires: the key is known, be it deleted."""
        earlier = self.history.get(key)
        return earlier[0] if earlier else self.current[key]

    def _places(self, key: bytes, end: bytes) -> tuple[int, int]:
        first = self.live.bisect_left(key)
        last = len(self.live) if end == EVERYTHING else self.live.bisect_left(end)
        return first, max(first, last)

    def _known(self, key: bytes, end: bytes) -> Iterator[bytes]:
        if end == EVERYTHING:
            return merge(self.live.irange(key), self.dead.irange(key))
        if end <= key:
            return iter(())
        bounds = (key, end, (True, False))
        return merge(self.live.irange(*bounds), self.dead.irange(*bounds))

    # ------------------------------------------------------------------------------------------------ forgetting

    def compact(self, revision: int) -> None:
        """Forgets everything that a read at `revision` or later does not need.

        Raises: Refused: it is compacted already, or not there yet.
        """
        if revision <= self.compacted:
            raise Refused(COMPACTED)
        if revision > self.revision:
            raise Refused(FUTURE_REVISION)
        self.compacted = revision

    def sweep(self, revisions: int = SWEPT_PER_COMMAND) -> bool:
        """Takes away what is compacted, of so many revisions; True when nothing is left to do, or nothing may be."""
        if self._walkers:
            return True
        floor = self._floor
        last = min(floor, self.unswept + revisions - 1)
        for revision in range(self.unswept, last + 1):
            for version in self.changes_of(revision):
                self._prune(version.key, floor)
        self.unswept = max(self.unswept, last + 1)
        done = self.unswept > floor
        # The floor itself stays in the log: a watch may begin there.
        gone = min(self.unswept, floor) - self.first_logged
        if gone > 0 and (done or gone >= SLICE):
            del self.log[:gone]
            self.first_logged += gone
        return done

    @property
    def _floor(self) -> int:
        """What lies before this revision may go: nobody can read it any more, and nobody has still to be told of it."""
        return self.compacted if self.wanted_from is None else min(self.compacted, self.wanted_from - 1)

    def _prune(self, key: bytes, floor: int) -> None:
        newest = self.current.get(key)
        if newest is None:
            return
        earlier = self.history.get(key, [])
        if newest.mod <= floor:
            cut = len(earlier)
            if not newest.version:
                del self.current[key]
                self.dead.remove(key)
                self.size_bytes -= newest.size
        else:
            cut = bisect_right(earlier, floor, key=_mod)
            if cut and earlier[cut - 1].version:
                cut -= 1  # A read at the floor sees this one.
        self.size_bytes -= sum(version.size for version in earlier[:cut])
        del earlier[:cut]
        if not earlier:
            self.history.pop(key, None)

    # ------------------------------------------------------------------------------------------------ walking

    def walk_keys(self) -> Iterator[list[bytes]]:
        """All keys, live and dead, in order, in slices. Between two of them puts may go on: what was there when the
        walk began is met, with all the versions that it had then; newer keys may be met or not."""
        return _begun(self._walk_keys())

    def walk_log(self) -> Iterator[list[Version]]:
        """The log up to the present revision, in slices. Puts may go on meanwhile."""
        return _begun(self._walk_log(self.first_logged, self.revision))

    def _walk_keys(self) -> Iterator[list[bytes]]:
        self._walkers += 1
        try:
            yield []
            last, unseen = b"", True
            while True:
                bounds = (last, None, (unseen, True))
                keys = list(islice(merge(self.live.irange(*bounds), self.dead.irange(*bounds)), SLICE))
                if not keys:
                    return
                yield keys
                last, unseen = keys[-1], False
        finally:
            self._walkers -= 1

    def _walk_log(self, first: int, last: int) -> Iterator[list[Version]]:
        self._walkers += 1
        try:
            yield []
            versions: list[Version] = []
            for revision in range(first, last + 1):
                versions += self.changes_of(revision)
                if len(versions) >= SLICE:
                    yield versions
                    versions = []
            yield versions
        finally:
            self._walkers -= 1

    # ------------------------------------------------------------------------------------------------ building anew

    def refill(
        self,
        revision: int,
        compacted: int,
        first_logged: int,
        base: Iterator[list[Version]],
        log: Iterator[list[Version]],
    ) -> None:
        """Becomes the store of a snapshot: what lay before its log, and its log. Requires: this one is fresh."""
        self.compacted, self.first_logged, self.unswept = compacted, first_logged, first_logged
        for versions in base:
            for version in versions:
                self._remember(version)
        self.revision = first_logged - 1
        changes: list[Version] = []
        for versions in log:
            for version in versions:
                if changes and changes[0].mod != version.mod:
                    self.commit(changes)
                    changes = []
                self._remember(version)
                changes.append(version)
        if changes:
            self.commit(changes)
        check(self.revision == revision, f"a snapshot of revision {revision} ends at {self.revision}")
        self.live = SortedList(key for key, version in self.current.items() if version.version)
        self.dead = SortedList(key for key, version in self.current.items() if not version.version)

    def _remember(self, version: Version) -> None:
        earlier = self.current.get(version.key)
        if earlier is not None:
            self.history.setdefault(version.key, []).append(earlier)
        self.current[version.key] = version
        self.size_bytes += version.size


def _begun(walk: Iterator[_Slice]) -> Iterator[_Slice]:
    """Runs a walker up to its first pause: from there on it holds the sweeper back, until it ends or is forgotten."""
    next(walk)
    return walk
