"""Recovery: what the segments in a directory say was acknowledged. Reads only.

The idea: every segment but the last is read up to the place where the one behind it says that it goes on, so there
everything must be right. In the last one the log ends where the zeros begin, or at a record that a crash has torn.

The rule: nothing is changed here, so that whoever is refused (Corruption) finds all as it was, and a crash while
recovering cannot matter. A torn record is named in the result; what nobody needs any more is named, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from onerack.errors import Corruption
from onerack.raft.messages import NOBODY, Entry, HardState, LogReset, Recovered, SnapshotMark
from onerack.raft.storage.files import IDENTITY, segment_name, segments_in, snapshot_name, snapshots_in
from onerack.raft.storage.format import (
    BEGIN,
    ENTRY,
    HARD_STATE,
    HEADER_BYTES,
    LOG_RESET,
    Begin,
    Header,
    Part,
    Record,
    header_checksum,
    is_torn,
    read_begin,
    read_header,
    read_record,
    used_bytes,
)
from onerack.raft.storage.identity import Identity
from onerack.raft.storage.snapshots import SnapshotStore
from onerack.runtime.env import Mapped, StorageDisk


class Torn(msgspec.Struct, frozen=True):
    """Where the last write before a crash was cut off. Nobody had been told that it was done."""

    file: str
    offset: int


class Extent(msgspec.Struct):
    """What is in one segment."""

    header: Header
    name: str
    begin: int = HEADER_BYTES
    """Where its last record begins."""
    end: int = HEADER_BYTES
    """And where it ends."""
    checksum: int = 0
    """Of its last record."""
    records: int = 0
    last: int = 0
    """Of the entries in it that are still part of the log, the highest index."""


class Scan:
    """What all records together say."""

    def __init__(self) -> None:
        self.extents: list[Extent] = []
        """Segments with records, in order; the last one takes the next record, if it is not torn."""
        self.spare: Header | None = None
        """A segment that is ready and has no records."""
        self.torn: list[Torn] = []
        self.superseded: list[str] = []
        """Names of segments that nobody needs any more."""
        self.number = 0
        """Of the last record."""
        self.hard_state = HardState()
        self.base = 0
        """The index before the first of `entries`."""
        self.entries: list[Entry] = []

    @property
    def last(self) -> int:
        return self.base + len(self.entries)

    def reset(self, index: int) -> None:
        self.entries.clear()
        self.base = index
        self._forget_behind(0)

    def put(self, entry: Entry) -> None:
        """Requires: its index is at most one above the last."""
        if entry.index <= self.last:
            if entry.index > self.base:
                del self.entries[entry.index - self.base - 1 :]
                self._forget_behind(entry.index - 1)
            else:
                self.reset(entry.index - 1)
        self.entries.append(entry)

    def _forget_behind(self, index: int) -> None:
        for extent in self.extents:
            extent.last = min(extent.last, index)


class Found(NamedTuple):
    """What a log is when it is opened."""

    scan: Scan
    recovered: Recovered
    repairs: Sequence[HardState | LogReset]
    """What must be appended, so that the log says what `recovered` does."""


class _File(msgspec.Struct):
    """A segment's file, read."""

    path: str
    content: Mapped
    extent: Extent
    first: Record | None = None
    begin: Begin | None = None

    def read(self, position: int, number: int | None, previous: int) -> Record:
        return read_record(self.content, self.path, position, self.extent.header.seed, number, previous)


def recover(disk: StorageDisk, directory: str, identity: Identity, snapshots: SnapshotStore) -> Found:
    """Raises: Corruption: names file and offset."""
    found = scan(disk, directory, identity.log)
    return reconcile(found, snapshots.newest() or SnapshotMark(configuration=identity.first), directory)


def reconcile(found: Scan, mark: SnapshotMark, directory: str) -> Found:
    """Log and newest snapshot together. Raises: Corruption: there is something missing between them."""
    if not found.extents:
        missing = found.spare.sequence - 1 if found.spare and found.spare.sequence > 1 else 1
        raise Corruption(f"{directory}/{segment_name(missing)}", HEADER_BYTES, "the records of a log", "none")
    if found.base > mark.index:
        path = f"{directory}/{snapshot_name(found.base)}"
        raise Corruption(path, 0, f"a snapshot of index {found.base} or later", f"the newest is of {mark.index}")
    repairs: list[HardState | LogReset] = []
    hard_state = found.hard_state
    if hard_state.term < mark.term:
        # The snapshot came from a leader of that term, or a later one, and this node has not voted there.
        hard_state = HardState(mark.term, NOBODY)
        repairs.append(hard_state)
    entries = tuple(found.entries)
    if not _goes_on_from(found, mark):
        # It arrived, and the node died before it was told: the log is not what the cluster has agreed on.
        entries = ()
        repairs.append(LogReset(mark))
    return Found(found, Recovered(hard_state, mark, entries), repairs)


def _goes_on_from(found: Scan, mark: SnapshotMark) -> bool:
    """The log holds the snapshot's last entry, or begins just behind it."""
    if mark.index == found.base:
        return True
    return mark.index <= found.last and found.entries[mark.index - found.base - 1].term == mark.term


def require_unborn(disk: StorageDisk, directory: str) -> None:
    """Nothing but what a log leaves that dies while it is made. Raises: Corruption: its identity is missing."""
    names = disk.names(directory)
    path, expected = f"{directory}/{IDENTITY}", "the identity of the log"
    if snapshots_in(names) or any(sequence > 1 for sequence in segments_in(names)):
        raise Corruption(path, 0, expected, "no such file, but the log's other files")
    if scan(disk, directory, b"").number > 1:
        raise Corruption(path, 0, expected, "no such file, but a log with records")


