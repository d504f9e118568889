"""PySyncObj, made durable: three processes, a journal that is synced with each entry; the load is in the leader itself.

    PYTHON benchmarks/raft_peers/pysyncobj_node.py --callers 256 --seconds 3 --directory /tmp/x

The library never syncs. Here each append to its journal is followed by fsync, as its own users propose. The load inside
the leader is its best case: no client, no network between. Needs nothing of ours; prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.raft_peers.load import VALUE_BYTES, WARMUP_S, figures
from benchmarks.raft_peers.ports import free_ports
from benchmarks.raft_peers.trio import run_trio


def serve(own: str, others: list[str], journal: str, callers: int, seconds: float) -> None:
    from pysyncobj import SyncObj, SyncObjConf, replicated
    from pysyncobj import journal as journals

    add = journals.FileJournal.add

    def durable_add(self: object, command: bytes, index: int, term: int) -> None:
        add(self, command, index, term)
        with open(journal, "rb") as file:
            os.fsync(file.fileno())

    journals.FileJournal.add = durable_add

    class Store(SyncObj):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(own, others, SyncObjConf(journalFile=journal, appendEntriesUseBatch=True))
            self._values: dict[bytes, bytes] = {}

        @replicated  # type: ignore[untyped-decorator]
        def put(self, key: bytes, value: bytes) -> None:
            self._values[key] = value

    store = Store()
    while not (store.isReady() and store._getLeader() is not None):
        time.sleep(0.05)
    if str(store._getLeader()) == own:
        print(json.dumps(load(store, callers, seconds)), flush=True)
    else:
        print("follows", flush=True)
    sys.stdin.read()
    os._exit(0)


def load(store: object, callers: int, seconds: float) -> dict[str, float]:
    value = b"v" * VALUE_BYTES
    begin = time.perf_counter() + WARMUP_S
    end = begin + seconds
    times: list[float] = []
    open_callers = threading.Semaphore(0)

    def call(number: int) -> None:
        started = time.perf_counter()

        def done(result: object, error: object) -> None:
            ended = time.perf_counter()
            if begin <= ended < end and not error:
                times.append(ended - started)
            if ended < end:
                call(number + 7919)
            else:
                open_callers.release()

        store.put(b"%08d" % (number % 10_000), value, callback=done)  # type: ignore[attr-defined]

    for number in range(callers):
        call(number)
    for _ in range(callers):
        open_callers.acquire()
    return figures(times, seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--callers", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--own", default="")
    parser.add_argument("--others", default="")
    options = parser.parse_args()
    if options.own:
        journal = str(options.directory / options.own.replace(":", "-"))
        serve(options.own, options.others.split(","), journal, options.callers, options.seconds)
        return
    options.directory.mkdir(parents=True)
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    commands = []
    for own in addresses:
        others = ",".join(other for other in addresses if other != own)
        commands.append([sys.executable, __file__, *sys.argv[1:], "--own", own, "--others", others])
    run_trio(commands)


if __name__ == "__main__":
    main()
