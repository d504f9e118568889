"""Checksums of the store: do two nodes hold the same?

The idea: what a reader can see, and nothing of how it is kept: all versions from the compacted revision up to the one
that is asked for, in the order of keys. Two nodes that have applied the same commands agree, wherever their sweepers
are, and whether they have applied each command or got a snapshot.

The rule: it is a walk in slices (`Store.walk_keys`), since to look at a million keys takes a second, and writes must
not wait so long.
"""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

from onerack.kv.core import wire
from onerack.kv.core.store import Store


class HashWalk:
    """The checksum at a revision, made step by step. What is put or compacted meanwhile does not matter.

    Requires: the revision is readable when the walk begins.
    """

    def __init__(self, store: Store, revision: int) -> None:
        self.value = 0
        """The checksum, once `step` has said that it is done."""
        self.revision = revision
        self.compacted = store.compacted
        self._store = store
        self._walk = store.walk_keys()

    def step(self) -> bool:
        """A slice of the way; False when the end is reached."""
        for keys in self._walk:
            for key in keys:
                self._add(key)
            return True
        return False

    def finished(self) -> int:
        """All the rest at once."""
        while self.step():
            pass
        return self.value

    def _add(self, key: bytes) -> None:
        for encoded in self._visible(key):
            self.value = crc32(encoded, self.value)

    def _visible(self, key: bytes) -> Iterator[bytes]:
        base = None
        for version in self._store.versions_of(key):
            if version.mod > self.revision:
                break
            if version.mod > self.compacted:
                if base is not None:
                    yield wire.key_value(base)
                    base = None
                yield wire.key_value(version)
            else:
                base = version if version.version else None
        if base is not None:
            yield wire.key_value(base)
