"""Clients: processes that call, and the stubs by which a scenario has them call.

The idea: the scenario itself belongs to no node and never dies. A stub that it holds hands each call over to the
client's process, where the production client makes it, and waits for the outcome. A call whose process dies ends as
Unknown (cause "crashed"), since nobody knows whether it was executed; later calls wait until the process is there
again, as a new client that remembers nothing.

The rule: within the client's process all is production code; the stub adds nothing but a tag by which the ledger knows
the call, and which never reaches the wire.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from contextvars import copy_context
from typing import Any, Final, Protocol

from onerack.errors import CallError, Unknown
from onerack.rpc.context import options
from onerack.rpc.interface import Interface, Method
from onerack.sim.rpc_world.calls import TAG, Call, Ledger
from onerack.sim.rpc_world.disk import LifeDisk
from onerack.sim.rpc_world.judge import Judge
from onerack.sim.rpc_world.lives import Life, PowerLost, current_life
from onerack.sim.rpc_world.nodes import Ground, Node

WORDS_MAX: Final = 100


class Connected(Protocol):
    """What `connect` gives, as far as it is needed here."""

    stub: Any

    async def close(self) -> None: ...


class SimClient:
    """One client process of one interface."""

    def __init__(
        self,
        ground: Ground,
        ledger: Ledger,
        judge: Judge,
        name: str,
        interface: Interface,
        connect: Callable[[], Awaitable[Connected]],
    ) -> None:
        self.node = Node(ground, name, "client", self._boot, self._stop)
        self._ground = ground
        self._ledger = ledger
        self._judge = judge
        self._interface = interface
        self._connect = connect
        self._client: Connected | None = None

    async def _boot(self, life: Life, disk: LifeDisk) -> None:
        self._client = await self._connect()

    async def _stop(self) -> None:
        if self._client is not None:
            await self._client.close()

    def stub(self) -> Any:
        """An object with the interface's methods, for the scenario."""
        members = {
            name: staticmethod(self._streaming(method) if method.result_is_stream else self._waiting(method))
            for name, method in self._interface.methods.items()
        }
        return type(f"{self._interface.name.rpartition('.')[2]}Stub", (), members)()

    # ------------------------------------------------------------------------------------------------ one result

    def _waiting(self, method: Method) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            known = self._begin(method, args, kwargs)
            life = await self._living()
            outcome: asyncio.Future[Any] = self._ground.loop.create_future()

            async def make() -> Any:
                with options(metadata={TAG: str(known.number)}):
                    return await self._function(method)(*args, **kwargs)

            def made(task: asyncio.Task[Any]) -> None:
                if outcome.done() or task.cancelled():
                    outcome.cancel()
                elif isinstance(error := task.exception(), PowerLost):
                    return
                elif error is not None:
                    outcome.set_exception(error)
                else:
                    outcome.set_result(task.result())

            task = self._within(life, make())
            task.add_done_callback(made)
            return await self._outcome(known, method, life, task, outcome)

        return call

    async def _outcome(
        self, call: Call, method: Method, life: Life, task: asyncio.Task[Any], outcome: asyncio.Future[Any]
    ) -> Any:
        def crashed() -> None:
            if not outcome.done():
                outcome.set_exception(_crashed(life, method))

        life.ended[crashed] = None
        try:
            call.value = await outcome
        except CallError as error:
            call.error = error
            raise
        except asyncio.CancelledError:
            task.cancel()
            self._ground.trace.note(call.client, "loses interest", call=call.number)
            raise
        else:
            return call.value
        finally:
            life.ended.pop(crashed, None)
            if call.error is not None or (outcome.done() and not outcome.cancelled() and outcome.exception() is None):
                call.is_over = True
                self._judge.ended(call, method)

    # ------------------------------------------------------------------------------------------------ streams

    def _streaming(self, method: Method) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            known = self._begin(method, args, kwargs)
            life = await self._living()
            handover = _Handover()

            async def make() -> None:
                try:
                    with options(metadata={TAG: str(known.number)}):
                        stream = self._function(method)(*args, **kwargs)
                    async with aclosing(stream):
                        async for item in stream:
                            await handover.put(item)
                except Exception as error:
                    handover.end(error)
                else:
                    handover.end(None)

            def crashed() -> None:
                handover.end(_crashed(life, method))

            life.ended[crashed] = None
            task = self._within(life, make())
            try:
                while (item := await handover.take()) is not handover:
                    yield item
                known.is_over = True
            except CallError as error:
                known.error, known.is_over = error, True
                raise
            finally:
                task.cancel()
                life.ended.pop(crashed, None)
                if known.is_over:
                    self._judge.ended(known, method)

        return call

    # ------------------------------------------------------------------------------------------------ both

    def _begin(self, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        shown = [f"{value!r:.40}" for value in args] + [f"{name}={value!r:.40}" for name, value in kwargs.items()]
        words = f"{method.full_name}({', '.join(shown)})"
        return self._ledger.begin(self.node.name, method.full_name, words[:WORDS_MAX])

    def _function(self, method: Method) -> Callable[..., Any]:
        assert self._client is not None
        function: Callable[..., Any] = getattr(self._client.stub, method.name)
        return function

    async def _living(self) -> Life:
        while self.node.life is None or not self.node.up.is_set():
            await self.node.up.wait()
        return self.node.life

    def _within(self, life: Life, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """What the caller has set (deadline, mode) goes along."""
        context = copy_context()
        context.run(current_life.set, life)
        return self._ground.loop.create_task(coroutine, context=context)


def _crashed(life: Life, method: Method) -> Unknown:
    return Unknown(f"{method.full_name}: {life.name} crashed; it may have been executed", cause="crashed")


class _Handover:
    """One item at a time from a client's process to the scenario."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._bell = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None

    async def put(self, item: Any) -> None:
        self._items.append(item)
        self._bell.set()
        self._room.clear()
        await self._room.wait()

    def end(self, error: Exception | None) -> None:
        if not self._ended:
            self._ended, self._error = True, error
            self._bell.set()

    async def take(self) -> Any:
        """The next item; the handover itself at the end."""
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._ended:
                return self
            self._bell.clear()
            await self._bell.wait()
        self._room.set()
        return self._items.popleft()
