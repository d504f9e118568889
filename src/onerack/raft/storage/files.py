"""Files under way, their names, and frames in them: what segments, snapshots and the identity have in common.

The idea: a file gets its name only when all of it is durable, and its name is durable before anybody relies on it. So
under the names of a log there never is half a header or half a snapshot, and what a crash can tear is the one record
that was being written.

The rule: the order of the steps is the whole of it: write under another name, sync, rename, sync the directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from onerack.codec import HEADER as FRAME
from onerack.codec import frame_checksum
from onerack.errors import Corruption
from onerack.rpc.durable.recovery import SEGMENT_PREFIX, SNAPSHOT_PREFIX, UNFINISHED, file_name, files_of
from onerack.runtime.env import AppendFile, Disk

SUBDIRECTORY: Final = "raft"
"""Of a node's data directory; the log and its snapshots are in there."""
LOCK: Final = "lock"
IDENTITY: Final = "identity"
SEGMENT_SUFFIX: Final = ".seg"
SNAPSHOT_SUFFIX: Final = ".snap"
_UNFINISHED: Final = re.compile(rf"(.+?)(\.[0-9a-f]+)?{re.escape(UNFINISHED)}")
SYNC_BYTES: Final = 2 << 20
"""A long file is synced each time it has grown by so much: one long sync would hold up everybody else's."""


def raft_directory(directory: str | os.PathLike[str]) -> str:
    """Of a node with this data directory."""
    return f"{os.fspath(directory).rstrip('/')}/{SUBDIRECTORY}"


def segment_name(sequence: int) -> str:
    return file_name(SEGMENT_PREFIX, sequence) + SEGMENT_SUFFIX


def snapshot_name(index: int) -> str:
    return file_name(SNAPSHOT_PREFIX, index) + SNAPSHOT_SUFFIX


def segments_in(names: Sequence[str]) -> list[int]:
    """The sequence numbers of the segments among these names, sorted."""
    return _numbers(names, SEGMENT_PREFIX, SEGMENT_SUFFIX)


def snapshots_in(names: Sequence[str]) -> list[int]:
    """The indexes of the snapshots among these names, sorted."""
    return _numbers(names, SNAPSHOT_PREFIX, SNAPSHOT_SUFFIX)


def unfinished_in(names: Sequence[str]) -> list[str]:
    """The files that never got their names."""
    stems = {name: match[1] for name in names if (match := _UNFINISHED.fullmatch(name))}
    return [name for name, stem in stems.items() if stem == IDENTITY or segments_in([stem]) or snapshots_in([stem])]


def _numbers(names: Sequence[str], prefix: str, suffix: str) -> list[int]:
    return [
        file.index for file in files_of([name.removesuffix(suffix) for name in names if name.endswith(suffix)], prefix)
    ]


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

    def finish(self) -> None:
        """Gives it its name, in the place of any file of that name; durable when this returns."""
        # Before the name: it must never stand for bytes that are not there.
        self._file.sync()
        self._file.close()
        self._disk.rename(self._source, self._target)
        # Before anybody writes to the file, or removes what it replaces: without its name all that would be gone.
        self._disk.sync_directory(self._directory)

    def abandon(self) -> None:
        """What the disk has no room for must not keep the room either."""
        self._file.close()
        with suppress(OSError):
            self._disk.unlink(self._source)


def frame_at(content: bytes, path: str, position: int) -> bytes:
    """The payload of the frame (codec.py) that lies here. Raises: Corruption."""
    rest = len(content) - position - FRAME.size
    length, checksum = FRAME.unpack_from(content, position) if rest >= 0 else (0, 0)
    if not 0 < length <= rest:
        raise Corruption(path, position, "a frame", f"a length of {length} before {max(0, rest)} bytes")
    payload = content[position + FRAME.size : position + FRAME.size + length]
    found = frame_checksum(payload)
    if found != checksum:
        raise Corruption(path, position, f"crc32 {checksum:08x}", f"{found:08x}")
    return payload
