"""Retries: when an attempt is made again, and when there have been enough.

The idea: backoff with full jitter spreads the attempts of many clients; a budget, filled by calls and emptied by
retries, keeps a server that is already in trouble from being given several times its load.

The rule: with the budget empty nothing is retried; so retries are at most `retry_fraction` of the calls, plus
`retry_per_s` in a second.

Source: the budget is Finagle's (RetryBudget: 20 % and 10/s); the jitter Brooker's ("Exponential backoff and jitter").
"""

from __future__ import annotations

from random import Random

from onerack.config import RpcConfig


class RetryBudget:
    """A bucket of tokens: a call puts in a fraction of one, a retry takes one out."""

    def __init__(self, config: RpcConfig, now: float) -> None:
        self._fraction = config.retry_fraction
        self._per_s = config.retry_per_s
        self._reserve_max = config.retry_per_s * config.retry_memory_s
        self._memory_s = config.retry_memory_s
        self._tokens = self._reserve_max
        self._filled_at = now
        self.calls = 0
        """Calls that were made since somebody last asked; whoever makes one counts it here."""

    def _deposit(self) -> None:
        self._tokens += self._fraction * self.calls
        self.calls = 0

    def withdraw(self, now: float) -> bool:
        """Whether a retry may be made now."""
        self._deposit()
        elapsed_s = max(0.0, now - self._filled_at)
        self._filled_at = now
        # What calls have put in is forgotten after a while; what a second gives is there again after a while.
        excess = max(0.0, self._tokens - self._reserve_max)
        excess *= max(0.0, 1 - elapsed_s / self._memory_s)
        self._tokens = min(self._reserve_max, self._tokens + elapsed_s * self._per_s) + excess
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Backoff:
    """Pauses that grow."""

    def __init__(self, config: RpcConfig, random: Random) -> None:
        self._min_s = config.backoff_min_s
        self._max_s = config.backoff_max_s
        self._random = random

    def pause_s(self, retries: int) -> float:
        """Before the retry with this number, the first being 1."""
        longest = min(self._max_s, self._min_s * 2 ** min(retries, 30))
        return self._random.uniform(self._min_s, max(self._min_s, longest))
