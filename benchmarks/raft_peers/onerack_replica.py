"""Our library as PySyncObj is used: a machine of one's own in three processes, and the load in the leader itself.

    python -m benchmarks.raft_peers.onerack_replica --callers 256 --seconds 3 --directory /tmp/x

The machine is a dict, the callers are callbacks, as in pysyncobj_node.py; each command is on two disks before its
callback is called. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path

from benchmarks.raft_peers.load import VALUE_BYTES, WARMUP_S, figures
from benchmarks.raft_peers.ports import free_ports
from benchmarks.raft_peers.trio import run_trio
from onerack.raft import RaftNode, Replica
from onerack.raft.commands import USER

KEY_BYTES = 8


class Store:
    """What is replicated."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}

    def apply(self, command: bytes) -> None:
        self._values[command[:KEY_BYTES]] = command[KEY_BYTES:]

    def snapshot(self) -> bytes:
        return b"".join(key + value for key, value in self._values.items())

    def restore(self, snapshot: bytes) -> None:
        size = KEY_BYTES + VALUE_BYTES
        rows = (snapshot[at : at + size] for at in range(0, len(snapshot), size))
        self._values = {row[:KEY_BYTES]: row[KEY_BYTES:] for row in rows}


async def serve(own: str, members: dict[str, str], directory: Path, callers: int, seconds: float) -> None:
    async with Replica(Store(), own, directory / own, members=members) as replica:
        node = replica.node
        await replica.read(lambda _store: None)
        if node.is_leader:
            print(json.dumps(await load(node, callers, seconds)), flush=True)
        else:
            print("follows", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        os._exit(0)


async def load(node: RaftNode, callers: int, seconds: float) -> dict[str, float]:
    value = b"v" * VALUE_BYTES
    begin = time.perf_counter() + WARMUP_S
    end = begin + seconds
    times: list[float] = []
    open_callers = callers
    over = asyncio.get_running_loop().create_future()

    def call(number: int) -> None:
        started = time.perf_counter()

        def done(result: object) -> None:
            nonlocal open_callers
            ended = time.perf_counter()
            if begin <= ended < end and result is None:
                times.append(ended - started)
            if ended < end:
                call(number + 7919)
                return
            open_callers -= 1
            if not open_callers:
                over.set_result(None)

        node.propose(USER, b"%08d" % (number % 10_000) + value, done)

    for number in range(callers):
        call(number)
    await over
    return figures(times, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--callers", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--own", default="")
    parser.add_argument("--members", default="")
    options = parser.parse_args()
    if options.own:
        members = dict(each.split("=", 1) for each in options.members.split(","))
        asyncio.run(serve(options.own, members, options.directory, options.callers, options.seconds))
        return
    options.directory.mkdir(parents=True)
    names = ("n1", "n2", "n3")
    everybody = ",".join(f"{name}=tcp://127.0.0.1:{port}" for name, port in zip(names, free_ports(3), strict=True))
    commands = []
    for own in names:
        command = [sys.executable, "-m", "benchmarks.raft_peers.onerack_replica", *sys.argv[1:]]
        commands.append([*command, "--own", own, "--members", everybody])
    run_trio(commands)


if __name__ == "__main__":
    main()
