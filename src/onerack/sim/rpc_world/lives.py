"""Lives: which simulated process a piece of code belongs to, and how such a process ends by power loss.

The idea: all processes of a world share one event loop. What is scheduled carries a context, and the context says in
whose life it was scheduled; so a process dies by never being given its turn again, and its `finally` blocks with it.
Code that is running at that moment is stopped by an exception that nobody catches.

The rule: the dead reach nothing. Links, disk and loop refuse them; what they left suspended is closed when the world
has been judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, ContextVar
from random import Random
from typing import Any, Protocol

from onerack.rpc import dice


class PowerLost(BaseException):
    """The process that runs here has ended. Not for `except Exception`, nor for anybody else."""


class Owner(Protocol):
    """Whose life it is."""

    name: str

    def reached(self, life: Life, what: str, detail: int, call: int) -> None:
        """May end the life, by raising PowerLost."""


class Life:
    """One run of a node's process, from its start to its crash; or the scenario's, or the world's own."""

    def __init__(self, owner: Owner, number: int, chance: Callable[[], Random], context: Context | None = None) -> None:
        self.node = owner.name
        self.name = f"{owner.name}.{number}"
        self.alive = True
        self.context = context or Context()
        """In which everything runs that nobody else of this life has scheduled."""
        self.ended: dict[Callable[[], None], None] = {}
        """Called, in this order, when it ends."""
        self._owner = owner
        self._tasks: list[tuple[asyncio.Task[Any], Context]] = []
        self._tasks_kept = 64
        self.context.run(current_life.set, self)
        self.context.run(dice.source.set, chance)

    def point(self, what: str, *, detail: int = 0, call: int = 0) -> None:
        """Something is about to happen in this life that others could see: here it may end. Raises: PowerLost."""
        if not self.alive:
            raise PowerLost(self.name)
        self._owner.reached(self, what, detail, call)

    def adopt(self, task: asyncio.Task[Any], context: Context) -> None:
        """Keeps hold of a task: one that nobody holds would run its `finally` when it is collected."""
        self._tasks.append((task, context))
        if len(self._tasks) > self._tasks_kept:
            self._tasks = [each for each in self._tasks if not each[0].done()]
            self._tasks_kept = 64 + 2 * len(self._tasks)

    def open_tasks(self) -> list[asyncio.Task[Any]]:
        return [task for task, _ in self._tasks if not task.done()]

    def bury(self) -> None:
        """Closes what is still suspended. Its `finally` blocks run now, and reach nothing."""
        self.alive = False
        for task, context in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # It is known, and no mistake.
                _close(task, context)
        self._tasks.clear()


def _close(task: asyncio.Task[Any], context: Context) -> None:
    for _ in range(100):  # Whoever awaits in a `finally` block is closed there again.
        try:
            context.run(task.get_coro().close)
        except BaseException:
            continue
        return


current_life: ContextVar[Life | None] = ContextVar("simulated_life", default=None)
"""None: there is no world here."""
