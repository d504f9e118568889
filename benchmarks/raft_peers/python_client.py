"""A client library of etcd's in a Python of its own: it needs nothing of ours, for its protobuf may be another.

    python benchmarks/raft_peers/python_client.py aetcd put --endpoint 127.0.0.1:2379 --callers 256 --seconds 3

etcd3 blocks, so its callers are threads; aetcd's are coroutines. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.raft_peers.load import KEYS, VALUE_BYTES, WARMUP_S, coroutine_load, figures, keys


async def aetcd(op: str, host: str, port: int, callers: int, seconds: float) -> dict[str, float]:
    import aetcd as library

    async with library.Client(host=host, port=port) as client:

        async def put(key: bytes, value: bytes) -> object:
            return await client.put(key, value)

        async def get(key: bytes, value: bytes) -> object:
            return await client.get(key)

        return await coroutine_load(put if op == "put" else get, callers, seconds)


def etcd3(op: str, host: str, port: int, callers: int, seconds: float) -> dict[str, float]:
    import etcd3 as library

    client: Any = library.client(host=host, port=port)
    names, value = keys(), b"v" * VALUE_BYTES
    begin = time.perf_counter() + WARMUP_S
    end = begin + seconds
    times: list[float] = []

    def caller(number: int) -> None:
        place = number
        while (started := time.perf_counter()) < end:
            place = (place + 7919) % KEYS
            if op == "put":
                client.put(names[place], value)
            else:
                client.get(names[place])
            ended = time.perf_counter()
            if begin <= ended < end:
                times.append(ended - started)

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return figures(times, seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("library", choices=("aetcd", "etcd3"))
    parser.add_argument("op", choices=("put", "get"))
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--callers", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    host, _, port = options.endpoint.rpartition(":")
    if options.library == "etcd3":
        found = etcd3(options.op, host, int(port), options.callers, options.seconds)
    else:
        found = asyncio.run(aetcd(options.op, host, int(port), options.callers, options.seconds))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
