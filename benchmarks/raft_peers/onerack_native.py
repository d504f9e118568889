"""What a Python program gets of ours: our client, our servers; three nodes, each write on two disks before its answer.

python -m benchmarks.raft_peers.onerack_native put --callers 256 --seconds 3 --directory /tmp/x
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from benchmarks.ours.marks import leave
from benchmarks.raft_peers.clusters import OURS, cluster
from benchmarks.raft_peers.load import coroutine_load
from onerack.kv.client import connect


async def drive(op: str, address: str, callers: int, seconds: float) -> dict[str, float]:
    async with await connect(address, cluster="benchmark") as store:

        async def put(key: bytes, value: bytes) -> object:
            return await store.put(key, value)

        async def get(key: bytes, value: bytes) -> object:
            return await store.get(key)

        return await coroutine_load(put if op == "put" else get, callers, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("op", choices=("put", "get"))
    parser.add_argument("--callers", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args()
    factory = None
    if options.loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with cluster(OURS, options.directory) as one, asyncio.Runner(loop_factory=factory) as runner:
        figures = runner.run(drive(options.op, one.leader().rpc, options.callers, options.seconds))
    print(json.dumps(figures))
    leave(**figures)


if __name__ == "__main__":
    main()
