"""Alarm: the one timer of a core, on the event loop.

The idea: a core says with every drain when it wants to be woken, mostly later than it said before. So an alarm that is
set stays; when it rings too early the core is woken for nothing, which is harmless, and says again. The rule: it rings
no later than the core has asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf


class Alarm:
    """Calls `ring` at the earliest moment that was set since it rang last."""

    __slots__ = ("_at", "_handle", "_loop", "_ring")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._at = inf
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at: float | None) -> None:
        """`at` on the loop's clock; None: no wish."""
        if at is None or at >= self._at:
            return
        if self._handle is not None:
            self._handle.cancel()
        self._at = at
        self._handle = self._loop.call_at(at, self._rings)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._at = inf
        self._handle = None

    def _rings(self) -> None:
        self._at = inf
        self._handle = None
        self._ring()
