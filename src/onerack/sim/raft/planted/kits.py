"""Kits with one wrong part of the core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onerack.raft.core import RaftCore
from onerack.sim.raft.kit import Boot, Kit

PLANTED: dict[str, Callable[[], Kit]] = {}
"""Name -> a kit with that bug."""


def plant(kit: type[Kit]) -> type[Kit]:
    """Lists a kit under its name in words."""
    PLANTED[name_of(kit)] = kit
    return kit


def name_of(kit: type[Kit]) -> str:
    """`VotesAreForgotten` is votes_are_forgotten."""
    name = "".join("_" + letter.lower() if letter.isupper() else letter for letter in kit.__name__)
    return name.removeprefix("_")


class WrongPart(Kit):
    """Cores of which the part named `part` is of the class `Wrong`."""

    part = ""
    Wrong: type

    def boot(self, boot: Boot) -> RaftCore:
        core = super().boot(boot)
        place: Any = core
        for name in self.part.split("."):
            place = getattr(place, name)
        place.__class__ = self.Wrong
        return core


class WrongPeer(Kit):
    """Cores of the class `Wrong`."""

    Wrong: type[RaftCore]

    def boot(self, boot: Boot) -> RaftCore:
        core = super().boot(boot)
        core.__class__ = self.Wrong
        # The table of handlers holds bound methods of the class that it was made for.
        core._handlers = {kind: getattr(core, handler.__name__) for kind, handler in core._handlers.items()}
        return core
