"""Recovery: what the files in a log's directory say was acknowledged. Reads only.

The idea: the newest snapshot, and every command after it, from segments that follow one another without a gap. A
record may end a segment torn; then the next segment, if there is one, begins with that record's index, because the
log was opened again there. Everything else that does not fit is damage.

The rule: nothing is changed here, so that whoever is refused (Corruption) finds all as it was, and a crash while
recovering cannot matter. What nobody needs any more is named for the log to remove; its headers are read first, so
that no other log's file is ever removed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

import msgspec

from onerack.errors import Corruption
from onerack.rpc.durable.format import (
    HEADER_BYTES,
    SEGMENT,
    SNAPSHOT,
    Header,
    is_torn,
    read_header,
    read_record,
    read_snapshot,
)
from onerack.runtime.env import Disk
from onerack.runtime.unfinished import UNFINISHED

SEGMENT_PREFIX: Final = "log-"
SNAPSHOT_PREFIX: Final = "snapshot-"
INDEX_DIGITS: Final = 16


def file_name(prefix: str, index: int) -> str:
    return f"{prefix}{index:0{INDEX_DIGITS}x}"


class Recovered(NamedTuple):
    """What a log is when it is opened."""

    identity: bytes
    """Empty: there is no log yet."""
    snapshot_index: int
    snapshot: bytes | None
    commands: list[bytes]
    """From `snapshot_index + 1` on."""
    segments: Sequence[str]
    """Names of those that hold them, in order."""
    segments_bytes: int
    superseded: Sequence[str]
    """Names of files that nobody needs any more."""

    @property
    def last_index(self) -> int:
        return self.snapshot_index + len(self.commands)


class LogFile(msgspec.Struct, frozen=True):
    """A file under a name that only a log gives."""

    name: str
    index: int


def files_of(names: Sequence[str], prefix: str) -> list[LogFile]:
    """Those of one kind among the names in a directory, in order of their index."""
    matches = (re.fullmatch(f"{prefix}([0-9a-f]{{{INDEX_DIGITS}}})", name) for name in names)
    return [LogFile(match[0], int(match[1], 16)) for match in matches if match]


def recover(disk: Disk, directory: str) -> Recovered:
    """Raises: Corruption: names file, offset, what was expected and what was found."""
    names = disk.names(directory)
    segments, snapshots = files_of(names, SEGMENT_PREFIX), files_of(names, SNAPSHOT_PREFIX)
    reader = _Reader(disk, directory)
    snapshot_index, snapshot = 0, None
    if snapshots:
        snapshot_index = snapshots[-1].index
        snapshot = read_snapshot(reader.read(snapshots[-1], SNAPSHOT), reader.path(snapshots[-1]))
    chain = _chain(directory, segments, snapshot_index)
    commands, size = reader.read_chain(chain)
    replaced = segments[: len(segments) - len(chain)]
    for magic, needless in ((SEGMENT, replaced), (SNAPSHOT, snapshots[:-1])):
        for file in needless:
            reader.read(file, magic)
    stems = [name.removesuffix(UNFINISHED) for name in names if name.endswith(UNFINISHED)]
    unfinished = [*files_of(stems, SEGMENT_PREFIX), *files_of(stems, SNAPSHOT_PREFIX)]
    return Recovered(
        identity=reader.identity,
        snapshot_index=snapshot_index,
        snapshot=snapshot,
        commands=commands[snapshot_index + 1 - chain[0].index :] if chain else [],
        segments=[file.name for file in chain],
        segments_bytes=size,
        superseded=[
            *(file.name + UNFINISHED for file in unfinished),
            *(file.name for file in (*replaced, *snapshots[:-1])),
        ],
    )


def _chain(directory: str, segments: Sequence[LogFile], snapshot_index: int) -> Sequence[LogFile]:
    """The segments that hold what the snapshot does not. Raises: Corruption: the first of them is missing."""
    wanted = snapshot_index + 1
    begin = sum(segment.index <= wanted for segment in segments) - 1
    if begin >= 0:
        return segments[begin:]
    if not segments and snapshot_index == 0:
        return ()
    path = f"{directory}/{file_name(SEGMENT_PREFIX, wanted)}"
    raise Corruption(path, 0, f"a segment that holds command {wanted}", segments[0].name if segments else "no segment")


class _Reader:
    """Reads files that must all be of one log."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self.identity = b""
        """Of the first file that was read."""
        self._disk = disk
        self._directory = directory

    def path(self, file: LogFile) -> str:
        return f"{self._directory}/{file.name}"

    def read(self, file: LogFile, magic: bytes) -> bytes:
        """Raises: Corruption: its header is damaged, another log's, or that of a file of another name."""
        path = self.path(file)
        content = self._disk.read(path)
        header = read_header(content, path, magic)
        self.identity = self.identity or header.identity
        expected = Header(self.identity, file.index)
        if header != expected:
            raise Corruption(path, 0, str(expected), str(header))
        return content

    def read_chain(self, chain: Sequence[LogFile]) -> tuple[list[bytes], int]:
        """All commands of these segments, and how many bytes the files are."""
        commands: list[bytes] = []
        size = 0
        for file, following in zip_longest(chain, chain[1:]):
            content = self.read(file, SEGMENT)
            commands += self._read_segment(content, file, following)
            size += len(content)
        return commands, size

    def _read_segment(self, content: bytes, file: LogFile, following: LogFile | None) -> list[bytes]:
        """Raises: Corruption: it ends neither whole nor torn, or the following one does not go on from there."""
        commands: list[bytes] = []
        position, index = HEADER_BYTES, file.index
        while position < len(content):
            try:
                record = read_record(content, self.path(file), position, self.identity, index)
            except Corruption:
                # Where the log was opened again after a torn record, the following segment has its index.
                if following.index == index if following else is_torn(content, position, self.identity, index):
                    break
                raise
            commands += record.commands
            position = record.end
            index += len(record.commands)
        if following and following.index != index:
            raise Corruption(self.path(following), 0, f"a segment that begins with {index}", f"{following.index}")
        return commands
