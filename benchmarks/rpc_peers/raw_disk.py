"""A disk and nothing else: a small record appended, then fdatasync, again and again. On it stands group commit."""

from __future__ import annotations

import os
import time

from benchmarks.rpc_peers.load import Meter, watched
from benchmarks.rpc_peers.server_process import ServerProcess, announce, wait_for_client_to_end
from benchmarks.rpc_peers.task import PAYLOAD, Task, main


def serve(task: Task) -> None:
    announce("nowhere")
    wait_for_client_to_end()


def drive(task: Task, server: ServerProcess) -> dict[str, float]:
    meter = Meter(server)
    watching = watched(task, meter)
    clock, note = time.perf_counter, meter.times_s.append
    task.directory.mkdir(parents=True)
    file = os.open(task.directory / "records", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    before = clock()
    while not meter.is_closed:
        os.write(file, PAYLOAD)
        os.fdatasync(file)
        now = clock()
        note(now - before)
        before = now
    os.close(file)
    watching.join()
    return meter.figures()


if __name__ == "__main__":
    main(serve, drive)
