"""A simulated process: an inbox, a clock that began when it was born, and one alarm.

The idea: what hosts a core is the same for clients and servers, and so is what befalls it: it is born, stands still for
a while, dies, and is born again as a process that knows nothing of the one before.

The rule: nothing that was planned for one life happens in another; messages are stepped before the alarm.
"""

from __future__ import annotations

import math
import random
from typing import Any

from onerack.runtime.seam import Tick
from onerack.sim.world import NS, World


class Node:
    def __init__(self, world: World, turn_s: float) -> None:
        self.alive = False
        self.life = 0
        self.world = world
        self._turn_s = turn_s
        self._inbox: list[tuple[Any, str]] = []
        self._turn_planned = False
        self.paused_until_ns = 0
        self._clock_began_ns = 0
        self._wake_at: float | None = None
        self._alarm_ns: int | None = None

    def live(self, arrivals: list[tuple[Any, str]], *, is_due: bool) -> None:
        """One turn: what has arrived since the last, and whether the alarm has rung."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------ lives

    def be_born(self, chance: random.Random) -> None:
        self.life += 1
        self.alive = True
        # Clocks differ from node to node, and a machine that was restarted begins to count anew.
        self._clock_began_ns = self.world.now_ns - round(chance.uniform(0.0, 100.0) * NS)
        self._inbox = []
        self._turn_planned = False
        self.paused_until_ns = 0
        self._wake_at = self._alarm_ns = None

    def pause(self, seconds: float) -> None:
        """The process stands still."""
        self.paused_until_ns = self.world.now_ns + round(seconds * NS)

    @property
    def now(self) -> float:
        return (self.world.now_ns - self._clock_began_ns) / NS

    @property
    def is_awake(self) -> bool:
        return self.alive and self.world.now_ns >= self.paused_until_ns

    # ------------------------------------------------------------------------------------------------ turns

    def take(self, message: Any, sender: str) -> None:
        self._inbox.append((message, sender))
        self._plan_turn(self._turn_s)

    def tick(self) -> None:
        """An alarm rings that nobody has set."""
        self.take(Tick(), "nobody")

    def _plan_turn(self, seconds: float) -> None:
        if not self._turn_planned:
            self._turn_planned = True
            at_ns = max(self.world.now_ns + round(seconds * NS), self.paused_until_ns)
            self.world.at(at_ns, self._turn, self.life)

    def _turn(self, life: int) -> None:
        if life != self.life or not self.alive:
            return
        self._turn_planned = False
        if self.world.now_ns < self.paused_until_ns:
            self._plan_turn(0.0)
            return
        arrivals, self._inbox = self._inbox, []
        self.live(arrivals, is_due=self._wake_at is not None and self.now >= self._wake_at)

    def arm(self, wake_at: float | None) -> None:
        """The core wants to be woken then."""
        self._wake_at = wake_at
        if wake_at is None:
            return
        # One nanosecond later, so that rounding never lets the alarm ring before the moment that it stands for.
        at_ns = max(math.ceil(wake_at * NS) + 1 + self._clock_began_ns, self.world.now_ns)
        if self._alarm_ns is None or at_ns < self._alarm_ns:
            self._alarm_ns = at_ns
            self.world.at(at_ns, self._ring, self.life, at_ns)

    def _ring(self, life: int, at_ns: int) -> None:
        if life != self.life or not self.alive or at_ns != self._alarm_ns:
            return
        self._alarm_ns = None
        if self._wake_at is not None and self.now >= self._wake_at:
            self._plan_turn(0.0)
        else:
            self.arm(self._wake_at)
