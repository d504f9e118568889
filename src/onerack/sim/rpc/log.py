"""The simulated log of exactly-once calls: proposals gather, become durable together, and come back in order.

The idea: an fsync is a thing that takes time and can be interrupted. Commands wait, are written as a batch, and are
durable a while later; a crash in between keeps any beginning of what was written, and loses the rest. The log may hold
a command twice, the second time long after the first: two leaders of a replicated log can both have appended it.

The rule: what was told as committed is never lost, and comes back in the same order in every later life.
"""

from __future__ import annotations

import random
from typing import Protocol

from onerack.sim.rpc.options import Options
from onerack.sim.world import World


class LogOwner(Protocol):
    def committed(self, index: int, batch: list[bytes]) -> None:
        """These commands are durable, the first of them at this index."""

    def dropped(self, command: bytes, *, definite: bool, cause: str) -> None: ...

    def dies_at(self, name: str) -> bool:
        """A place at which the process may die; True: it has."""


class SimLog:
    """One log, through all lives of the server that it belongs to."""

    def __init__(self, world: World, chance: random.Random, options: Options, owner: LogOwner) -> None:
        self.snapshot: tuple[int, bytes] | None = None
        """The index of the last command in it, and its content."""
        self.durable: list[bytes] = []
        """The commands after the snapshot."""
        self.failed = False
        self.repeats = True
        self._world = world
        self._chance = chance
        self._options = options
        self._owner = owner
        self._life = 0
        self._waiting: list[bytes] = []
        self._written: list[bytes] = []
        """What the fsync that is under way makes durable."""

    @property
    def base(self) -> int:
        return 0 if self.snapshot is None else self.snapshot[0]

    def propose(self, command: bytes) -> None:
        if self.failed or len(self._waiting) >= self._options.log_room:
            cause = "storage" if self.failed else "overloaded"
            self._world.after(0.0, self._drop, self._life, command, cause)
            return
        self._append(command)
        if self.repeats and self._chance.random() < self._options.log_twice:
            self._world.after(self._chance.choice([0.0, 0.01, 0.3, 3.0]), self._append, command)

    def _drop(self, life: int, command: bytes, cause: str) -> None:
        if life == self._life:
            self._owner.dropped(command, definite=True, cause=cause)

    def _append(self, command: bytes) -> None:
        if self.failed:
            return
        self._waiting.append(command)
        if not self._written:
            # As a real log does it: what is proposed in the same moment shares the fsync.
            self._world.after(0.0, self._write, self._life)

    def _write(self, life: int) -> None:
        if life != self._life or self._written or not self._waiting or self.failed:
            return
        if self._owner.dies_at("before_sync"):
            return
        size = self._options.log_batch_max
        self._written, self._waiting = self._waiting[:size], self._waiting[size:]
        self._world.after(self._chance.expovariate(1.0 / self._options.log_s), self._synced, life)

    def _synced(self, life: int) -> None:
        if life != self._life or self.failed:
            return
        if self._owner.dies_at("in_sync"):
            return
        index = self.base + len(self.durable) + 1
        batch, self._written = self._written, []
        self.durable += batch
        if not self._owner.dies_at("after_sync"):
            self._owner.committed(index, batch)
            self._write(life)

    def crash(self) -> None:
        """The process is gone; any beginning of what it had written is there."""
        self._life += 1
        self.failed = False
        self.durable += self._beginning()
        self._written, self._waiting = [], []

    def fail(self) -> None:
        """An fsync has failed. What was written may be there after a restart; this process will never know."""
        self.failed = True
        written, waiting = self._written, self._waiting
        self.durable += self._beginning()
        self._written, self._waiting = [], []
        for command in (*written, *waiting):
            self._owner.dropped(command, definite=False, cause="storage")

    def _beginning(self) -> list[bytes]:
        everything = [*self._written, *self._waiting]
        kept = self._chance.choice([0, len(everything), self._chance.randint(0, len(everything))])
        return everything[:kept]

    # ------------------------------------------------------------------------------------------------ snapshots

    def keep_snapshot(self, index: int, content: bytes) -> None:
        """Writes a snapshot beside the log; it counts when it is durable."""
        self._world.after(self._chance.expovariate(1.0 / self._options.log_s), self._kept, self._life, index, content)

    def _kept(self, life: int, index: int, content: bytes) -> None:
        if life != self._life or index <= self.base:
            return
        self.durable = self.durable[index - self.base :]
        self.snapshot = (index, content)
