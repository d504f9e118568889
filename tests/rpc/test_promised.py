"""Plain handlers that return a future: answered when it is done, without a task for each."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import pytest

from onerack import rpc
from onerack.errors import ApplicationError, Unknown
from tests.rpc.services import run


class Teller(Protocol):
    """Answers when it is told to."""

    async def ask(self, name: str) -> int: ...
    async def send(self, body: rpc.Attachment) -> int: ...


class TellerServer:
    def __init__(self) -> None:
        self.asked: dict[str, asyncio.Future[Any]] = {}

    def ask(self, name: str) -> asyncio.Future[Any]:
        self.asked[name] = asyncio.get_running_loop().create_future()
        return self.asked[name]

    def send(self, body: rpc.Attachment) -> asyncio.Future[Any]:
        return self.ask(bytes(body).decode())

    async def until(self, count: int) -> None:
        while len(self.asked) < count:
            await asyncio.sleep(0)


class Scene:
    """A server and its client."""

    def __init__(self, **settings: Any) -> None:
        self.teller = TellerServer()
        self._settings = settings

    async def __aenter__(self) -> Scene:
        self.server = await rpc.serve(Teller, self.teller, "memory://teller", **self._settings)
        self.client = await rpc.connect(Teller, "memory://teller")
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.client.close()
        await self.server.close(drain_s=0)


def test_an_answer_leaves_when_the_future_is_done_in_any_order() -> None:
    async def test() -> None:
        async with Scene() as scene:
            names = [str(number) for number in range(300)]
            calls = [asyncio.create_task(scene.client.stub.ask(name)) for name in names]
            await scene.teller.until(300)
            tasks_before = len(asyncio.all_tasks())
            assert scene.server.open_calls == 300
            assert not any(call.done() for call in calls)
            for name in reversed(names):
                scene.teller.asked[name].set_result(int(name))
            assert await asyncio.gather(*calls) == list(range(300))
            assert scene.server.open_calls == 0
            assert tasks_before < 300 + 20  # the callers are tasks; the handlers are none

    run(test)


def test_an_attachment_does_not_change_that() -> None:
    async def test() -> None:
        async with Scene() as scene:
            call = asyncio.create_task(scene.client.stub.send(b"big"))
            await scene.teller.until(1)
            scene.teller.asked["big"].set_result(3)
            assert await call == 3

    run(test)


def test_with_interceptors_the_future_is_awaited() -> None:
    async def count(call: Any, proceed: Any) -> Any:
        return await proceed() + 1

    async def test() -> None:
        async with Scene(interceptors=[count]) as scene:
            call = asyncio.create_task(scene.client.stub.ask("x"))
            await scene.teller.until(1)
            scene.teller.asked["x"].set_result(6)
            assert await call == 7

    run(test)


def test_an_exception_of_the_future_is_the_handler_s() -> None:
    async def test() -> None:
        async with Scene() as scene:
            call = asyncio.create_task(scene.client.stub.ask("x"))
            await scene.teller.until(1)
            scene.teller.asked["x"].set_exception(ApplicationError("no such name", cause="unknown_name"))
            with pytest.raises(ApplicationError, match="no such name") as caught:
                await call
            assert caught.value.cause == "unknown_name"
            wrong = asyncio.create_task(scene.client.stub.ask("y"))
            await scene.teller.until(2)
            scene.teller.asked["y"].set_result(object())
            with pytest.raises(ApplicationError):
                await wrong

    run(test)


def test_a_server_that_stops_waits_for_promises_and_then_breaks_them() -> None:
    async def test() -> None:
        async with Scene() as scene:
            kept = asyncio.create_task(scene.client.stub.ask("kept"))
            await scene.teller.until(1)
            closing = asyncio.create_task(scene.server.close())
            await asyncio.sleep(0)
            assert not closing.done()
            scene.teller.asked["kept"].set_result(1)
            assert await kept == 1
            await closing
        async with Scene() as scene:
            broken = asyncio.create_task(scene.client.stub.ask("broken"))
            await scene.teller.until(1)
            await scene.server.close(drain_s=0)
            with pytest.raises(Unknown):
                await broken
            assert scene.teller.asked["broken"].cancelled()

    run(test)


def test_a_caller_who_leaves_disturbs_nobody() -> None:
    async def test() -> None:
        async with Scene() as scene:
            call = asyncio.create_task(scene.client.stub.ask("x"))
            await scene.teller.until(1)
            await scene.client.close()
            with pytest.raises(Unknown):
                await call
            scene.teller.asked["x"].set_result(1)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert scene.server.open_calls == 0

    run(test)
