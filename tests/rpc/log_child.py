"""The process that test_durable_process.py kills: it works on a log as fast as it can, and says how far it is."""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec

from onerack.config import RpcConfig
from onerack.errors import CallError
from onerack.rpc.durable.log import LocalLog

IN_FLIGHT = 64


def named(index: int) -> bytes:
    """The command at this place of the log."""
    return f"command {index} ".encode() * (1 + index % 7)


class Counter:
    """A Machine that counts its commands."""

    def __init__(self) -> None:
        self.count = 0

    def apply(self, index: int, command: bytes) -> None:
        assert command == named(index)
        self.count = index

    def applied(self) -> None:
        # One write, so that what the parent reads is whole.
        os.write(1, b"%d\n" % self.count)

    def dropped(self, command: bytes, error: CallError) -> None:
        raise error

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.count)

    def restore(self, snapshot: bytes) -> None:
        self.count = msgspec.msgpack.decode(snapshot, type=int)


async def work(directory: str, in_thread: bool) -> None:
    log = LocalLog(directory, config=RpcConfig(snapshot_after_bytes=20_000), in_thread=in_thread)
    counter = Counter()
    await log.start(counter)
    proposed = counter.count
    while True:
        while proposed < counter.count + IN_FLIGHT:
            proposed += 1
            log.propose(named(proposed))
        await asyncio.sleep(0)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2] == "in_thread"))
