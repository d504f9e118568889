"""grpc.aio: coroutines over the C core. Raw bytes through generic handlers, without protobuf: its best case.

`bulk` has two formulations: a unary call for each piece, and `stream`, one client stream that carries all pieces.
Other channel options (frame size, look-ahead, sizes of reads and writes, the minimal stack, no retries) made no
difference that stood out of the noise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from grpc import aio

from benchmarks.rpc_peers.load import Meter, coroutine_load
from benchmarks.rpc_peers.server_process import ServerProcess, announce, client_has_ended
from benchmarks.rpc_peers.task import PAYLOAD, Task, main, run

OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


async def echo(request: bytes, context: object) -> bytes:
    return request


async def push(request: bytes, context: object) -> bytes:
    return len(request).to_bytes(8, "little")


async def push_all(requests: AsyncIterator[bytes], context: object) -> bytes:
    total = 0
    async for piece in requests:
        total += len(piece)
    return total.to_bytes(8, "little")


HANDLERS = {
    "echo": grpc.unary_unary_rpc_method_handler(echo),
    "push": grpc.unary_unary_rpc_method_handler(push),
    "push_all": grpc.stream_unary_rpc_method_handler(push_all),
}


async def served() -> None:
    server = aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", HANDLERS),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    announce(f"127.0.0.1:{port}")
    await client_has_ended()
    await server.stop(None)


async def driven(task: Task, server: ServerProcess) -> dict[str, float]:
    async with aio.insecure_channel(server.address, options=OPTIONS) as channel:
        if task.case == "echo":
            call = channel.unary_unary("/bench/echo")
            return (await coroutine_load(task, server, lambda: call(PAYLOAD), PAYLOAD)).figures()
        body = bytes(task.size_bytes)
        if task.variant == "stream":
            return await stream(task, server, channel, body)
        push = channel.unary_unary("/bench/push")
        meter = await coroutine_load(task, server, lambda: push(body), len(body).to_bytes(8, "little"))
        return meter.figures(task.size_bytes)


async def stream(task: Task, server: ServerProcess, channel: aio.Channel, body: bytes) -> dict[str, float]:
    call = channel.stream_unary("/bench/push_all")()
    written = 0

    async def write() -> None:
        nonlocal written
        await call.write(body)
        written += 1

    meter: Meter = await coroutine_load(task, server, write, None)
    await call.done_writing()
    assert int.from_bytes(await call, "little") == written * task.size_bytes
    return meter.figures(task.size_bytes)


if __name__ == "__main__":
    main(
        serve=lambda task: run(task, served()),
        drive=lambda task, server: run(task, driven(task, server)),
    )
