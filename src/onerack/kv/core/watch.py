"""The watch hub: everybody who watches is told of every change, in order, once, and whole.

    synced      have been told everything up to `revision`; new revisions go to all of them in one pass
    lagging     began in the past, or were held up; they follow the log in passes of their own, together
    paused      their client does not read; they wait, and are told the rest from the log afterwards

The idea: the hub reads the store's log. What it has to tell is therefore never lost in a queue: a slow client costs
nothing but its place, and a store that has become another one by a snapshot is only another log to go on reading.

The rules, and what the names in etcd's history stand for:
- ordered and unique: a watcher's `next` only grows, whatever happens to the store (#15271, #17247, #20221);
- reliable: the log is kept until the synced have read it, compacted or not (#17529, #18089, #19179);
- atomic: a revision is in one response, unless the client allows fragments;
- bookmarkable: a progress is only told when nothing before it is still under way (#15220);
- resumable: who asks for what is compacted is told so, and from where on he may ask.

Source: the watch API of etcd v3.
"""

from __future__ import annotations

from typing import Any, Final

from onerack.kv.core import wire
from onerack.kv.core.errors import PERMISSION_REFUSED, WATCH_ID_TAKEN, WATCH_RANGE_EMPTY
from onerack.kv.core.machine import KvMachine
from onerack.kv.core.ranges import Interest
from onerack.kv.core.store import EVERYTHING, end_of
from onerack.kv.core.watcher import Watcher, watch_id
from onerack.kv.messages import LIBRARY

PASS_REVISIONS: Final = 1024
PASS_BYTES: Final = 16 << 20
"""A pass ends, at the end of a revision, when it has gathered so much."""
NO_WATCH: Final = -1
"""In place of a watch id: it concerns the whole stream, or there is none."""

_CreateRequest: Final = LIBRARY["WatchCreateRequest"]

Delivery = tuple[int, bytes]
"""(stream, an encoded WatchResponse)."""


class _Stream:
    """A client's connection for watches."""

    def __init__(self) -> None:
        self.watchers: dict[int, Watcher] = {}
        self.spent: dict[int, None] = {}
        """Ids of watches that were over because of a compaction: taken, as with etcd, until the client cancels them."""
        self.next_number = 0
        self.paused = False
        self.progress_asked = False


