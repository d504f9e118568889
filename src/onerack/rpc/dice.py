"""Dice: where clients and servers get their chance from: epochs, session numbers, jitter.

The idea: from the operating system, unless a simulation has put a seeded source in its place, so that a run under
virtual time is the same each time. The rule: every client and server draws one generator, when it is made.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextvars import ContextVar


def _from_system() -> random.Random:
    return random.Random(random.SystemRandom().getrandbits(128))  # noqa: S311 - jitter and numbers, no secrets


source: ContextVar[Callable[[], random.Random]] = ContextVar("rpc_dice", default=_from_system)


def new_random() -> random.Random:
    return source.get()()
