"""Watches of the native interface: each reads the store's log, and is handed what is new while it keeps up.

    following    everything up to now was taken from the log; new revisions are handed over as they are made
    behind       it begins in the past, or its client reads too slowly; it takes what it lacks from the log

The idea: the log is the queue. What a follower is handed are the store's own versions, so that waiting costs a
reference each; whoever lets too many gather is sent back to the log, where they are anyway.

The rules: `next` only grows, whatever happens to the store; a revision is told whole, unless it alone is too much for a
message; what is wanted and compacted is refused as etcd does.

Source: the watch API of etcd v3.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from onerack.kv.client.values import Event, Events
from onerack.kv.core import KvMachine, errors
from onerack.kv.core.errors import Refused
from onerack.kv.core.ranges import Interest
from onerack.kv.core.store import EVERYTHING, End
from onerack.kv.core.version import Version

GATHERED_MAX: Final = 10_000
"""Versions that may wait for one client; then it is sent back to the log."""
_SLICE: Final = 1000
"""Revisions of the log that are looked at before anything else runs."""
_EVENTS_MAX: Final = 500
_BYTES_MAX: Final = 512 * 1024
"""In one item of the stream, at the end of a revision ..."""
_EXCESS: Final = 4
"""... and so many times that in any case: a revision that is larger comes in several items."""

Wanted = tuple[bool, bool, bool]
"""(previous values too, puts, deletions)"""


class Watch:
    """One of them. `next`: the first revision that was not gathered for it, as long as it does not follow."""

    def __init__(self, watches: Watches, key: bytes, end: End, first: int, wanted: Wanted) -> None:
        self.key = key
        self.end_of_range = end
        self.next = first
        self._with_previous, self._puts, self._deletes = wanted
        self._watches = watches
        self._machine = watches.machine
        self._gathered: list[Version] = []
        self._following = False
        self._woken = asyncio.Event()

    async def more(self) -> Events:
        """What is new, once something is. Raises: Refused: it is compacted."""
        while not self._gathered:
            if self._following:
                self._woken.clear()
                await self._woken.wait()
            elif self.next > self._machine.store.revision:
                self._following = True
                self._watches.follow(self)
            else:
                self._gather_from_log()
                if not self._gathered:
                    await asyncio.sleep(0)
        return self._handed_over()

    def hand_over(self, version: Version) -> bool:
        """False: too much has gathered. Requires: it follows, and the key is one of its own."""
        if version.mod >= self.next and (self._puts if version.version else self._deletes):
            self._gathered.append(version)
            self._woken.set()
        return len(self._gathered) < GATHERED_MAX

    def leave(self) -> None:
        """It follows no more: what comes now is for it to take from the log."""
        if self._following:
            self._following = False
            self._watches.follow_no_more(self)
            self.next = max(self.next, self._watches.revision + 1)
            self._woken.set()

    def end(self) -> None:
        self.leave()
        self._watches.all.pop(self, None)

    # ------------------------------------------------------------------------------------------------ how

    def _handed_over(self) -> Events:
        versions, size, count = self._gathered, 0, 0
        is_whole = True
        while count < len(versions):
            fill = max(count / _EVENTS_MAX, size / _BYTES_MAX)
            is_whole = count == 0 or versions[count].mod != versions[count - 1].mod
            if fill >= (1 if is_whole else _EXCESS):
                break
            size += versions[count].size
            count += 1
        told, self._gathered = versions[:count], versions[count:]
        if self._gathered:
            return Events(told[-1].mod if is_whole else told[-1].mod - 1, self._events(told))
        return Events(self._watches.revision if self._following else self.next - 1, self._events(told))

    def _events(self, versions: list[Version]) -> list[Event]:
        """A Version has the layout of a KeyValue, and is sent as one."""
        previous = self._machine.store.previous
        made: list[Any] = [
            Event(version, previous(version) if self._with_previous else None)  # type: ignore[arg-type]
            for version in versions
        ]
        return made

    def _gather_from_log(self) -> None:
        """What the next slice of the log has for it. Raises: Refused."""
        store = self._machine.store
        if self.next < store.compacted:
            raise Refused(errors.COMPACTED)
        self.next = max(self.next, store.first_logged)  # Before the first change there was none.
        last = min(self.next + _SLICE - 1, store.revision)
        for revision in range(self.next, last + 1):
            self._gathered += [version for version in store.changes_of(revision) if self._wants(version)]
            self.next = revision + 1
            if len(self._gathered) >= _EVENTS_MAX:
                return

    def _wants(self, version: Version) -> bool:
        if not (self._puts if version.version else self._deletes):
            return False
        key, end = self.key, self.end_of_range
        if end is None:
            return version.key == key
        return version.key >= key and (end == EVERYTHING or version.key < end)


class Watches:
    """Of one node."""

    def __init__(self, machine: KvMachine) -> None:
        self.machine = machine
        self.interest: Interest[Watch] = Interest()
        """Those who follow. While there are none, the machine need not say what changes."""
        self.all: dict[Watch, None] = {}
        self.revision = machine.store.revision
        """Up to here, those who follow have been handed everything, if there are any."""
        machine.on_restore.append(self._on_restore)

    def begin(
        self, key: bytes, end: End, revision: int, *, previous: bool = False, puts: bool = True, deletes: bool = True
    ) -> Watch:
        """From a revision on; 0: from now. An empty key is the first of all keys, as in etcd."""
        first = revision if revision > 0 else self.machine.store.revision + 1
        watch = Watch(self, key or b"\0", end, first, (previous, puts, deletes))
        self.all[watch] = None
        return watch

    def follow(self, watch: Watch) -> None:
        if not self.interest:
            self.revision = self.machine.store.revision
            self.machine.on_events.append(self._on_events)
        self.interest.add(watch, watch.key, watch.end_of_range)

    def follow_no_more(self, watch: Watch) -> None:
        self.interest.remove(watch, watch.key, watch.end_of_range)
        if not self.interest:
            self.machine.on_events.remove(self._on_events)

    def _on_events(self, revision: int, versions: list[Version]) -> None:
        self.revision = revision
        full: dict[Watch, None] = {}
        for version in versions:
            for watch in self.interest.of(version.key):
                if not watch.hand_over(version):
                    full[watch] = None
        for watch in full:
            watch.leave()

    def _on_restore(self) -> None:
        """The store has become another one: what was gathered is still true, and the rest is in its log."""
        for watch in self.all:
            watch.leave()
        self.revision = self.machine.store.revision
