"""The trace of one seed: everything that happened, as a hash that two runs can be compared by, and as a story.

The rule: nothing goes in but what the seed decides: times, names, sizes, checksums. The story is kept only when someone
wants to read it; it is the same run again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

_BATCH: Final = 512


class Happening(NamedTuple):
    at: float
    who: str
    what: str
    detail: int
    call: int
    """The number of the call that it concerns; 0: none in particular."""
    words: str

    def __str__(self) -> str:
        number = f"  (call {self.call})" if self.call else ""
        return f"{self.at:10.4f}  {self.who:<12} {self.what}{self.words}{number}"


class Trace:
    def __init__(self, loop: asyncio.AbstractEventLoop, *, keep: bool) -> None:
        self.count = 0
        self._loop = loop
        self._keep = keep
        self._kept: list[Happening] = []
        self._batch: list[tuple[float, str, str, int, int]] = []
        self._hash = hashlib.blake2b(digest_size=8)

    def note(self, who: str, what: str, *, detail: int = 0, call: int = 0, words: str = "") -> None:
        """`detail` tells apart what reads the same, a checksum of the bytes, say. `words` are for the story only."""
        entry = (self._loop.time(), who, what, detail, call)
        self.count += 1
        self._batch.append(entry)
        if len(self._batch) == _BATCH:
            self._hash_batch()
        if self._keep:
            self._kept.append(Happening(*entry, words))

    def fingerprint(self) -> str:
        self._hash_batch()
        return self._hash.hexdigest()

    def story(self, call: int = 0) -> Sequence[str]:
        """Line by line. `call`: what concerns that call, and what concerns none in particular."""
        return [str(each) for each in self._kept if not call or each.call in (0, call)]

    def _hash_batch(self) -> None:
        self._hash.update(repr(self._batch).encode())
        self._batch.clear()
