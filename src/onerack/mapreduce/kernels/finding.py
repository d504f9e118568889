"""Finding a string in a block of bytes: what `bytes.find` does, by the C library's `memmem` where that is faster.

The idea: glibc's memmem skips ahead by nearly the length of what it looks for, and takes half of the time of
`bytes.find`. The rule: both find the same places. For very short strings, and where there is no glibc, it is `find`.
"""

from __future__ import annotations

import ctypes
import functools
import platform
from collections.abc import Callable
from typing import Any, Final

_LENGTH_MIN: Final = 5
"""A shorter string is found too often for a call that costs a microsecond."""

NextHit = Callable[[int], int]
"""From a position in the block to the next place at or behind it where the string begins; -1: there is none."""


def hits_in(data: bytes, size: int, string: bytes) -> NextHit:
    """Finds `string` in the first `size` bytes of `data`."""
    memmem = _memmem() if len(string) >= _LENGTH_MIN else None
    if memmem is None:
        return lambda position: data.find(string, position, size)
    start = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0

    def next_hit(position: int, held: bytes = data) -> int:
        # `held`, so that the bytes stay where they are as long as somebody may look at them.
        assert 0 <= position <= size <= len(held)
        found = memmem(start + position, size - position, string, len(string))
        return -1 if found is None else found - start

    return next_hit


@functools.cache
def _memmem() -> Any:
    """The C library's function; None where it is not known to be fast."""
    if platform.libc_ver()[0] != "glibc":
        return None
    memmem = ctypes.CDLL(None).memmem
    memmem.restype = ctypes.c_void_p
    memmem.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    return memmem
