"""One node as a process of its own: `python -m tests.raft.server.child DIRECTORY NAME MEMBERS ADDRESS CONFIG`.

Prints a line when it takes part. Ends when its standard input does, so that no test leaves one behind.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from typing import Any, Protocol

import msgspec

from onerack import rpc
from onerack.config import RaftConfig
from onerack.errors import CallError
from onerack.raft.commands import USER
from onerack.raft.server import RaftNode
from tests.raft.server.group import Lists, append


class Answer(msgspec.Struct, frozen=True):
    """What came of it, with its certainty."""

    executed: bool | None
    values: tuple[int, ...] = ()
    cause: str = ""


class Look(msgspec.Struct, frozen=True):
    leads: bool
    leader: str
    term: int
    applied: int
    full: bool
    snapshot_index: int


class Store(Protocol):
    @rpc.at_most_once
    async def append(self, key: str, value: int, padding: int = 0) -> Answer: ...

    @rpc.at_most_once
    async def read(self, key: str) -> Answer: ...

    @rpc.readonly
    async def look(self) -> Look: ...

    @rpc.at_most_once
    async def snapshot(self) -> None: ...


class StoreServer:
    def __init__(self, machine: Lists) -> None:
        self._machine = machine
        self.node: RaftNode

    async def append(self, key: str, value: int, padding: int = 0) -> Answer:
        command = msgspec.msgpack.encode((key, value, bytes(padding))) if padding else append(key, value)
        try:
            await self.node.execute(USER, command)
        except CallError as error:
            return Answer(error.executed, cause=error.cause)
        return Answer(True)

    async def read(self, key: str) -> Answer:
        try:
            await self.node.catch_up()
        except CallError as error:
            return Answer(error.executed, cause=error.cause)
        return Answer(True, tuple(self._machine.of(key)))

    def look(self) -> Look:
        node = self.node
        return Look(
            node.is_leader, node.leader, node.term, node.applied, node.storage_full is not None,
            node.status().snapshot_index,
        )  # fmt: skip

    async def snapshot(self) -> None:
        await self.node.take_snapshot()


async def main(directory: str, name: str, members: str, address: str, config: str) -> None:
    machine = Lists()
    server = StoreServer(machine)
    services: dict[Any, Any] = {Store: server}
    server.node = RaftNode(
        name,
        directory,
        members=msgspec.json.decode(members, type=dict[str, str]),
        machines={USER: machine},
        address=address,
        services=services,
        request_timeout_s=3.0,
        config=msgspec.json.decode(config, type=RaftConfig),
    )
    async with server.node:
        print("ready", flush=True)
        await server.node.wait()


def end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(message)s")
    threading.Thread(target=end_with_parent, daemon=True).start()
    asyncio.run(main(*sys.argv[1:]))
