"""Blocks: memory for large attachments that come in, used again for the next ones.

The idea: fresh memory is dear. The kernel clears each page when it is first written, which takes longer than reading
the same bytes from a socket; and an allocator gives large blocks back as soon as it can. Here some are kept, and used
again as soon as nobody refers to them.

The rule: a block is free when only this file refers to it. Every view of it, and every view of such a view, counts as a
reference for as long as it lives (CPython counts them exactly), so what was delivered is never written to again.
"""

from __future__ import annotations

import mmap
import sys
from collections import deque
from itertools import chain, islice
from typing import Final

from onerack.config import KIB, MIB
from onerack.errors import ProtocolError

_REUSED_FROM_BYTES: Final = 128 * KIB
"""Smaller ones are the allocator's."""
_HUGE_FROM_BYTES: Final = 4 * MIB
"""From here on the kernel is asked for large pages: fewer of them have to be made."""
_KEPT_BYTES_MAX: Final = 160 * MIB
"""Room for two of 64 MiB, one that is read and one that is filled, and some smaller ones."""
_KEPT_S: Final = 10.0
"""A block that was free for so long is given back."""
_LOOKS_EVERY_S: Final = 1.0
_CANDIDATES: Final = 8
"""So many of the newest are tried, whose memory is still in the processor's cache, then as many of the oldest."""


class _Block:
    __slots__ = ("free_since", "memory")

    def __init__(self, size: int) -> None:
        self.memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if size >= _HUGE_FROM_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
            self.memory.madvise(mmap.MADV_HUGEPAGE)
        self.free_since: float | None = None

    @property
    def references(self) -> int:
        return sys.getrefcount(self.memory)


_REFERENCES_WHEN_FREE: Final = _Block(1).references
"""The block's own and the counter's; how many that are depends on the interpreter."""


class Blocks:
    """Memory for one server or client."""

    def __init__(self) -> None:
        self._kept: deque[_Block] = deque()
        """The newest, or last used, at the end."""
        self.kept_bytes = 0
        self._look_at = 0.0

    def memory_of(self, size: int) -> memoryview:
        """Memory of this size, with anything in it. Pages that were never written cost nothing yet.

        Raises: ProtocolError: there is not so much.
        """
        try:
            if size < _REUSED_FROM_BYTES:
                return memoryview(bytearray(size))
            return memoryview(self._block_of(size).memory)[:size]
        except (MemoryError, OSError):
            raise ProtocolError(f"there is no memory for {size} bytes of an attachment") from None

    def _block_of(self, size: int) -> _Block:
        for block in chain(islice(reversed(self._kept), _CANDIDATES), islice(self._kept, _CANDIDATES)):
            if size <= len(block.memory) <= 2 * size and block.references == _REFERENCES_WHEN_FREE:
                self._kept.remove(block)
                block.free_since = None
                break
        else:
            block = _Block(size)
            self.kept_bytes += size
        self._kept.append(block)
        # The oldest go first; one that is in use only stops being ours.
        while self.kept_bytes > _KEPT_BYTES_MAX:
            self.kept_bytes -= len(self._kept.popleft().memory)
        return block

    def give_back_unused(self, now: float) -> None:
        """To be called from time to time."""
        if now < self._look_at:
            return
        self._look_at = now + _LOOKS_EVERY_S
        for block in list(self._kept):
            if block.references != _REFERENCES_WHEN_FREE:
                block.free_since = None
            elif block.free_since is None:
                block.free_since = now
            elif now - block.free_since >= _KEPT_S:
                self._kept.remove(block)
                self.kept_bytes -= len(block.memory)
