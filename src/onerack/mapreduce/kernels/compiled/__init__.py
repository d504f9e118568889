"""The compiled half of the kernels: numba functions over flat numpy arrays.

The idea: numba is an extra, so nothing outside `kernels/` imports this folder, and the files beside it import it only
after `compiler.available()` said yes. Each function has one explicit signature: it compiles when its file is imported,
never in the middle of a task, and two processes that compile it at the same time write the same bytes to the same
cache file (numba replaces cache files atomically), so that neither can load what the other half wrote.

The rule: a compiled function and its fallback give the same bytes for every input; tests hold them side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba import types

Function = TypeVar("Function", bound=Callable[..., Any])

BYTES = types.Array(types.uint8, 1, "C", readonly=True)
"""Input bytes; a memory-mapped file or an Arrow buffer is read-only."""
OFFSETS = types.Array(types.int32, 1, "C", readonly=True)
"""Arrow's 32-bit offsets: row i is data[offsets[i] : offsets[i + 1]]."""
INT32 = types.Array(types.int32, 1, "C", readonly=True)
INT64 = types.Array(types.int64, 1, "C", readonly=True)
INT32_OUT = types.Array(types.int32, 1, "C")
INT64_OUT = types.Array(types.int64, 1, "C")
UINT8_OUT = types.Array(types.uint8, 1, "C")
UINT32_OUT = types.Array(types.uint32, 1, "C")
UINT64_OUT = types.Array(types.uint64, 1, "C")


def compiled(signature: Any, *, inner: bool = False) -> Callable[[Function], Function]:
    """Compiles for `signature`, from the cache when it can. `inner`: only other compiled functions call it.

    numba caches beside the source, else (a read-only installation) in the user's cache directory; where neither can
    be written, or the disk is full, the function is compiled for this process alone.
    """
    options = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, "no_cpython_wrapper": inner}

    def compile_now(function: Function) -> Function:
        try:
            kernel: Function = numba.njit(signature, cache=True, **options)(function)
        except (OSError, RuntimeError):
            kernel = numba.njit(signature, **options)(function)
        return kernel

    return compile_now
