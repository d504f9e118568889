"""The order of revisions: a store with transactions over many keys, ranges and watches, that numbers its changes.

The idea: such a store cannot be searched key by key, but it need not be searched at all, for every answer names the
revision that it belongs to. So the claimed order is replayed, and it must be one that could have been:

    writes     no two have the same revision, and none is missing; who ended before another began has the lower one
    reads      show exactly the state at their revision; a linearizable one is not older than anything that had ended
               before it began, and none is newer than anything that had begun when it ended
    watches    tell every change of their keys from their start on, once, in order, all of one revision together; a
               progress notice comes after all events up to it

The rule: writes whose answer was lost have no revision of their own; whoever runs the check takes it from the log of a
replica, or leaves them out if no log has them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Iterable, Iterator, Sequence

import msgspec

from onerack.sim.checker.history import Anomaly, Verdict

Changes = tuple[tuple[str, Hashable], ...]
"""Keys and their new values; None: deleted."""


class Write(msgspec.Struct, frozen=True):
    """A transaction that changed something."""

    revision: int
    changes: Changes
    call: int
    end: int | None = None


class Read(msgspec.Struct, frozen=True):
    """What was found in [first, behind) at `revision`, which the answer's header named."""

    revision: int
    first: str
    behind: str
    found: Changes
    """Sorted by key; no None."""
    call: int
    end: int
    linearizable: bool = True
    at_revision: int | None = None
    """The read asked for the state at an older revision than the header's."""


class Watch(msgspec.Struct, frozen=True):
    """What one watch of [first, behind) told, in the order in which it came; it may have been resumed in between."""

    first: str
    behind: str
    start: int
    """The first revision that it was to tell."""
    told: tuple[tuple[int, Changes], ...]
    """Revision and events, one item for each answer; a progress notice has no events."""
    closed: bool = False
    """It was waited for until everything had come."""


class Store:
    """The state at every revision, from the writes alone. Revision 1 is the empty store."""

    def __init__(self, writes: Sequence[Write]) -> None:
        self._versions: dict[str, tuple[list[int], list[Hashable]]] = {}
        self.writes = sorted(writes, key=lambda write: write.revision)
        for write in self.writes:
            for key, value in write.changes:
                revisions, values = self._versions.setdefault(key, ([], []))
                revisions.append(write.revision)
                values.append(value)
        self._keys = sorted(self._versions)

    def state(self, revision: int, first: str, behind: str) -> Changes:
        """What a read of [first, behind) at `revision` must find."""
        found = []
        for key in self._keys:
            if first <= key < behind:
                revisions, values = self._versions[key]
                place = bisect_right(revisions, revision)
                if place and values[place - 1] is not None:
                    found.append((key, values[place - 1]))
        return tuple(found)

    def events(self, first: str, behind: str, start: int) -> list[tuple[int, Changes]]:
        """What a watch must tell."""
        told = []
        for write in self.writes:
            changes = tuple(change for change in write.changes if first <= change[0] < behind)
            if write.revision >= start and changes:
                told.append((write.revision, changes))
        return told


def check_revisions(writes: Sequence[Write], reads: Iterable[Read] = (), watches: Iterable[Watch] = ()) -> Verdict:
    """All three at once; at most one anomaly of each kind."""
    store = Store(writes)
    found = [
        next(_wrong_writes(store.writes), None),
        next(_wrong_reads(store, reads), None),
        next(_wrong_watches(store, watches), None),
    ]
    return Verdict(tuple(anomaly for anomaly in found if anomaly is not None))


# ------------------------------------------------------------------------------------------------ writes


def _wrong_writes(writes: Sequence[Write]) -> Iterator[Anomaly]:
    latest: Write | None = None
    for previous, write in zip([None, *writes], writes, strict=False):
        expected = 2 if previous is None else previous.revision + 1
        if write.revision < expected:
            yield _of("revisions_are_unique", write, f"revision {write.revision} was given to {previous} and {write}")
        elif write.revision > expected:
            yield _of("revisions_have_no_gap", write, f"nothing has revision {expected}, but {write} has the next")
        if latest is not None and write.end is not None and write.end < latest.call:
            yield _of("revisions_agree_with_time", write, f"{write} had ended before {latest} began")
        if latest is None or write.call > latest.call:
            latest = write


# ------------------------------------------------------------------------------------------------ reads


def _wrong_reads(store: Store, reads: Iterable[Read]) -> Iterator[Anomaly]:
    ended, ended_highest = _highest_by_time([(w.end, w.revision) for w in store.writes if w.end is not None])
    called, called_highest = _highest_by_time([(w.call, w.revision) for w in store.writes])
    for read in reads:
        # What ends in the moment in which a read begins is concurrent with it.
        oldest = ended_highest[bisect_right(ended, read.call - 1)]
        newest = called_highest[bisect_right(called, read.end)]
        if read.revision < oldest and read.linearizable:
            yield _of("reads_are_not_stale", read, f"{read} began after revision {oldest} had been answered")
        if read.revision > newest:
            yield _of("reads_do_not_foresee", read, f"{read} ended before anything after {newest} had begun")
        revision = read.revision if read.at_revision is None else read.at_revision
        state = store.state(revision, read.first, read.behind)
        if read.found != state:
            yield _of("reads_show_their_revision", read, f"{read} should have found {state}")


def _highest_by_time(moments: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Sorted times, and for each number of them that have passed the highest revision so far."""
    moments.sort()
    highest = [1]
    for _, revision in moments:
        highest.append(max(highest[-1], revision))
    return [moment for moment, _ in moments], highest


# ------------------------------------------------------------------------------------------------ watches


def _wrong_watches(store: Store, watches: Iterable[Watch]) -> Iterator[Anomaly]:
    for watch in watches:
        expected = store.events(watch.first, watch.behind, watch.start)
        told, reached = 0, watch.start - 1
        for revision, changes in watch.told:
            if not changes:
                missing = expected[told][0] if told < len(expected) else revision + 1
                if missing <= revision:
                    detail = f"progress {revision} was told before the events of {missing}"
                    yield _told_wrongly(watch, "progress_comes_after_events", revision, detail)
                reached = max(reached, revision)
                continue
            if revision <= reached:
                detail = f"revision {revision} came after {reached}"
                yield _told_wrongly(watch, "events_are_ordered_and_unique", revision, detail)
            if told >= len(expected) or expected[told] != (revision, changes):
                wanted = expected[told] if told < len(expected) else "nothing"
                detail = f"{(revision, changes)} came where {wanted} should"
                yield _told_wrongly(watch, "events_have_no_gap_and_are_whole", revision, detail)
                break
            told, reached = told + 1, revision
        else:
            if watch.closed and told < len(expected):
                detail = f"{expected[told]} and what follows was never told"
                yield _told_wrongly(watch, "events_have_no_gap_and_are_whole", expected[told][0], detail)


def _told_wrongly(watch: Watch, name: str, revision: int, detail: str) -> Anomaly:
    return Anomaly(name, f"[{watch.first}, {watch.behind})", (watch.start, revision), detail)


def _of(name: str, what: Write | Read, detail: str) -> Anomaly:
    key = f"[{what.first}, {what.behind})" if isinstance(what, Read) else ",".join(key for key, _ in what.changes)
    return Anomaly(name, key, (what.call, what.call if what.end is None else what.end), detail)
