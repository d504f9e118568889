"""The simulated disk: what a crash may leave of what was written.

The idea: each file has durable bytes and pending ones, each directory durable names and present ones. `sync` and
`sync_directory` make the pending durable. A crash keeps any prefix of each file's pending bytes, and all or none of
the names that were changed, as the chance of the seed will have it.

The rule: after a failed sync the pending bytes are gone, though reads may have shown them and the next sync says
that all is well; so a process that goes on after the failure is found out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from onerack.errors import StorageFull, UsageError


class SimHalt(BaseException):
    """The process ended here, as runtime/real.py ends one when fsync fails. Not for `except Exception`."""


class _Content:
    def __init__(self) -> None:
        self.durable = b""
        self.pending = b""


class SimAppendFile:
    """A file that only grows."""

    def __init__(self, disk: SimDisk, path: str, content: _Content) -> None:
        self._disk = disk
        self._path = path
        self._content = content

    def append(self, content: bytes) -> None:
        room = self._disk.room
        self._content.pending += content[: max(0, room)]
        if len(content) > room:
            raise StorageFull(self._path)

    def sync(self) -> None:
        self._disk.sync(self._content)

    def close(self) -> None:
        return


class SimLock:
    """Held until it is closed, or until the process or the machine ends."""

    def __init__(self, held: set[str], path: str) -> None:
        if path in held:
            raise UsageError(f"{path} is held by another process, which must end first")
        held.add(path)
        self._held = held
        self._path = path

    def close(self) -> None:
        self._held.discard(self._path)


class SimDisk:
    """One machine's files. Whoever inflicts faults sets `capacity_bytes` and `syncs_until_failure`."""

    def __init__(self, chance: random.Random, capacity_bytes: int = 1 << 40) -> None:
        self.capacity_bytes = capacity_bytes
        self.syncs_until_failure = -1
        """Below zero: syncs succeed."""
        self._chance = chance
        self._names: dict[str, _Content] = {}
        self._durable_names: dict[str, _Content] = {}
        self._held: set[str] = set()

    @property
    def room(self) -> int:
        used = sum(len(content.durable) + len(content.pending) for content in self._names.values())
        return self.capacity_bytes - used

    def open_append(self, path: str) -> SimAppendFile:
        return SimAppendFile(self, path, self._names.setdefault(path, _Content()))

    def read(self, path: str) -> bytes:
        if path not in self._names:
            raise FileNotFoundError(path)
        return self._names[path].durable + self._names[path].pending

    def rename(self, source: str, target: str) -> None:
        if source not in self._names:
            raise FileNotFoundError(source)
        self._names[target] = self._names.pop(source)

    def unlink(self, path: str) -> None:
        if path not in self._names:
            raise FileNotFoundError(path)
        del self._names[path]

    def sync_directory(self, path: str) -> None:
        self._count_sync()
        inside = {name for name in (*self._names, *self._durable_names) if name.rpartition("/")[0] == path}
        for name in sorted(inside):
            if name in self._names:
                self._durable_names[name] = self._names[name]
            else:
                del self._durable_names[name]

    def make_directory(self, path: str) -> None:
        """Directories are nothing but the beginnings of names here."""

    def names(self, directory: str) -> Sequence[str]:
        return sorted(name.rpartition("/")[2] for name in self._names if name.rpartition("/")[0] == directory)

    def lock(self, path: str) -> SimLock:
        return SimLock(self._held, path)

    def sync(self, content: _Content) -> None:
        try:
            self._count_sync()
        except SimHalt:
            content.pending = b""
            raise
        content.durable += content.pending
        content.pending = b""

    def kill(self) -> None:
        """The process ends, the machine does not: files stay as they are, durable or not."""
        self._held = set()

    def crash(self) -> None:
        """Power is lost; what is there afterwards is durable."""
        self.kill()
        if self._chance.random() < 0.5:
            self._names = dict(self._durable_names)
        self._durable_names = dict(self._names)
        for name in sorted(self._names):
            content = self._names[name]
            content.durable += content.pending[: self._chance.randint(0, len(content.pending))]
            content.pending = b""

    def _count_sync(self) -> None:
        if self.syncs_until_failure == 0:
            self.syncs_until_failure = -1
            raise SimHalt("fsync failed")
        self.syncs_until_failure -= self.syncs_until_failure > 0
