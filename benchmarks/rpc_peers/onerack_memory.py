"""Does memory stay flat? Three phases, each a run of its own: `calls`, `sessions`, `reader`.

    calls      --count echo calls, 64 of them open
    sessions   --count sessions, each used for one call and left behind by a process that ends without a word, so that
               only the lease can end it; and as many that this process opens and closes in order
    reader     a stream of --count items whose reader stops after the first thousand for --seconds, then reads the rest

The idea: a rehearsal of a tenth (of the calls, sessions, seconds) comes first. What counts is the highest resident
memory after it over the highest in it, for both processes: a cache that fills and stays full is no leak.

The rule: allocator and garbage collector are left as they are.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

from benchmarks.rpc_peers.load import WrongReply
from benchmarks.rpc_peers.onerack_peer import Echo, EchoServer
from benchmarks.rpc_peers.peaks import Peaks
from benchmarks.rpc_peers.server_process import ServerProcess, announce, client_has_ended
from benchmarks.rpc_peers.task import NUMBER, TEXT, Task, main, run
from onerack import rpc
from onerack.config import RpcConfig

REHEARSAL = 10
"""A rehearsal is the so-manieth part."""
ITEMS_BEFORE_STOP = 1000
SESSIONS_PER_PROCESS = 250
PROCESSES_MIN = 4
"""They take longer than a lease, so that even a rehearsal sees as many sessions alive as there ever will be."""
LEASE_S = 1.0
CONFIG = RpcConfig(session_lease_s=LEASE_S, attempt_timeout_s=LEASE_S / 4, backoff_max_s=LEASE_S / 4, sessions_max=3000)
"""Leases end while the phase runs. Far fewer sessions are allowed than are opened: unless they end, it stops."""


async def calls(task: Task, address: str, share: int) -> None:
    async with await rpc.connect(Echo, address) as peer:
        left = iter(range(task.count // share))

        async def caller() -> None:
            for _ in left:
                if await peer.echo(TEXT, NUMBER) != TEXT:
                    raise WrongReply

        async with asyncio.TaskGroup() as group:
            for _ in range(task.callers):
                group.create_task(caller())


async def sessions(task: Task, address: str, share: int) -> None:
    for _ in range(max(task.count // share // SESSIONS_PER_PROCESS, PROCESSES_MIN)):
        program = [sys.executable, "-m", __spec__.name, "left-behind", "--address", address]
        process = await asyncio.create_subprocess_exec(*program)
        if await process.wait():
            raise WrongReply("the sessions to be left behind could not be opened")
        for _ in range(SESSIONS_PER_PROCESS):
            await opened_and_closed(address)
    await asyncio.sleep(2 * LEASE_S)


async def opened_and_closed(address: str) -> None:
    async with await rpc.connect(Echo, address) as peer:
        if await peer.echo(TEXT, NUMBER) != TEXT:
            raise WrongReply


async def left_behind(address: str) -> None:
    clients = [await rpc.connect(Echo, address) for _ in range(SESSIONS_PER_PROCESS)]
    for client in clients:
        await client.stub.echo(TEXT, NUMBER)
    os._exit(0)


async def reader(task: Task, address: str, share: int) -> None:
    async with await rpc.connect(Echo, address) as peer:
        expected = 0
        async for number in peer.count(task.count):
            if number != expected:
                raise WrongReply(f"item {expected} of the stream is {number}")
            expected += 1
            if expected == ITEMS_BEFORE_STOP:
                await asyncio.sleep(task.seconds / share)
        if expected != task.count:
            raise WrongReply(f"the stream ended after {expected} items")


PHASES: dict[str, Callable[[Task, str, int], Awaitable[None]]] = {
    "calls": calls,
    "sessions": sessions,
    "reader": reader,
}


async def driven(task: Task, server: ServerProcess) -> dict[str, float]:
    peaks = Peaks(server)
    watching = asyncio.create_task(peaks.watch())
    phase = PHASES[task.case]
    await phase(task, server.address, REHEARSAL)
    peaks.rehearsed()
    await phase(task, server.address, 1)
    watching.cancel()
    return peaks.figures()


async def served() -> None:
    async with await rpc.serve(Echo, EchoServer(), "tcp://127.0.0.1:0", config=CONFIG) as server:
        announce(server.address)
        await client_has_ended()


if __name__ == "__main__":
    if sys.argv[1] == "left-behind":
        asyncio.run(left_behind(sys.argv[3]))
    main(
        serve=lambda task: run(task, served()),
        drive=lambda task, server: run(task, driven(task, server)),
    )
