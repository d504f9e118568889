"""A node's clock: it runs at its own rate, and may jump ahead or stand still.

The idea: cores are given a monotonic clock. A clock of the wall that is put back by an hour shows there as one that
stands still; one that is put ahead, or a machine that slept, as a jump.

The rule: it never goes back, and what it will show at a moment of the world can be computed both ways.
"""

from __future__ import annotations

import math
from typing import Final

from onerack.sim.world import NS, World

NEVER: Final = 1 << 62


class Clock:
    def __init__(self, world: World, rate: float = 1.0, begins_at: float = 1000.0) -> None:
        self._world = world
        self._rate = rate
        self._base_ns = world.now_ns
        self._base = begins_at

    @property
    def now(self) -> float:
        return self._base + (self._world.now_ns - self._base_ns) / NS * self._rate

    def moment_ns(self, shown: float) -> int:
        """When the world is at this moment, the clock shows at least `shown`."""
        if self._rate == 0.0:
            return NEVER if shown > self._base else self._world.now_ns
        # One nanosecond later, so that rounding never lets an alarm ring before its moment.
        return max(self._base_ns + math.ceil((shown - self._base) / self._rate * NS) + 1, self._world.now_ns)

    def jump(self, seconds: float) -> None:
        assert seconds >= 0, "a monotonic clock does not go back"
        self._set(self.now + seconds, self._rate)

    def run(self, rate: float) -> None:
        """From now on at this rate; 0: it stands still."""
        self._set(self.now, rate)

    def _set(self, now: float, rate: float) -> None:
        self._base, self._base_ns, self._rate = now, self._world.now_ns, rate
