"""Blocks: memory for attachments that come in, used again for the next one.

The idea: fresh memory is dear. The kernel clears each page when it is first written, which for 64 MiB takes a third as
long as reading them from a socket. The allocator keeps small blocks for reuse and gives large ones back at once; here a
few large ones are kept, and used again as soon as nobody refers to them.

The rule: a block is free when only this file refers to it. Every view of it, and every view of such a view, counts as a
reference for as long as it lives (CPython counts them exactly), so what was delivered is never written to again.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Final

from onerack.config import MIB
from onerack.errors import ProtocolError

_REUSED_FROM_BYTES: Final = 4 * MIB
"""Smaller ones are the allocator's."""
_KEPT_BYTES_MAX: Final = 160 * MIB
"""Room for two of 64 MiB, one that is read and one that is filled, and some smaller ones."""
_KEPT_S: Final = 10.0
"""A block that was free for so long is given back."""


if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def _array(size: int) -> npt.NDArray[np.uint8]:
    """Not cleared, and without pages yet. Who never receives anything large never imports numpy for it."""
    import numpy as np

    return np.empty(size, np.uint8)


class _Block:
    __slots__ = ("array", "free_since")

    def __init__(self, size: int) -> None:
        self.array = _array(size)
        self.free_since: float | None = None

    @property
    def references(self) -> int:
        return sys.getrefcount(self.array)

    @property
    def is_free(self) -> bool:
        return self.references == _references_when_free()


@functools.cache
def _references_when_free() -> int:
    """The block's own and the counter's; how many that are depends on the interpreter."""
    return _Block(1).references


class Blocks:
    """Memory for one server or client."""

    def __init__(self) -> None:
        self._kept: list[_Block] = []

    @property
    def kept_bytes(self) -> int:
        return sum(block.array.nbytes for block in self._kept)

    def memory_of(self, size: int) -> memoryview:
        """Memory of this size, with anything in it. Pages that were never written cost nothing yet.

        Raises: ProtocolError: there is not so much.
        """
        try:
            if size < _REUSED_FROM_BYTES:
                return _array(size).data
            return self._reused(size).array.data[:size]
        except MemoryError:
            raise ProtocolError(f"there is no memory for {size} bytes of an attachment") from None

    def _reused(self, size: int) -> _Block:
        fitting = [block for block in self._kept if size <= block.array.nbytes <= 2 * size and block.is_free]
        if fitting:
            block = min(fitting, key=lambda block: block.array.nbytes)
            block.free_since = None
            return block
        block = _Block(size)
        self._kept.append(block)
        # The oldest go first; one that is in use only stops being ours.
        while self.kept_bytes > _KEPT_BYTES_MAX:
            del self._kept[0]
        return block

    def give_back_unused(self, now: float) -> None:
        """To be called from time to time."""
        for block in list(self._kept):
            if not block.is_free:
                block.free_since = None
            elif block.free_since is None:
                block.free_since = now
            elif now - block.free_since >= _KEPT_S:
                self._kept.remove(block)
