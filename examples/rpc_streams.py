"""Streams and attachments, and a client without an event loop: a small store of files.

    python examples/rpc_streams.py FILE

Bytes travel as attachments, which are not copied into a message; what comes piece by piece travels as a stream, in
either direction, no faster than its reader reads. The server runs in a thread here, so that one file shows both.
"""

import asyncio
import hashlib
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from onerack import rpc
from onerack.rpc import blocking


class Store(Protocol):
    async def put(self, name: str, content: rpc.Attachment) -> str: ...
    @rpc.readonly
    async def get(self, name: str) -> rpc.Attachment: ...
    @rpc.readonly
    def lines(self, name: str) -> AsyncIterator[str]: ...
    async def append(self, name: str, lines: AsyncIterator[str]) -> int: ...


class MemoryStore:
    def __init__(self):
        self.files = {}

    def put(self, name, content):
        self.files[name] = bytes(content)
        return hashlib.sha256(content).hexdigest()

    def get(self, name):
        return self.files[name]

    async def lines(self, name):
        for line in self.files[name].decode().splitlines():
            yield line

    async def append(self, name, lines):
        self.files[name] += "".join([f"{line}\n" async for line in lines]).encode()
        return len(self.files[name])


def serve(started, address):
    async def serving():
        server = await rpc.serve(Store, MemoryStore(), "tcp://127.0.0.1:0")
        address.append(server.address)
        started.set()
        await server.wait()

    asyncio.run(serving())


path = Path(sys.argv[1] if len(sys.argv) > 1 else __file__)
started, address = threading.Event(), list[str]()
threading.Thread(target=serve, args=(started, address), daemon=True).start()
started.wait()

with blocking.connect(Store, address[0], deadline=10) as store:
    digest = store.put(path.name, path.read_bytes())
    assert digest == hashlib.sha256(store.get(path.name)).hexdigest()
    print(path.name, digest[:12], "and one more line:", store.append(path.name, ["the end"]), "bytes")
    for number, line in enumerate(store.lines(path.name), start=1):
        last = f"{number}: {line}"
    print(last)
