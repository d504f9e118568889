"""The log's directory while it is written: segments that grow, snapshots that replace them.

The idea: a file gets its name only when its beginning (a snapshot: all of it) is durable, and the name is durable
before anybody relies on it. So under the names of a log there never is half a header or half a snapshot, and all that
a crash can tear is the one record that was being appended.

The rule: the order of the steps is the whole of it, and each comment below says what would be lost otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from onerack.rpc.durable.format import SEGMENT, Header, encode_header, encode_record, snapshot_frames
from onerack.rpc.durable.recovery import SEGMENT_PREFIX, SNAPSHOT_PREFIX, file_name, files_of
from onerack.runtime.env import AppendFile, Disk
from onerack.runtime.unfinished import UnfinishedFile


class Segment:
    """The segment that is appended to. Its header is durable, and so is every record that was appended."""

    def __init__(self, file: AppendFile, header: Header, size: int) -> None:
        self._size = size
        self._file = file
        self._identity = header.identity

    def append(self, index: int, commands: Sequence[bytes]) -> int:
        """One record, durable when this returns its size. Raises: StorageFull: it is not whole; append no more."""
        record = encode_record(self._identity, index, commands, self._size)
        self._file.append(record)
        self._file.sync()
        self._size += len(record)
        return len(record)

    def close(self) -> None:
        self._file.close()


class LogFiles:
    """Makes and removes the files of one log."""

    def __init__(self, disk: Disk, directory: str, identity: bytes) -> None:
        self._disk = disk
        self._directory = directory
        self._identity = identity

    def path(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def begin_segment(self, index: int) -> Segment:
        """The segment of the commands from `index` on.

        It replaces a segment of that name, in which then is nothing but a torn record. Raises: StorageFull.
        """
        header = Header(self._identity, index)
        content = encode_header(SEGMENT, header)
        name = file_name(SEGMENT_PREFIX, index)
        return Segment(self._make(name, (content,)), header, len(content))

    def replace(self, index: int, snapshot: bytes) -> None:
        """Writes the snapshot of all commands up to `index`, then removes what held them.

        Requires: a segment begins at `index + 1`. Raises: StorageFull: there is no such snapshot; nothing was removed.
        """
        self._make(file_name(SNAPSHOT_PREFIX, index), snapshot_frames(self._identity, index, snapshot)).close()
        # Only now: until the snapshot's name is durable, these are the log.
        names = self._disk.names(self._directory)
        self.remove(file.name for file in files_of(names, SEGMENT_PREFIX) if file.index <= index)
        self.remove(file.name for file in files_of(names, SNAPSHOT_PREFIX) if file.index < index)

    def _make(self, name: str, frames: Iterable[bytes]) -> AppendFile:
        unfinished = UnfinishedFile(self._disk, self._directory, name)
        try:
            for frame in frames:
                unfinished.append(frame)
            return unfinished.finish()
        except Exception:
            unfinished.abandon()
            raise

    def settle(self, name: str) -> None:
        """Makes durable what an earlier life appended to this segment and may not have synced."""
        file = self._disk.open_append(self.path(name))
        file.sync()
        file.close()

    def remove(self, names: Iterable[str]) -> None:
        """Files that nobody needs. In whatever order they vanish, and if they come back, recovery ignores them."""
        for name in names:
            with suppress(FileNotFoundError):
                self._disk.unlink(self.path(name))
