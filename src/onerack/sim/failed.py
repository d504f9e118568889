"""How a simulation says that a seed has found something: what, and how to see it again."""

from __future__ import annotations


class ScheduleFailed(AssertionError):
    """A seed found something wrong. `again`: what shows its whole story."""

    def __init__(self, seed: int, reason: str, again: str) -> None:
        super().__init__(f"seed {seed}: {reason}\n  the whole story: {again}")
        self.seed = seed
        self.reason = reason
        self._again = again

    def __reduce__(self) -> tuple[type[ScheduleFailed], tuple[int, str, str]]:
        """It may come from another process."""
        return type(self), (self.seed, self.reason, self._again)
