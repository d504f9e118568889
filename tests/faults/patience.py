"""Patience: how long something is waited for that must come, on a machine that may stand still itself.

The idea: a virtual machine that is moved, or paused, stops every process on it for a minute, and afterwards all clocks
have gone on. So what is counted is the time in which this process was awake: its own short sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

PATIENCE_S: Final = 90.0
"""After which something is taken for what never comes."""
_STEP_S: Final = 0.05

T = TypeVar("T")


async def awake(seconds: float) -> None:
    """Returns when this process has been awake for so long."""
    for _ in range(int(seconds / _STEP_S)):
        await asyncio.sleep(_STEP_S)


async def patiently(procedure: Awaitable[T], excuse: Callable[[], Awaitable[str]]) -> T:
    """What it gives. Raises: AssertionError: it does not end; with what `excuse` says then."""
    work = asyncio.ensure_future(procedure)
    limit = asyncio.ensure_future(awake(PATIENCE_S))
    try:
        await asyncio.wait([work, limit], return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise AssertionError(f"waited in vain: {await excuse()}")
    finally:
        for task in (work, limit):
            task.cancel()
        await asyncio.gather(work, limit, return_exceptions=True)
