"""World: virtual time. A heap of things to come, taken one after the other.

The idea: nothing waits. The clock jumps to the next thing on the heap, so that an hour of silence costs nothing and
a run is the same every time.

The rule: time is whole nanoseconds, and things of the same moment happen in the order in which they were planned;
so no two runs can differ by rounding or by a tie.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Final

NS: Final = 1_000_000_000


class World:
    def __init__(self) -> None:
        self.now_ns = 0
        self.events = 0
        """Things that have happened."""
        self._planned = 0
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self.now_ns / NS

    def after(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        """Plans `action(*arguments)`; in the past means now."""
        self._planned += 1
        moment_ns = self.now_ns + (round(seconds * NS) if seconds > 0 else 0)
        heapq.heappush(self._heap, (moment_ns, self._planned, action, arguments))

    def at(self, moment_ns: int, action: Callable[..., None], *arguments: Any) -> None:
        """Plans `action(*arguments)` for exactly that moment, which must not have passed."""
        assert moment_ns >= self.now_ns
        self._planned += 1
        heapq.heappush(self._heap, (moment_ns, self._planned, action, arguments))

    def step(self) -> bool:
        """Lets the next thing happen; False when nothing is planned."""
        if not self._heap:
            return False
        at, _, action, arguments = heapq.heappop(self._heap)
        self.now_ns = at
        self.events += 1
        action(*arguments)
        return True
