"""A loop under virtual time: ordinary asyncio code runs unchanged, and an hour of sleeping takes no time.

The idea: asyncio asks its selector to wait until the next timer is due. This selector does not wait; it moves the
clock. So `asyncio.sleep`, timeouts, hosts and servers all live on simulated seconds.

The rule: one thread. Work for an executor is done in the loop, `EXECUTOR_S` later, as if a thread had needed so long.
When everybody waits and no timer is set, nothing can ever happen again: that is an error (`Standstill`), not a hang.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

from onerack.sim.disk import SimHalt

T = TypeVar("T")

EXECUTOR_S: Final = 0.001


class Standstill(AssertionError):
    """Everybody waits for somebody else."""


class _Leaper(selectors.BaseSelector):
    """Instead of waiting it moves the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        # asyncio registers its own wake-up pipe, which nobody uses here.
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, 0, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Standstill("everybody waits and no timer is set: nothing will ever happen again")
        self.now += max(0.0, timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time moves only when everybody waits."""

    def __init__(self) -> None:
        self._leaper = _Leaper()
        super().__init__(self._leaper)

    def time(self) -> float:
        return self._leaper.now

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        self.call_later(EXECUTOR_S, _settle, done, func, args)
        return done


def _settle(done: asyncio.Future[T], func: Callable[..., T], args: tuple[Any, ...]) -> None:
    if done.cancelled():
        return
    try:
        done.set_result(func(*args))
    except (Exception, SimHalt) as error:
        done.set_exception(error)


def simulate(main: Coroutine[Any, Any, T]) -> T:
    """Runs `main` to its end on a virtual loop; `asyncio.run` for simulations."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
