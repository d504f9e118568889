"""Watched services: a user's implementation, unmodified, with the ledger at the door of each method.

The idea: what a server binds is an object with the same methods, of the same kinds, each of which tells the ledger that
it begins and how it ended, and lets the real one do the work. A snapshot carries a number behind the service's own
bytes, by which the ledger finds what it knew then; so the count of executions is lost and regained with the state.

The rule: the implementation sees the very arguments, and its caller the very results.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final

from onerack.errors import OnerackError
from onerack.rpc.interface import Interface, Method
from onerack.sim.rpc_world.calls import Ledger, Run
from onerack.sim.rpc_world.lives import Life

_NUMBER_BYTES: Final = 8


class Watcher:
    """Watches one implementation in one life. `changed` is called after each execution, and after a restore."""

    def __init__(self, ledger: Ledger, life: Life, changed: Callable[[], None]) -> None:
        self._ledger = ledger
        self._life = life
        self._changed = changed

    def watch(self, interface: Interface, implementation: Any) -> Any:
        """What the server is to bind in its place."""
        if inspect.isclass(implementation):
            return implementation  # The server says what is wrong with it.
        members: dict[str, Any] = {"__getattr__": lambda _, name: getattr(implementation, name)}
        watched = type(type(implementation).__name__, (), members)()
        for name, method in interface.methods.items():
            function = getattr(implementation, name, None)
            if callable(function):
                setattr(watched, name, self._around(method, function))
        if callable(getattr(implementation, "snapshot", None)) and callable(getattr(implementation, "restore", None)):
            watched.snapshot = lambda: self._snapshot(implementation.snapshot())
            watched.restore = lambda content: self._restore(implementation.restore, content)
        return watched

    def _around(self, method: Method, function: Callable[..., Any]) -> Callable[..., Any]:
        forms = (function, type(function).__call__)
        if method.result_is_stream:
            return self._stream(method, function)
        if any(map(inspect.iscoroutinefunction, forms)):
            return self._async(method, function)
        return self._plain(method, function)

    def _plain(self, method: Method, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            call, run = self._ledger.executing(self._life, method)
            try:
                returned = function(*args, **kwargs)
                run.result = _encoded(method, returned)
            except Exception as error:
                run.error = f"{type(error).__name__}: {error}"
                raise
            finally:
                self._ended(call, run)
            return returned

        return watched

    def _async(self, method: Method, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def watched(*args: Any, **kwargs: Any) -> Any:
            call, run = self._ledger.executing(self._life, method)
            try:
                returned = await function(*args, **kwargs)
                run.result = _encoded(method, returned)
            except BaseException as error:
                run.error = f"{type(error).__name__}: {error}"
                raise
            finally:
                self._ended(call, run)
            return returned

        return watched

    def _stream(self, method: Method, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def watched(*args: Any, **kwargs: Any) -> Any:
            call, run = self._ledger.executing(self._life, method)
            try:
                async with aclosing(function(*args, **kwargs)) as items:
                    async for item in items:
                        yield item
            except BaseException as error:
                run.error = f"{type(error).__name__}: {error}"
                raise
            finally:
                self._ended(call, run)

        return watched

    def _ended(self, call: Any, run: Run) -> None:
        if self._life.alive:
            self._changed()
        self._ledger.executed(self._life, call, run)

    def _snapshot(self, state: Any) -> Any:
        if not isinstance(state, bytes | bytearray):
            return state  # The server says what is wrong with it.
        return bytes(state) + self._ledger.keep_snapshot(self._life).to_bytes(_NUMBER_BYTES, "big")

    def _restore(self, restore: Callable[[bytes], None], content: bytes) -> None:
        self._ledger.restore_snapshot(self._life, int.from_bytes(content[-_NUMBER_BYTES:], "big"))
        restore(content[:-_NUMBER_BYTES])
        self._changed()


def _encoded(method: Method, returned: Any) -> tuple[bytes, bytes | None] | None:
    try:
        body, attachment = method.encode_return(returned)
    except OnerackError:
        return None  # The server finds that out too, and tells the caller.
    return body, None if attachment is None else bytes(attachment)
