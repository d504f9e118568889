"""A story told by the library aetcd, in an environment of its own: `python story_aetcd.py HOST:PORT`.

It prints what happens, one line for each thing; with us and with etcd it must be the same.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import tempfile
from typing import Any

aetcd: Any = importlib.import_module("aetcd")
"""It is in this environment, and not in that of the type checker."""


def tell(*words: object) -> None:
    print(*words, flush=True)


async def keys(client: Any) -> None:
    await client.put(b"k/1", b"one")
    found = await client.get(b"k/1")
    tell("get", found.value, found.version, found.mod_revision, await client.get(b"missing"))
    tell("replace", await client.replace(b"k/1", b"one", b"two"), await client.replace(b"k/1", b"one", b"three"))
    await client.put(b"k/2", b"x")
    tell("prefix", [(kv.key, kv.value) for kv in await client.get_prefix(b"k/")])
    tell("range", [kv.value for kv in await client.get_range(b"k/1", b"k/2")])
    tell("delete", await client.delete(b"k/2") is not None, await client.delete(b"k/2"))
    made = await client.transaction(
        compare=[client.transactions.value(b"k/1") == b"two"],
        success=[client.transactions.put(b"k/1", b"three"), client.transactions.get(b"k/1")],
        failure=[client.transactions.delete(b"k/1")],
    )
    tell("txn", made[0], (await client.get(b"k/1")).value)


async def watches(client: Any) -> None:
    async def put() -> None:
        for n in range(3):
            await client.put(b"w/%d" % n, b"%d" % n)
        await client.delete(b"w/1")

    watch = await client.watch_prefix(b"w/")
    task = asyncio.create_task(put())
    count = 0
    async for event in watch:
        tell("watch", event.kind, event.kv.key, event.kv.value)
        count += 1
        if count == 4:
            await watch.cancel()
            break
    await task


async def leases(client: Any) -> None:
    lease = await client.lease(20)
    await client.put(b"leased", b"x", lease=lease)
    tell("lease", lease.ttl, await lease.remaining_ttl() > 15, await lease.keys())
    tell("refresh", (await lease.refresh()).TTL)
    await lease.revoke()
    tell("revoked", await client.get(b"leased"))
    async with client.lock(b"lock", ttl=20) as lock:
        tell("locked", await lock.is_acquired())


async def cluster(client: Any) -> None:
    status = await client.status()
    tell("status", status.version.startswith("3.4"), status.raft_term > 0, status.db_size > 0)
    tell("members", [member.name async for member in client.members()])
    await client.defragment()
    with tempfile.TemporaryFile() as file:
        await client.snapshot(file)
        tell("snapshot", file.tell() % 512)


async def main(endpoint: str) -> None:
    host, port = endpoint.split(":")
    async with aetcd.Client(host=host, port=int(port), timeout=10) as client:
        for part in (keys, watches, leases, cluster):
            await part(client)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
