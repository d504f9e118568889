"""The log of one node: its entries from the cut on, and how much of it the disk has.

The idea: the log is a list behind a base, which is the place (index and term) of the last entry that is gone. Two
numbers follow the disk: everything before `unwritten` has been given to it, everything up to `durable` is surely
there. Whoever changes a place moves both back to it, so that a sync that ends late can never count what it did not
write.

The rules: a committed entry is never removed from the end; terms never fall along the log; payloads are neither copied
nor looked at.

Source: Ongaro & Ousterhout 2014, Figure 2 and sections 5.3, 5.4.1 and 7.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import attrgetter

from onerack.errors import check
from onerack.raft.messages import Entry, LogReset, SnapshotMark

_TERM = attrgetter("term")


class Log:
    """Contiguous entries `first_index` to `last_index`; either may be absent, then `first_index` is last + 1."""

    def __init__(self, mark: SnapshotMark, entries: Sequence[Entry]) -> None:
        """`entries` are those that the disk has; they may begin before the mark, and may have missed it altogether."""
        self._base_index = mark.index
        self._base_term = mark.term
        self._entries: list[Entry] = []
        self._reset: LogReset | None = None
        if entries:
            self._recover(mark, entries)
        self.last_index = self._base_index + len(self._entries)
        self.durable = self.last_index
        """Everything up to here is on this node's disk."""
        self.unwritten = self.last_index + 1
        """Everything from here on has not been given to the disk yet."""

    def _recover(self, mark: SnapshotMark, entries: Sequence[Entry]) -> None:
        first = entries[0].index
        check(first <= mark.index + 1, f"the log begins at {first}, but the snapshot ends at {mark.index}")
        for place, entry in enumerate(entries):
            check(entry.index == first + place, f"entry {entry.index} was found where {first + place} belongs")
        if first == mark.index + 1:
            self._entries = list(entries)
            return
        if entries[-1].index >= mark.index and entries[mark.index - first].term == mark.term:
            if first == 1:
                self._base_index = self._base_term = 0
                self._entries = list(entries)
            else:
                # The first one serves as base: the term before it is not known any more.
                self._base_index, self._base_term = first, entries[0].term
                self._entries = list(entries[1:])
            return
        # The snapshot came from a leader, and this node stopped before it could reset the log.
        self._reset = LogReset(mark)

    # -------------------------------------------------------------------------------------------------- reading

    @property
    def first_index(self) -> int:
        return self._base_index + 1

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self._base_term

    def term_at(self, index: int) -> int | None:
        """None where it is not known: behind the end, or cut away. The base's term is known."""
        place = index - self._base_index
        if place == 0:
            return self._base_term
        return self._entries[place - 1].term if 0 < place <= len(self._entries) else None

    def entry_at(self, index: int) -> Entry | None:
        place = index - self._base_index
        return self._entries[place - 1] if 0 < place <= len(self._entries) else None

    def between(self, first: int, last: int) -> list[Entry]:
        """Both included. Requires: the log has them."""
        return self._entries[first - self._base_index - 1 : last - self._base_index]

    def batch_from(self, first: int, bytes_max: int) -> list[Entry]:
        """Entries from `first` on that hold at most `bytes_max` together, but at least one, if there is one."""
        start = end = first - self._base_index - 1
        size = 0
        while end < len(self._entries):
            size += len(self._entries[end].payload)
            if size > bytes_max and end > start:
                break
            end += 1
        return self._entries[start:end]

    def bytes_from(self, first: int) -> int:
        return sum(len(entry.payload) for entry in self._entries[max(0, first - self._base_index - 1) :])

    def is_at_least(self, last_index: int, last_term: int) -> bool:
        """Is a log that ends so at least as new as this one? (Section 5.4.1: the later last term, then the longer.)"""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def last_agreeable(self, index: int, term: int) -> tuple[int, int]:
        """The last place at or before `index`, with its term, at which a log may agree that has `term` at `index`.

        Terms never fall along a log, so the two differ wherever this one's term is above `term`. Term 0 when the
        place has been cut away.
        """
        index = min(index, self.last_index)
        if index < self._base_index:
            return index, 0
        place = bisect_right(self._entries, term, hi=index - self._base_index, key=_TERM)
        index = self._base_index + place
        return index, self._entries[place - 1].term if place else self._base_term

    def first_difference(self, entries: Sequence[Entry]) -> int:
        """How many of `entries`, from the front, this log has already."""
        for place, entry in enumerate(entries):
            if self.term_at(entry.index) != entry.term:
                return place
        return len(entries)

    # ------------------------------------------------------------------------------------------------- changing

    def append(self, entries: Iterable[Entry]) -> None:
        """Requires: contiguous, and the first follows the last one here."""
        index, term = self.last_index, self.last_term
        for entry in entries:
            if entry.index != index + 1 or entry.term < term:
                check(False, f"entry {entry.index} of term {entry.term} cannot follow {index} of term {term}")
            self._entries.append(entry)
            self.last_index, index, term = entry.index, entry.index, entry.term

    def truncate_from(self, index: int, commit: int) -> None:
        """Removes the entry at `index` and all behind it."""
        check(index > commit, f"entry {index} would be removed, but everything up to {commit} is committed")
        check(index > self._base_index, f"entry {index} would be removed, but the log begins at {self.first_index}")
        del self._entries[index - self._base_index - 1 :]
        self.last_index = index - 1
        self._changed_from(index)

    def reset(self, mark: SnapshotMark) -> None:
        """The log is empty, and begins behind a snapshot."""
        self._entries.clear()
        self._base_index, self._base_term = mark.index, mark.term
        self.last_index = mark.index
        self._reset = LogReset(mark)
        self.durable = min(self.durable, mark.index)
        self.unwritten = mark.index + 1

    def cut(self, index: int) -> None:
        """Forgets everything up to `index`, which stays as base. Requires: a durable snapshot holds it."""
        index = min(index, self.durable)
        term = self.term_at(index)
        if term is None or index <= self._base_index:
            return
        del self._entries[: index - self._base_index]
        self._base_index, self._base_term = index, term

    def _changed_from(self, index: int) -> None:
        self.unwritten = min(self.unwritten, index)
        self.durable = min(self.durable, index - 1)

    # ------------------------------------------------------------------------------------------------- the disk

    def take_writes(self) -> list[LogReset | Entry]:
        """What the disk does not have and was not given, in order. It counts as given from now on."""
        writes: list[LogReset | Entry] = [self._reset] if self._reset is not None else []
        writes += self.between(self.unwritten, self.last_index)
        self._reset = None
        self.unwritten = self.last_index + 1
        return writes

    def note_durable(self, last_index: int) -> None:
        """Writes that ended at `last_index` are durable, except for what has been changed since they were taken."""
        self.durable = max(self.durable, min(last_index, self.unwritten - 1))