def scan(disk: StorageDisk, directory: str, identity: bytes, into: Scan | None = None) -> Scan:
    """Raises: Corruption: names file and offset; what is before it is in `into`. UsageError."""
    sequences = segments_in(disk.names(directory))
    begin = _first_of_chain(sequences)
    result = into or Scan()
    for sequence in sequences[:begin]:
        _open(disk, directory, sequence, identity)  # No other log's file is ever removed.
        result.superseded.append(segment_name(sequence))
    files = (_open(disk, directory, sequence, identity) for sequence in sequences[begin:])
    for file, following in _pairs(files):
        if file.first is not None:
            _replay(result, file, following)
        elif following is not None:
            raise Corruption(file.path, HEADER_BYTES, "a record, because another segment follows", "none")
        else:
            _judge_unused(result, file)
    return result


def _pairs(files: Iterator[_File]) -> Iterator[tuple[_File, _File | None]]:
    """Each with the one behind it; never more than two are held."""
    file = next(files, None)
    while file is not None:
        following = next(files, None)
        yield file, following
        file = following


def _first_of_chain(sequences: Sequence[int]) -> int:
    """Where the segments begin that follow one another without a gap to the end."""
    begin = len(sequences) - 1
    while begin > 0 and sequences[begin - 1] == sequences[begin] - 1:
        begin -= 1
    return max(begin, 0)


def _open(disk: StorageDisk, directory: str, sequence: int, identity: bytes) -> _File:
    name = segment_name(sequence)
    path = f"{directory}/{name}"
    content = disk.map(path)
    header = read_header(content, path)
    if (header.identity, header.sequence) != (identity or header.identity, sequence):
        raise Corruption(path, 0, f"segment {sequence} of log {identity.hex()}", str(header))
    if header.size != len(content):
        raise Corruption(path, min(header.size, len(content)), f"{header.size} bytes", f"{len(content)} bytes")
    file = _File(path, content, Extent(header, name, checksum=header_checksum(header)))
    try:
        file.first = file.read(HEADER_BYTES, None, file.extent.checksum)
    except Corruption:
        return file  # Whether it is damaged or unused, its place will tell.
    if file.first.parts[0].type != BEGIN:
        raise Corruption(path, HEADER_BYTES, "a record that says where the segment goes on from", "another")
    file.begin = read_begin(file.first.parts[0].payload)
    return file


def _judge_unused(result: Scan, file: _File) -> None:
    """The last segment, whose first record is not whole: nothing was ever acknowledged there, or it is damaged."""
    if used_bytes(file.content) <= HEADER_BYTES:
        result.spare = file.extent.header
    elif is_torn(file.content, HEADER_BYTES, file.extent.header.seed, result.number + 1):
        result.torn.append(Torn(file.path, HEADER_BYTES))
        result.superseded.append(file.extent.name)
    else:
        file.read(HEADER_BYTES, result.number + 1, file.extent.checksum)  # Says what is wrong with it.
        raise Corruption(file.path, HEADER_BYTES, f"record {result.number + 1}", "another")


def _replay(result: Scan, file: _File, following: _File | None) -> None:
    """All records of a segment, which has at least one."""
    extent = file.extent
    result.extents.append(extent)
    stop = following.begin if following is not None else None
    while stop is None or extent.end < stop.end:
        try:
            record = _next_record(result, file)
        except Corruption:
            if stop is None and _ends_here(result, file):
                break
            raise
        result.number = record.number
        _replay_record(result, file, record)
        extent.begin, extent.end, extent.checksum = extent.end, record.end, record.checksum
        extent.records += 1
    if stop is not None and (extent.end, extent.checksum) != stop:
        expected = f"the last record to end at {stop.end} with crc32 {stop.checksum:08x}"
        raise Corruption(file.path, extent.end, expected, f"{extent.end} with {extent.checksum:08x}")


def _next_record(result: Scan, file: _File) -> Record:
    extent = file.extent
    number = result.number + 1 if result.extents[0].records else None
    if extent.records or file.first is None or number not in (None, file.first.number):
        return file.read(extent.end, number, extent.checksum)
    return file.first


def _ends_here(result: Scan, file: _File) -> bool:
    end = file.extent.end
    if used_bytes(file.content) <= end:
        return True
    torn = is_torn(file.content, end, file.extent.header.seed, result.number + 1)
    if torn:
        result.torn.append(Torn(file.path, end))
    return torn


def _replay_record(result: Scan, file: _File, record: Record) -> None:
    extent = file.extent
    for part in record.parts:
        if part.type == ENTRY:
            if part.index > result.last + 1:
                raise Corruption(file.path, extent.end, f"entry {result.last + 1}", f"entry {part.index}")
            result.put(Entry(part.term, part.index, part.kind, part.payload))
            extent.last = part.index
        elif part.type == HARD_STATE:
            result.hard_state = HardState(part.term, _text(part, file))
        elif part.type == LOG_RESET:
            result.reset(part.index)
        elif len(result.extents) == 1:
            result.base = part.index  # The first segment that is left: what was before it is in a snapshot.
        elif part.index != result.last:
            raise Corruption(file.path, extent.end, f"a log up to {result.last}", f"one up to {part.index}")


def _text(part: Part, file: _File) -> str:
    try:
        return part.payload.decode()
    except UnicodeDecodeError as error:
        raise Corruption(file.path, file.extent.end, "a node's name", str(error)) from error
