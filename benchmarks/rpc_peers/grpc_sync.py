"""grpcio with blocking handlers: threads over the C core. Raw bytes through generic handlers, without protobuf.

One caller simply calls and waits. For several, a thread each was slower than futures, where the completion of a call
makes the next one; so that is what is measured.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

from benchmarks.rpc_peers.load import Meter, WrongReply, thread_load, watched
from benchmarks.rpc_peers.server_process import ServerProcess, announce, wait_for_client_to_end
from benchmarks.rpc_peers.task import PAYLOAD, Task, main

OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
SERVER_THREADS = 4
"""The handlers only return. One thread was slower; ten were no faster."""


def echo(request: bytes, context: object) -> bytes:
    return request


def push(request: bytes, context: object) -> bytes:
    return len(request).to_bytes(8, "little")


HANDLERS = {
    "echo": grpc.unary_unary_rpc_method_handler(echo),
    "push": grpc.unary_unary_rpc_method_handler(push),
}


def serve(task: Task) -> None:
    server = grpc.server(ThreadPoolExecutor(SERVER_THREADS), options=OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", HANDLERS),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    announce(f"127.0.0.1:{port}")
    wait_for_client_to_end()
    server.stop(None).wait()


def drive(task: Task, server: ServerProcess) -> dict[str, float]:
    if task.case == "echo":
        method, request, expected = "/bench/echo", PAYLOAD, PAYLOAD
    else:
        method, request = "/bench/push", bytes(task.size_bytes)
        expected = task.size_bytes.to_bytes(8, "little")
    with grpc.insecure_channel(server.address, options=OPTIONS) as channel:
        call = channel.unary_unary(method)
        if task.callers == 1:
            meter = thread_load(task, server, lambda: call(request), expected)
        else:
            meter = future_load(task, server, call, request, expected)
    return meter.figures(0 if task.case == "echo" else task.size_bytes)


def future_load(
    task: Task, server: ServerProcess, call: grpc.UnaryUnaryMultiCallable, request: bytes, expected: bytes
) -> Meter:
    meter = Meter(server)
    clock = time.perf_counter
    left = threading.Semaphore(0)
    failures: list[str] = []

    def make(before: float) -> None:
        def completed(future: grpc.Future) -> None:
            now = clock()
            meter.times_s.append(now - before)
            if future.exception() or future.result() != expected:
                failures.append(repr(future.exception()))
            if meter.is_closed or failures:
                left.release()
            else:
                make(now)

        call.future(request).add_done_callback(completed)

    watching = watched(task, meter)
    for _ in range(task.callers):
        make(clock())
    for _ in range(task.callers):
        left.acquire()
    watching.join()
    if failures:
        raise WrongReply(failures[0])
    return meter


if __name__ == "__main__":
    main(serve, drive)
