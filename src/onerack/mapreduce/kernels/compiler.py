"""Whether there is a compiler, and the one moment at which it may work.

The idea: numba takes half a second to import and some seconds to compile (once on a machine), so a pool loads the
kernels before it forks its workers, and small jobs never do. The rule: without numba nothing fails; every kernel has
another form.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys

KERNELS = ("crc32", "order", "postings", "table", "words")
"""The files of `compiled/`."""


@functools.cache
def available() -> bool:
    """Whether compiled kernels can be used: numba is installed, and a number's lowest byte lies first in memory."""
    return sys.byteorder == "little" and importlib.util.find_spec("numba") is not None


def preload() -> None:
    """Imports and (the first time on this machine) compiles all kernels, so that forked workers share them."""
    if available():
        for name in KERNELS:
            importlib.import_module(f"onerack.mapreduce.kernels.compiled.{name}")
