"""A machine that remembers its commands, and the life of a log in front of it, for the tests of durable hosts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from onerack.config import RpcConfig
from onerack.errors import CallError
from onerack.rpc.durable.log import LocalLog
from onerack.runtime.env import Disk
from onerack.sim.loop import simulate
from tests.rpc.crash_disk import CrashDisk

DIRECTORY = "/log"


def draw(count: int) -> bytes:
    """The identity of every log in these tests: no bytes of it are zeros, as of one drawn at random."""
    return bytes(range(129, 129 + count))


class Ledger:
    """A Machine. Its state is the list of its commands."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []
        self.batches: list[int] = []
        """How many commands there were after each batch."""
        self.dropped_commands: list[tuple[bytes, CallError]] = []
        self.restored = False
        self.told: Callable[[bytes], None] = lambda command: None
        """Called for each command that has come to its end, whichever."""

    def apply(self, index: int, command: bytes) -> None:
        self.commands.append(command)
        assert index == len(self.commands)
        self.told(command)

    def applied(self) -> None:
        self.batches.append(len(self.commands))

    def dropped(self, command: bytes, error: CallError) -> None:
        self.dropped_commands.append((command, error))
        self.told(command)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.commands)

    def restore(self, snapshot: bytes) -> None:
        assert not self.commands
        self.commands = commands_in(snapshot)
        self.restored = True


def commands_in(snapshot: bytes) -> list[bytes]:
    return msgspec.msgpack.decode(snapshot, type=list[bytes])


class Watched(Ledger):
    """A ledger that tells the disk what the world knows."""

    def __init__(self, disk: CrashDisk) -> None:
        super().__init__()
        self.landed = asyncio.Event()
        """Nothing is in flight."""
        self.told = self._ended
        self._disk = disk

    def apply(self, index: int, command: bytes) -> None:
        super().apply(index, command)
        self._disk.acknowledged = list(self.commands)

    def restore(self, snapshot: bytes) -> None:
        super().restore(snapshot)
        self._disk.acknowledged = list(self.commands)

    def _ended(self, command: bytes) -> None:
        if command in self._disk.flying:
            self._disk.flying.remove(command)
        if not self._disk.flying:
            self.landed.set()


def live(
    disk: CrashDisk,
    batches: Iterable[list[bytes]],
    *,
    in_thread: bool = False,
    snapshot_after_bytes: int = 1 << 30,
    before_batch: Callable[[int], None] = lambda number: None,
) -> Watched:
    """One life of a log: opened, given these batches one after the other, closed."""
    machine = Watched(disk)

    async def story() -> None:
        log = open_log(disk, in_thread=in_thread, snapshot_after_bytes=snapshot_after_bytes)
        await log.start(machine)
        for number, batch in enumerate(batches):
            before_batch(number)
            disk.flying = list(batch)
            for command in batch:
                log.propose(command)
            machine.landed.clear()
            await machine.landed.wait()
            # Less than a snapshot takes, so that batches come while one is written.
            await asyncio.sleep(0.0003)
        await log.close()

    simulate(story())
    return machine


def open_log(
    disk: Disk | None = None,
    directory: str = DIRECTORY,
    *,
    in_thread: bool = False,
    snapshot_after_bytes: int = 1 << 30,
    batch_max: int = 4096,
) -> LocalLog:
    config = RpcConfig(snapshot_after_bytes=snapshot_after_bytes, batch_max=batch_max)
    return LocalLog(directory, config=config, disk=disk, in_thread=in_thread, draw=draw)
