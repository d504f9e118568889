"""Ours: typed arguments, and every default on. Echo is at most once, so sessions, reply cache and its collection work.

`durable` is exactly once on a local log: the reply leaves after effect and record are on the disk. At the end the total
tells whether each call that was answered was executed, once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from benchmarks.rpc_peers.load import Meter, WrongReply, coroutine_load
from benchmarks.rpc_peers.server_process import ServerProcess, announce, client_has_ended
from benchmarks.rpc_peers.task import NUMBER, TEXT, Task, main, run
from onerack import rpc


class Echo(Protocol):
    async def echo(self, text: str, number: int) -> str: ...

    @rpc.readonly
    async def push(self, body: rpc.Attachment) -> int: ...

    @rpc.readonly
    def count(self, upto: int) -> AsyncIterator[int]: ...


class EchoServer:
    def echo(self, text: str, number: int) -> str:
        return text

    def push(self, body: rpc.Attachment) -> int:
        return len(body)

    async def count(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number


class Tally(Protocol):
    @rpc.exactly_once
    async def add(self, amount: int) -> int: ...


class TallyServer:
    def __init__(self) -> None:
        self.total = 0

    def add(self, amount: int) -> int:
        self.total += amount
        return self.total

    def snapshot(self) -> bytes:
        return b"%d" % self.total

    def restore(self, state: bytes) -> None:
        self.total = int(state)


async def served(task: Task) -> None:
    if task.case == "durable":
        durable_host = rpc.LocalLog(task.directory)
        server = await rpc.serve(Tally, TallyServer(), "tcp://127.0.0.1:0", durable=durable_host)
    else:
        server = await rpc.serve(Echo, EchoServer(), "tcp://127.0.0.1:0")
    async with server:
        announce(server.address)
        await client_has_ended()


async def driven(task: Task, server: ServerProcess) -> dict[str, float]:
    if task.case == "durable":
        return await durable(task, server)
    async with await rpc.connect(Echo, server.address) as peer:
        if task.case == "echo":
            return (await coroutine_load(task, server, lambda: peer.echo(TEXT, NUMBER), TEXT)).figures()
        body = bytes(task.size_bytes)
        meter = await coroutine_load(task, server, lambda: peer.push(body), len(body))
        return meter.figures(task.size_bytes)


async def durable(task: Task, server: ServerProcess) -> dict[str, float]:
    answered = 0
    async with await rpc.connect(Tally, server.address) as peer:

        async def add() -> None:
            nonlocal answered
            await peer.add(1)
            answered += 1

        meter: Meter = await coroutine_load(task, server, add, None)
        if await peer.add(0) != answered:
            raise WrongReply(f"{answered} calls were answered, the total is another")
    return meter.figures()


if __name__ == "__main__":
    main(
        serve=lambda task: run(task, served(task)),
        drive=lambda task, server: run(task, driven(task, server)),
    )
