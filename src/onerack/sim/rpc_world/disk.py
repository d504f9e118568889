"""A node's disk, as one life of it sees it: before whatever changes it, the life may end.

The rule: what is done with the disk by a life that has ended is not done.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

from onerack.runtime.env import AppendFile, Lock
from onerack.sim.disk import SimDisk, SimHalt
from onerack.sim.rpc_world.lives import Life

T = TypeVar("T")

Remains = Literal["some", "nothing", "everything"]
"""What is left of what was not synced when the power went: a part, as chance will have it, or none, or all."""


class Extreme(random.Random):
    """Chance that always falls to one side: with it a disk loses whatever it may lose, or nothing."""

    def __init__(self, *, highest: bool) -> None:
        super().__init__(0)
        self._highest = highest

    def random(self) -> float:
        return 0.999 if self._highest else 0.0

    def randint(self, a: int, b: int) -> int:
        return b if self._highest else a


def disk_for(remains: Remains, chance: random.Random) -> SimDisk:
    return SimDisk(chance if remains == "some" else Extreme(highest=remains == "everything"))


class LifeFile:
    def __init__(self, disk: LifeDisk, path: str, file: AppendFile) -> None:
        self._disk = disk
        self._path = path
        self._file = file

    def append(self, content: bytes) -> None:
        self._disk.do(f"append to {self._path}", lambda: self._file.append(content))

    def sync(self) -> None:
        self._disk.sync(self._path, self._file.sync)

    def close(self) -> None:
        self._file.close()


class LifeDisk:
    """A `Disk`. `synced` hears of each sync, `failed` of one that fails: there the process ends (runtime/real.py)."""

    def __init__(self, disk: SimDisk, life: Life, synced: Callable[[], None], failed: Callable[[], None]) -> None:
        self._disk = disk
        self._life = life
        self._synced = synced
        self._failed = failed

    def do(self, what: str, work: Callable[[], T]) -> T:
        self._life.point(what)
        return work()

    def sync(self, path: str, work: Callable[[], None]) -> None:
        self._synced()
        try:
            self.do(f"sync {path}", work)
        except SimHalt:
            self._failed()
            self._life.point(f"sync {path}")

    def open_append(self, path: str) -> LifeFile:
        return LifeFile(self, path, self.do(f"open {path}", lambda: self._disk.open_append(path)))

    def read(self, path: str) -> bytes:
        return self._disk.read(path)

    def rename(self, source: str, target: str) -> None:
        self.do(f"rename {source} to {target}", lambda: self._disk.rename(source, target))

    def unlink(self, path: str) -> None:
        self.do(f"unlink {path}", lambda: self._disk.unlink(path))

    def sync_directory(self, path: str) -> None:
        self.sync(path, lambda: self._disk.sync_directory(path))

    def make_directory(self, path: str) -> None:
        self._disk.make_directory(path)

    def names(self, directory: str) -> Sequence[str]:
        return self._disk.names(directory)

    def lock(self, path: str) -> Lock:
        return self._disk.lock(path)
