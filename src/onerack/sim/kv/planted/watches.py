"""Planted bugs of watches; each was one of etcd's, in its own words, or could have been."""

from __future__ import annotations

from typing import Any

from onerack.kv.core.watch import WatchHub
from onerack.kv.core.watcher import Watcher
from onerack.sim.kv.planted.kits import WrongHub, plant


@plant
class WatchesGoBackInTime(WrongHub):
    """A member that gets a snapshot tells its watchers again what they had been told (etcd 15271)."""

    class Wrong(WatchHub):
        def _on_restore(self) -> None:
            for state in self._streams.values():
                for watcher in state.watchers.values():
                    self._leave(watcher)
                    watcher.next = max(2, self._machine.store.compacted)
            super()._on_restore()


@plant
class RestoresSkipWhatIsInThem(WrongHub):
    """A member that gets a snapshot goes on behind it; what it holds is never told."""

    class Wrong(WatchHub):
        def _on_restore(self) -> None:
            for state in self._streams.values():
                for watcher in state.watchers.values():
                    self._leave(watcher)
                    watcher.next = max(watcher.next, self._machine.store.revision + 1)
            super()._on_restore()


@plant
class ProgressRunsAhead(WrongHub):
    """A progress notice names the store's revision, though events before it are still under way (etcd 15220)."""

    class Wrong(WatchHub):
        def announce_progress(self) -> None:
            for number, state in self._streams.items():
                for watcher in state.watchers.values():
                    self._out.append((number, watcher.progressed(self._machine.header())))


@plant
class HeldUpStreamsHearTheLastAgain(WrongHub):
    """After a pause the last revision comes once more (etcd 17247: events twice)."""

    class Wrong(WatchHub):
        def resume(self, stream: int) -> None:
            state = self._streams.get(stream)
            if state is not None and state.paused:
                for watcher in state.watchers.values():
                    watcher.next -= 1
            super().resume(stream)


@plant
class HeldUpStreamsLoseEvents(WrongHub):
    """What happens while a client does not read is never told (etcd 17529)."""

    class Wrong(WatchHub):
        def resume(self, stream: int) -> None:
            state = self._streams.get(stream)
            if state is not None and state.paused:
                for watcher in state.watchers.values():
                    watcher.next = max(watcher.next, self.revision + 1)
            super().resume(stream)


@plant
class FutureWatchesHearTheOld(WrongHub):
    """A watch that begins at a revision which is not there yet begins now (etcd 20221)."""

    class Wrong(WatchHub):
        def create(self, stream: int, user: str, request: Any) -> None:
            request.start_revision = min(request.start_revision, self._machine.store.revision + 1)
            super().create(stream, user, request)


@plant
class CompactedWatchesGoOnSilently(WrongHub):
    """Who asks for what is compacted is told what is left, and not that something is missing."""

    class Wrong(WatchHub):
        def _begin(self, state: Any, watcher: Watcher) -> None:
            watcher.next = max(watcher.next, self._machine.store.compacted)
            super()._begin(state, watcher)


@plant
class WatchesAtTheCompactionMissIt(WrongHub):
    """A watch that begins at the compacted revision misses what that one changed (etcd 19179)."""

    class Wrong(WatchHub):
        def _begin(self, state: Any, watcher: Watcher) -> None:
            if watcher.next == self._machine.store.compacted:
                watcher.next += 1
            super()._begin(state, watcher)


@plant
class LaggardsAreTakenForSynced(WrongHub):
    """A watch from the past is told only what is new."""

    class Wrong(WatchHub):
        def _admit(self, watcher: Watcher) -> None:
            self._join_synced(watcher)
