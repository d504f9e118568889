"""RPyC: object proxies over one socket. The remote method is fetched once; arguments are plain values, never proxies.

One thread keeps all calls open: each reply's callback makes the next call. Without compression (it is on by default for
everything longer than 3,000 bytes), without Nagle's delay, without log lines.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import rpyc
from rpyc.core.channel import Channel
from rpyc.core.stream import SocketStream
from rpyc.utils.server import OneShotServer

from benchmarks.rpc_peers.load import Meter, WrongReply, watched
from benchmarks.rpc_peers.server_process import ServerProcess, announce
from benchmarks.rpc_peers.task import NUMBER, TEXT, Task, main


class Service(rpyc.Service):  # type: ignore[misc]  # RPyC has no types
    def exposed_echo(self, text: str, number: int) -> str:
        return text

    def exposed_push(self, body: bytes) -> int:
        return len(body)


def serve(task: Task) -> None:
    logging.disable()
    server = OneShotServer(Service, hostname="127.0.0.1", port=0)
    server.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server.listener.listen()
    announce(f"127.0.0.1:{server.port}")
    server.start()


def drive(task: Task, server: ServerProcess) -> dict[str, float]:
    stream = SocketStream.connect("127.0.0.1", server.port, nodelay=True)
    connection = rpyc.connect_channel(Channel(stream, compress=False))
    if task.case == "echo":
        echo = rpyc.async_(connection.root.echo)
        meter = callback_load(task, server, connection, lambda: echo(TEXT, NUMBER), TEXT)
    else:
        push, body = rpyc.async_(connection.root.push), bytes(task.size_bytes)
        meter = callback_load(task, server, connection, lambda: push(body), len(body))
    connection.close()
    return meter.figures(0 if task.case == "echo" else task.size_bytes)


def callback_load(
    task: Task, server: ServerProcess, connection: Any, call: Callable[[], Any], expected: object
) -> Meter:
    meter = Meter(server)
    clock = time.perf_counter
    open_calls = task.callers

    def make(before: float) -> None:
        def completed(result: Any) -> None:
            nonlocal open_calls
            if result.value != expected:
                raise WrongReply
            now = clock()
            meter.times_s.append(now - before)
            if meter.is_closed:
                open_calls -= 1
            else:
                make(now)

        call().add_callback(completed)

    watching = watched(task, meter)
    for _ in range(task.callers):
        make(clock())
    while open_calls:
        connection.serve()
    watching.join()
    return meter


if __name__ == "__main__":
    main(serve, drive)
