"""The world's loop: virtual time, in which the dead have no turn, and whose order depends on nothing but the seed.

The idea: every callback and every task is scheduled within somebody's life (lives.py), and runs only while that lasts.

The rule: no order comes from addresses in memory. Tasks are numbered, and their number is their hash, so that the sets
in which asyncio keeps them are read in the same order each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, Final, TypeVar

from onerack.sim.loop import VirtualLoop
from onerack.sim.rpc_world.lives import Life, PowerLost, current_life

T = TypeVar("T")

STEPS_MAX: Final = 20_000_000
"""A scenario that has taken so many turns goes round in a circle."""


class NumberedTask(asyncio.Task[Any]):
    """A task whose hash is the same in every run."""

    def __init__(
        self, coro: Any, *, loop: asyncio.AbstractEventLoop, name: str | None, context: Context, number: int
    ) -> None:
        self._number = number
        self.life = context.get(current_life)
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self._number


class WorldLoop(VirtualLoop):
    """`failed` hears of every exception that nobody caught, other than those of the dead."""

    def __init__(self, failed: Callable[[str, BaseException | None], None]) -> None:
        super().__init__()
        self._failed = failed
        self._tasks = 0
        self._steps = 0

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        life = current_life.get() if context is None else context.get(current_life)
        self._steps += 1
        if self._steps == STEPS_MAX:
            self._failed(f"it has taken {STEPS_MAX} turns: something goes round in a circle", None)
        if life is None:
            return super().call_soon(callback, *args, context=context)
        return super().call_soon(_while_alive, life, callback, args, context=context)

    # Nobody else's thread is here, and no wake-up pipe is read.
    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        life = current_life.get() if context is None else context.get(current_life)
        if life is None:
            return super().call_at(when, callback, *args, context=context)
        return super().call_at(when, _while_alive, life, callback, args, context=context)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        self._tasks += 1
        within = copy_context() if context is None else context
        task = NumberedTask(coro, loop=self, name=name, context=within, number=self._tasks)
        if task.life is not None:
            task.life.adopt(task, within)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        task = context.get("task") or context.get("future")
        life = task.life if isinstance(task, NumberedTask) else None
        if isinstance(error, PowerLost) or (life is not None and not life.alive):
            return
        self._failed(str(context.get("message")), error)


def _while_alive(life: Life, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if life.alive:
        callback(*args)
