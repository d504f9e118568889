"""Blocking sockets and nothing else: what the machine can do. No calls, no types, no errors, one peer at a time.

`echo`: N callers are one message of N payloads that goes there and comes back whole. `push`: 1 MiB after 1 MiB into a
server that receives into one buffer (`--variant` names its size) and looks at nothing.
"""

from __future__ import annotations

import socket
import time

from benchmarks.rpc_peers.load import Meter, WrongReply, watched
from benchmarks.rpc_peers.server_process import ServerProcess, announce
from benchmarks.rpc_peers.task import PAYLOAD, Task, main

BUFFER_BYTES = {"": 1 << 20, "256KiB": 256 << 10, "1MiB": 1 << 20}


def serve(task: Task) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        announce(f"127.0.0.1:{listener.getsockname()[1]}")
        connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = bytearray(BUFFER_BYTES[task.variant])
        if task.case == "echo":
            give_back(connection, buffer)
        else:
            take(connection, buffer)


def give_back(connection: socket.socket, buffer: bytearray) -> None:
    view = memoryview(buffer)
    while size := connection.recv_into(buffer):
        connection.sendall(view[:size])


def take(connection: socket.socket, buffer: bytearray) -> None:
    total = 0
    while size := connection.recv_into(buffer):
        total += size
    connection.sendall(total.to_bytes(8, "little"))


def drive(task: Task, server: ServerProcess) -> dict[str, float]:
    meter = Meter(server)
    watching = watched(task, meter)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if task.case == "echo":
            go_and_return(connection, task, meter)
        else:
            push(connection, task, meter)
    watching.join()
    return meter.figures(0 if task.case == "echo" else task.size_bytes)


def go_and_return(connection: socket.socket, task: Task, meter: Meter) -> None:
    message = PAYLOAD * task.callers
    reply = memoryview(bytearray(len(message)))
    clock, times = time.perf_counter, meter.times_s
    before = clock()
    while not meter.is_closed:
        connection.sendall(message)
        size = 0
        while size < len(message):
            size += connection.recv_into(reply[size:])
        if reply != message:
            raise WrongReply
        now = clock()
        for _ in range(task.callers):
            times.append(now - before)
        before = now


def push(connection: socket.socket, task: Task, meter: Meter) -> None:
    body = bytes(task.size_bytes)
    clock, note = time.perf_counter, meter.times_s.append
    pushed = 0
    before = clock()
    while not meter.is_closed:
        connection.sendall(body)
        pushed += len(body)
        now = clock()
        note(now - before)
        before = now
    connection.shutdown(socket.SHUT_WR)
    if int.from_bytes(connection.recv(8), "little") != pushed:
        raise WrongReply


if __name__ == "__main__":
    main(serve, drive)
