"""Weather: what becomes of a message between two nodes, and who cannot hear whom at the moment.

The rule: chance is drawn for each message in the order in which they are sent, from a stream of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from onerack.sim.rpc_world.faults import CALM, Faults

DELAY_MIN_S: Final = 0.0005
DELAY_MAX_S: Final = 0.005
REORDER_S: Final = 0.05
"""Where messages overtake one another, each takes up to so much longer."""


class Weather:
    def __init__(self, faults: Faults, chance: Random, now: Callable[[], float]) -> None:
        self.faults = faults
        self.lost = 0
        self.repeated = 0
        self._chance = chance
        self._now = now
        self._cut_until: dict[tuple[str, str], float] = {}

    def calm(self) -> None:
        """From now on nothing happens to anything."""
        self.faults = CALM
        self._cut_until.clear()

    # ------------------------------------------------------------------------------------------------ messages

    def delay_s(self) -> float:
        """Of a message that is neither lost nor overtaken."""
        chance, faults = self._chance, self.faults
        delay = chance.uniform(DELAY_MIN_S, DELAY_MAX_S)
        if faults.slow and chance.random() < faults.slow:
            delay += chance.uniform(0.0, faults.late_s)
        return delay

    def delays_s(self, sender: str, to: str) -> Sequence[float]:
        """Of every copy of a message that arrives; empty: it is lost."""
        chance, faults = self._chance, self.faults
        if self.is_cut(sender, to) or (faults.drop and chance.random() < faults.drop):
            self.lost += 1
            return ()
        delay = self.delay_s()
        if faults.reorder:
            delay += chance.uniform(0.0, REORDER_S)
        if not faults.duplicate or chance.random() >= faults.duplicate:
            return (delay,)
        self.repeated += 1
        # Most copies come close behind; a few come when everybody has forgotten the call.
        longest = chance.choice((0.02, 0.02, 1.0, faults.late_s))
        return (delay, delay + chance.uniform(0.0, longest))

    # ------------------------------------------------------------------------------------------------ cuts

    def cut(self, one: str, other: str, seconds: float, *, both_ways: bool = True) -> None:
        for pair in ((one, other), (other, one))[: 1 + both_ways]:
            self._cut_until[pair] = max(self._cut_until.get(pair, 0.0), self._now() + seconds)

    def is_cut(self, sender: str, to: str) -> bool:
        return self.heals_at(sender, to) > self._now()

    def heals_at(self, sender: str, to: str) -> float:
        return self._cut_until.get((sender, to), 0.0)
