"""Faults: what a simulated world does to messages, links and nodes; and where in one seed's run it strikes.

The idea: a first run without faults shows how long a scenario is: how many points its nodes pass, how many messages are
sent. Crashes and cuts are then spread over that length, so that they meet work, and not the silence after it.

The rule: a seed decides everything. With `vary` about half of the seeds have only some of the kinds of faults, some of
them on links that are as reliable as TCP: what two faults together hide, one of them shows.
"""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec
from msgspec.structs import replace

from onerack.config import require

UNKNOWN_LENGTH: Final = 100
"""Points of a node that was not there in the run without faults."""
SOON: Final = 12
"""A crash that comes soon after a restart comes within so many points: mostly inside recovery."""


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """How rough the world is. Shares are of messages; counts are for each seed, for each node of that kind."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: bool = False
    slow: float = 0.0
    """Share of messages that are late by up to `late_s`."""
    late_s: float = 5.0
    breaks: int = 0
    """Connections that are lost; what was in flight may still arrive, also after the client has connected again."""
    cuts: int = 0
    """Times that a client and a server cannot hear each other, for up to `cut_s`; a third of them in one direction."""
    cut_s: float = 5.0
    server_crashes: int = 0
    """Most lose power, and with it what was not synced; of some only the process ends."""
    client_crashes: int = 0
    restarts: int = 0
    """Of each node, client or server: it is closed in good order, and comes back."""
    fsync_failures: int = 0
    """Of each server: the disk fails to sync, and the process ends."""
    restart_s: float = 2.0
    """A crashed node is back after up to so long."""
    vary: bool = True

    def __post_init__(self) -> None:
        for name in ("drop", "duplicate", "slow"):
            require(0.0 <= getattr(self, name) < 1.0, f"{name}={getattr(self, name)} must lie in [0, 1)")
        for name in ("breaks", "cuts", "server_crashes", "client_crashes", "restarts", "fsync_failures"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)} must not be negative")
        for name in ("late_s", "cut_s", "restart_s"):
            require(getattr(self, name) > 0.0, f"{name}={getattr(self, name)} must be more than 0")

    @property
    def is_lossy(self) -> bool:
        """Whether messages fare each on its own; else links deliver in order what they deliver."""
        return bool(self.drop or self.duplicate or self.reorder)

    def drawn(self, chance: Random) -> Faults:
        """Those of one seed."""
        if not self.vary or chance.random() < 0.5:
            return self
        gone: dict[str, float | int | bool] = {
            name: type(getattr(self, name))(0) for name in self.__struct_fields__[:-1]
            if not name.endswith("_s") and chance.random() < 0.5
        }  # fmt: skip
        if chance.random() < 0.4:
            gone |= {"drop": 0.0, "duplicate": 0.0, "reorder": False}
        return replace(self, **gone)


CALM: Final = Faults(vary=False)
ROUGH: Final = Faults(drop=0.15, duplicate=0.15, reorder=True, slow=0.05, breaks=2, cuts=1, server_crashes=2)
"""What is done to a scenario that does not say."""


class Length(msgspec.Struct):
    """How long a scenario is, without faults."""

    points: dict[str, int] = {}
    """By node."""
    messages: int = 0
    syncs: dict[str, int] = {}


class Plan(msgspec.Struct):
    """Where faults strike in one run."""

    crashes: dict[str, list[int]] = {}
    """By node: the points, counted over all its lives, at which it crashes."""
    restarts: dict[str, list[int]] = {}
    """By node: the points at which it is closed in good order."""
    syncs: dict[str, list[int]] = {}
    """By node: how many syncs later the next one fails, each counted from the one before."""
    breaks: list[int] = []
    """Numbers of messages at which a connection is lost, ..."""
    cuts: list[int] = []
    """... and at which two nodes lose sight of each other."""

    @classmethod
    def drawn(cls, faults: Faults, length: Length, chance: Random) -> Plan:
        def spread(count: int, over: int) -> list[int]:
            return sorted(chance.randint(1, max(1, over)) for _ in range(count))

        return cls(breaks=spread(faults.breaks, length.messages), cuts=spread(faults.cuts, length.messages))

    def take_in(self, node: str, faults: Faults, length: Length, chance: Random, *, is_server: bool) -> None:
        """A node begins to exist; where it will crash, if nobody has said so."""
        total = max(1, length.points.get(node, UNKNOWN_LENGTH))
        if node not in self.crashes:
            points: list[int] = []
            for _ in range(faults.server_crashes if is_server else faults.client_crashes):
                soon = points and chance.random() < 0.3
                points.append(points[-1] + chance.randint(1, SOON) if soon else chance.randint(1, total))
            self.crashes[node] = sorted(points)
        if node not in self.restarts:
            self.restarts[node] = sorted(chance.randint(1, total) for _ in range(faults.restarts))
        if node not in self.syncs:
            failures = faults.fsync_failures if is_server else 0
            longest = max(1, length.syncs.get(node, UNKNOWN_LENGTH) // (failures + 1))
            self.syncs[node] = [chance.randint(0, longest) for _ in range(failures)]