class WatchHub:
    """All watches of one node. Streams are named by numbers that the server gives."""

    def __init__(self, machine: KvMachine) -> None:
        self.revision = machine.store.revision
        """Up to here the synced have been told."""
        self._machine = machine
        self._bytes_max = machine.config.watch_response_bytes_max
        self._streams: dict[int, _Stream] = {}
        self._synced: Interest[Watcher] = Interest()
        self._lagging: Interest[Watcher] = Interest()
        self._laggards: dict[Watcher, None] = {}
        self._out: list[Delivery] = []
        self._mark_log()
        machine.on_restore.append(self._on_restore)

    @property
    def busy(self) -> bool:
        """Whether `advance` has more to do."""
        return bool(self._out or self._laggards) or self.revision < self._machine.store.revision

    # ------------------------------------------------------------------------------------------------ what clients say

    def create(self, stream: int, user: str, request: Any) -> None:
        """A WatchCreateRequest; the stream is opened by its first one."""
        state = self._streams.setdefault(stream, _Stream())
        key, end = request.key or b"\0", end_of(request.range_end)
        store = self._machine.store
        if not self._machine.may_watch(user, key, end):
            self._refuse(stream, request.watch_id, PERMISSION_REFUSED.text)
        elif end is not None and end != EVERYTHING and end <= key:
            self._refuse(stream, NO_WATCH, WATCH_RANGE_EMPTY)
        elif request.watch_id and (request.watch_id in state.watchers or request.watch_id in state.spent):
            self._refuse(stream, NO_WATCH, WATCH_ID_TAKEN)
        else:
            number = request.watch_id or self._free_number(state)
            first = request.start_revision if request.start_revision > 0 else store.revision + 1
            watcher = Watcher(stream, number, key, end, first)
            watcher.prev_kv, watcher.fragment = request.prev_kv, request.fragment
            watcher.progress = request.progress_notify
            watcher.no_put = _CreateRequest.NOPUT in request.filters
            watcher.no_delete = _CreateRequest.NODELETE in request.filters
            self._begin(state, watcher)

    def _begin(self, state: _Stream, watcher: Watcher) -> None:
        header, compacted = self._machine.header(), self._machine.store.compacted
        self._out.append((watcher.stream, watcher.progressed(header) + b"\x18\x01"))
        if watcher.next < compacted:
            self._out.append((watcher.stream, watcher.compacted(header, compacted)))
            state.spent[watcher.number] = None
            return
        state.watchers[watcher.number] = watcher
        if not state.paused:
            self._admit(watcher)

    def cancel(self, stream: int, number: int) -> None:
        """A WatchCancelRequest; of a watch that is not there nothing is said."""
        state = self._streams.get(stream)
        if state is None:
            return
        watcher = state.watchers.get(number)
        if watcher is not None:
            self._drop(watcher)
        elif number in state.spent:
            del state.spent[number]
        else:
            return
        self._out.append((stream, self._machine.header() + watch_id(number) + b"\x20\x01"))

    def ask_progress(self, stream: int) -> None:
        """A WatchProgressRequest: answered once all watches of the stream have been told everything."""
        self._streams.setdefault(stream, _Stream()).progress_asked = True

    def announce_progress(self) -> None:
        """To be called now and then: tells those who have asked for it, and have heard nothing since the last time."""
        for number, state in self._streams.items():
            for watcher in state.watchers.values():
                if watcher.progress and watcher.is_synced:
                    if watcher.quiet:
                        self._out.append((number, watcher.progressed(self._machine.header(self.revision))))
                    watcher.quiet = True

    def close(self, stream: int) -> None:
        """The client is gone."""
        state = self._streams.pop(stream, None)
        if state is not None:
            for watcher in list(state.watchers.values()):
                self._leave(watcher)
        self._out = [delivery for delivery in self._out if delivery[0] != stream]

    def pause(self, stream: int) -> None:
        """The client does not read: nothing is gathered for it until `resume`."""
        state = self._streams.get(stream)
        if state is not None and not state.paused:
            state.paused = True
            for watcher in state.watchers.values():
                self._leave(watcher)

    def resume(self, stream: int) -> None:
        """The client reads again."""
        state = self._streams.get(stream)
        if state is not None and state.paused:
            state.paused = False
            for watcher in list(state.watchers.values()):
                self._admit(watcher)

    # ------------------------------------------------------------------------------------------------ what they hear

    def advance(self) -> list[Delivery]:
        """One pass: what there is to tell, in order for each stream. Call it after commands were applied, after what
        clients have said, and again while `busy`."""
        self._follow_synced()
        self._follow_lagging()
        self._answer_progress()
        out, self._out = self._out, []
        return out

    def _follow_synced(self) -> None:
        store = self._machine.store
        if not self._synced:
            self.revision = max(self.revision, store.revision)
        elif self.revision < store.revision:
            self.revision, told = self._pass(self._synced, self.revision + 1, store.revision)
            self._deliver(told, self.revision)
        self._mark_log()

    def _follow_lagging(self) -> None:
        """All laggards together, from the one that is farthest behind: so nobody starves."""
        store = self._machine.store
        for watcher in [watcher for watcher in self._laggards if watcher.next < store.compacted]:
            self._drop(watcher)
            self._streams[watcher.stream].spent[watcher.number] = None
            last = watcher.compacted(self._machine.header(), store.compacted)
            self._out.append((watcher.stream, last))
        if not self._laggards:
            return
        first = max(min(watcher.next for watcher in self._laggards), store.first_logged)
        reached, told = self._pass(self._lagging, first, self.revision)
        self._deliver(told, reached)
        for watcher in list(self._laggards):
            watcher.next = max(watcher.next, reached + 1)
            if reached >= self.revision:
                self._leave(watcher)
                self._join_synced(watcher)

    def _pass(self, interest: Interest[Watcher], first: int, last: int) -> tuple[int, dict[Watcher, None]]:
        """Reads the log. Gives the revision up to which it came, and who has got something."""
        store = self._machine.store
        told: dict[Watcher, None] = {}
        gathered = 0
        reached = first - 1
        for revision in range(first, min(last, first + PASS_REVISIONS - 1) + 1):
            for version in store.changes_of(revision):
                plain = with_previous = b""
                for watcher in interest.of(version.key):
                    if not watcher.wants(version):
                        continue
                    if watcher.prev_kv and version.create != revision:
                        event = with_previous = with_previous or wire.event(version, store.previous(version))
                    else:
                        event = plain = plain or wire.event(version, None)
                    watcher.take(revision, event, self._bytes_max)
                    told[watcher] = None
                    gathered += len(event)
            reached = revision
            if gathered >= PASS_BYTES:
                break
        return reached, told

    def _deliver(self, told: dict[Watcher, None], reached: int) -> None:
        for watcher in told:
            watcher.next = reached + 1
            watcher.quiet = False
            for response in watcher.responses(self._machine.header, reached, self._bytes_max):
                self._out.append((watcher.stream, response))

    def _answer_progress(self) -> None:
        for number, state in self._streams.items():
            if state.progress_asked and all(watcher.is_synced for watcher in state.watchers.values()):
                state.progress_asked = False
                header = self._machine.header(self.revision)
                self._out.append((number, header + b"\x10" + wire.varint(NO_WATCH)))

    # ------------------------------------------------------------------------------------------------ who is where

    def _admit(self, watcher: Watcher) -> None:
        if watcher.next > self.revision:
            self._join_synced(watcher)
        else:
            self._laggards[watcher] = None
            self._lagging.add(watcher, watcher.key, watcher.end)

    def _join_synced(self, watcher: Watcher) -> None:
        watcher.is_synced = True
        self._synced.add(watcher, watcher.key, watcher.end)

    def _leave(self, watcher: Watcher) -> None:
        """Out of all passes; it keeps its place in the log."""
        if watcher.is_synced:
            watcher.is_synced = False
            watcher.next = max(watcher.next, self.revision + 1)
            self._synced.remove(watcher, watcher.key, watcher.end)
        elif watcher in self._laggards:
            del self._laggards[watcher]
            self._lagging.remove(watcher, watcher.key, watcher.end)

    def _drop(self, watcher: Watcher) -> None:
        self._leave(watcher)
        del self._streams[watcher.stream].watchers[watcher.number]

    def _refuse(self, stream: int, number: int, reason: str) -> None:
        response = LIBRARY["WatchResponse"](watch_id=number, created=True, canceled=True, cancel_reason=reason)
        self._out.append((stream, self._machine.header() + response.SerializeToString()))

    def _free_number(self, state: _Stream) -> int:
        while state.next_number in state.watchers or state.next_number in state.spent:
            state.next_number += 1
        state.next_number += 1
        return state.next_number - 1

    def _mark_log(self) -> None:
        self._machine.store.wanted_from = self.revision + 1

    def _on_restore(self) -> None:
        """Another store, further on: everybody goes on from where he was."""
        for state in self._streams.values():
            for watcher in state.watchers.values():
                self._leave(watcher)
        self.revision = max(self.revision, self._machine.store.revision)
        self._mark_log()
        for state in self._streams.values():
            if not state.paused:
                for watcher in state.watchers.values():
                    self._admit(watcher)
