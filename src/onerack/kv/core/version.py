"""Version: one state of one key, the grain that everything here is made of.

The idea: a put makes a version, and so does a deletion (a tombstone, whose `version` is 0). Nothing ever changes one,
so the log of events, the index of keys and a snapshot under way may all hold the same object.

The rule: numbers are etcd's. `create` is the revision at which this life of the key began, `mod` that of this state,
`version` counts from 1 in each life. A deletion ends the life; the next put begins another.
"""

from __future__ import annotations

from typing import Final

import msgspec

VERSION_BYTES: Final = 256
"""What a version takes besides its key and value, for the estimate of the size: etcd's figure."""


class Version(msgspec.Struct, array_like=True, gc=False, eq=False):
    """Not `frozen`, for speed alone: frozen structs are slower to make. Nobody assigns."""

    key: bytes
    value: bytes
    create: int
    """0 for a tombstone."""
    mod: int
    version: int
    """0: the key is gone."""
    lease: int

    @property
    def size(self) -> int:
        return len(self.key) + len(self.value) + VERSION_BYTES
