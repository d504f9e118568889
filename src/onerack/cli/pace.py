"""Pace: how fast a phase goes and when it will end, from the pictures of it seen so far.

The idea: the rate is taken over a sliding window, because a job's rate changes (first tasks read from disk, the next
from the cache); the estimate is what remains divided by that rate. The rule: no estimate is better than a wild one,
so there is none before some progress was seen, and it never counts time for which nothing was known.

The clock is an argument: the display passes `time.monotonic()`, a test passes numbers.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_WINDOW_S: Final = 10.0
_SEEN_MIN_S: Final = 0.5


class Pace:
    """The pace of one phase."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def saw(self, now: float, done: int) -> None:
        """`done` units were finished at `now`. A lost task may make it smaller; then the window starts anew."""
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > _WINDOW_S:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """Units a second over the window; 0.0 while unknown."""
        if len(self._seen) < 2:
            return 0.0
        (began, first), (now, last) = self._seen[0], self._seen[-1]
        return (last - first) / (now - began) if now - began >= _SEEN_MIN_S else 0.0

    def seconds_left(self, done: int, total: int) -> float | None:
        """None while unknown."""
        if total <= 0 or self.rate <= 0:
            return None
        return max(total - done, 0) / self.rate
