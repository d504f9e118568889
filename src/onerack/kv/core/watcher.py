"""A watcher: what one client wants to be told, and what has gathered for it.

The idea: events are encoded once and shared by all watchers who get them. A watcher gathers them, and makes of them
responses as large as is good: never a revision split between two of them, unless the client has allowed fragments.

The rule: the revision in a response's header is one up to which the watcher has been told everything, so that a client
may go on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from onerack.kv.core import wire
from onerack.kv.core.store import End
from onerack.kv.core.version import Version

_FRAGMENT: Final = b"\x38\x01"


class Watcher:
    """One watch of one stream. `next` is the first revision of which it has not been told."""

    __slots__ = (
        "_batches", "_size", "_sizes", "end", "fragment", "is_synced", "key", "next", "no_delete", "no_put", "number",
        "prev_kv", "progress", "quiet", "stream",
    )  # fmt: skip

    def __init__(self, stream: int, number: int, key: bytes, end: End, first: int) -> None:
        self.stream = stream
        self.number = number
        self.key = key
        self.end = end
        self.next = first
        self.prev_kv = self.fragment = self.progress = self.no_put = self.no_delete = False
        self.is_synced = False
        self.quiet = True
        """Nothing was told since the last progress."""
        self._batches: list[tuple[int, list[bytes]]] = []
        """(revision of the last event, events), each to become a response."""
        self._size = 0
        """Of the last batch."""

    def wants(self, version: Version) -> bool:
        """Requires: its key is one of the watcher's."""
        return version.mod >= self.next and not (self.no_put if version.version else self.no_delete)

    def take(self, revision: int, event: bytes, bytes_max: int) -> None:
        """Gathers an event; the next revision begins another response if the last one is large enough."""
        if not self._batches or (self._size >= bytes_max and self._batches[-1][0] != revision):
            self._batches.append((revision, [event]))
            self._size = len(event)
        else:
            events = self._batches[-1][1]
            events.append(event)
            self._batches[-1] = (revision, events)
            self._size += len(event)

    def responses(self, header: Callable[[int], bytes], told: int, bytes_max: int) -> Iterator[bytes]:
        """All that has gathered. `told`: up to this revision nothing is missing."""
        batches, self._batches, self._size = self._batches, [], 0
        for place, (revision, events) in enumerate(batches):
            is_last = place == len(batches) - 1
            begin = header(told if is_last else revision) + self._number()
            if self.fragment and len(begin) + sum(map(len, events)) >= bytes_max:
                yield from self._fragments(begin, events, bytes_max)
            else:
                yield begin + b"".join(events)

    def _fragments(self, begin: bytes, events: list[bytes], bytes_max: int) -> Iterator[bytes]:
        """As few as may be; a single event that is larger goes alone."""
        few: list[bytes] = []
        size = len(begin) + len(_FRAGMENT)
        for event in events:
            if few and size + len(event) >= bytes_max:
                yield begin + _FRAGMENT + b"".join(few)
                few, size = [], len(begin) + len(_FRAGMENT)
            few.append(event)
            size += len(event)
        yield begin + b"".join(few)

    def progressed(self, header: bytes) -> bytes:
        """A response that only says how far the watcher has been told."""
        return header + self._number()

    def compacted(self, header: bytes, revision: int) -> bytes:
        """What it still had to be told is compacted: the last response."""
        return header + self._number() + b"\x20\x01\x28" + wire.varint(revision)

    def _number(self) -> bytes:
        return watch_id(self.number)


def watch_id(number: int) -> bytes:
    """The field of a WatchResponse."""
    return b"\x10" + wire.varint(number) if number else b""
