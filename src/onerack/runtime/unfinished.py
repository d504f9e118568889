"""Unfinished files: written under another name, and named when all of what they begin with is durable.

The idea: under the name of a file there never is half of it. A crash leaves the old file or the new one, and what has
no name yet is swept away by whoever looks next.

The rule: the order of the steps is the whole of it, and each comment says what would be lost otherwise.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from onerack.runtime.env import AppendFile, Disk

UNFINISHED: Final = ".tmp"
SYNC_BYTES: Final = 1 << 20
"""Synced as it grows, so that the last sync does not keep everybody else's waiting."""


class UnfinishedFile:
    """A file that does not have its name yet. Raises, in whatever it does: StorageFull.

    `tag`: tells it from others that are to have the same name.
    """

    def __init__(self, disk: Disk, directory: str, name: str, tag: bytes = b"") -> None:
        self._disk = disk
        self._directory = directory
        self._target = f"{directory}/{name}"
        self._source = self._target + (f".{tag.hex()}" if tag else "") + UNFINISHED
        # Of an earlier try, which did not come to its end: we would append to it.
        with suppress(FileNotFoundError):
            disk.unlink(self._source)
        self._file: AppendFile = disk.open_append(self._source)
        self._unsynced_bytes = 0

    def append(self, content: bytes) -> None:
        self._file.append(content)
        self._unsynced_bytes += len(content)
        if self._unsynced_bytes >= SYNC_BYTES:
            self._file.sync()
            self._unsynced_bytes = 0

    def finish(self) -> AppendFile:
        """Gives it its name, in the place of any file of that name; durable when this returns it, still open."""
        # Before the name: it must never stand for bytes that are not there.
        self._file.sync()
        self._disk.rename(self._source, self._target)
        # Before anybody appends to the file, or removes what it replaces: without its name all that would be gone.
        self._disk.sync_directory(self._directory)
        return self._file

    def abandon(self) -> None:
        """What the disk has no room for must not keep the room either."""
        self._file.close()
        with suppress(OSError):
            self._disk.unlink(self._source)
