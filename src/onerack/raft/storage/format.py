"""The files of a raft log, byte by byte: a segment's header, records, their parts; and what a crash makes of a record.

    segment   header (512 bytes) | record | record | ... | zeros up to the segment's size
    header    magic | version | 0 | identity | sequence | size | seed | zeros | crc32 of all that
    record    head | part | part | ... | zeros | 0xa5                                (a multiple of 8 bytes)
    head      seed | number | bytes of the parts | parts | empty sectors | sectors with a single bit | crc32 | crc32
    part      type | kind | 0 | bytes of the payload | term | index | payload                    little-endian

The idea: one record is one batch, hence one write and one fdatasync, and whole or nothing. A segment is zeros before
it is written, so a crash leaves of the last record a beginning, or some sectors without the others, and zeros for the
rest. Every record ends with a byte that is not zero, its head says how many of its sectors are zeros by themselves,
and it names its segment and its own number; so what is torn is told from what is damaged, and space that another file
used before never looks valid. The second checksum of a head is its own; the first goes over head, parts and end, and
starts from that of the record before, the first record's from the segment's header: so none can be missing.

The rule: whatever cannot have come about by a crash is damage to what was acknowledged, is reported, and never cut.

The format is described for other readers in docs/raft-log.md.
Source: Ongaro's dissertation, 2014, section 3.8; Alagappan et al., "Protocol-Aware Recovery for Consensus-Based
Storage", FAST 2018, section 3.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, cast

import msgspec

from onerack.errors import Corruption, UsageError
from onerack.rpc.durable.format import IDENTITY_BYTES, SECTOR
from onerack.runtime.env import Mapped

SEGMENT: Final = b"1RACKRFT"
VERSION: Final = 1
SEED_BYTES: Final = 8
HEADER_BYTES: Final = SECTOR
"""A header has its sector to itself, so that no later write can tear it."""

_HEADER: Final = struct.Struct(f"<8sII{IDENTITY_BYTES}sQQ{SEED_BYTES}s")
_CHECKSUM: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct(f"<{SEED_BYTES}sQIIIIII")
HEAD_BYTES: Final = _HEAD.size
"""A multiple of 8, as is every record: so each sector that a record touches holds eight bytes of it or more, and no
beginning and no end of a head that long is ever zeros, or one bit away from zeros."""
PART: Final = struct.Struct("<BBHIQQ")
END: Final = 0xA5
"""Of every record. More than one bit away from zero."""
_SPARSE_RUN: Final = bytes(255)
"""A sector with one bit or none has so many zeros in a row."""

# What a part is. Never renumber: they are on disks.
HARD_STATE: Final = 1
ENTRY: Final = 2
LOG_RESET: Final = 3
BEGIN: Final = 4
"""The first part of the first record of a segment: where the segment before it ends."""
VIEWED_BYTES: Final = 4096
"""A page. The payload of an entry that is smaller is copied out of its file."""
PART_TYPES: Final = (HARD_STATE, ENTRY, LOG_RESET, BEGIN)
_BEGIN: Final = struct.Struct("<QII")


class Header(msgspec.Struct, frozen=True):
    """How a segment begins."""

    identity: bytes
    """Of the log; the same in all its files."""
    sequence: int
    """1, 2, 3 ... over the life of the log. Not an index: an entry that replaces another goes back."""
    size: int
    """Of the file, from its making to its end."""
    seed: bytes
    """Drawn for this segment; what was in the same place of the disk before has another."""

    def __str__(self) -> str:
        return f"segment {self.sequence} of {self.size} bytes of log {self.identity.hex()}"


class Head(NamedTuple):
    """How a record begins."""

    seed: bytes
    number: int
    """1, 2, 3 ... over the life of the log."""
    size: int
    """Bytes of the parts."""
    parts: int
    empty_sectors: int
    sparse_sectors: int
    checksum: int
    own_checksum: int

    @property
    def record_bytes(self) -> int:
        return record_bytes(self.size)


class Part(msgspec.Struct, frozen=True, gc=False):
    """One thing that a record says."""

    type: int
    kind: int
    term: int
    index: int
    payload: bytes


class Begin(NamedTuple):
    """Where a segment goes on from. What the log was then stands in the parts that follow."""

    end: int
    """Where the last record of the segment before it ends. What lies there behind was never acknowledged."""
    checksum: int
    """Of that record."""


class Record(NamedTuple):
    """One batch."""

    number: int
    parts: list[Part]
    end: int
    """Where the next record begins."""
    checksum: int


# ------------------------------------------------------------------------------------------------ headers


def encode_header(header: Header) -> bytes:
    fields = _HEADER.pack(SEGMENT, VERSION, 0, header.identity, header.sequence, header.size, header.seed)
    content = fields.ljust(HEADER_BYTES - _CHECKSUM.size, b"\x00")
    return content + _CHECKSUM.pack(zlib.crc32(content))


def header_checksum(header: Header) -> int:
    """Where the checksums of the segment's records start from."""
    return zlib.crc32(encode_header(header))


def read_header(content: Mapped, path: str) -> Header:
    """Raises: Corruption. UsageError: a later onerack wrote the file."""
    if len(content) < HEADER_BYTES:
        raise Corruption(path, 0, f"a header of {HEADER_BYTES} bytes", f"{len(content)} bytes")
    body = content[: HEADER_BYTES - _CHECKSUM.size]
    (expected,) = _CHECKSUM.unpack_from(content, len(body))
    if zlib.crc32(body) != expected:
        raise Corruption(path, 0, f"crc32 {expected:08x}", f"{zlib.crc32(body):08x}")
    magic, version, _, identity, sequence, size, seed = _HEADER.unpack_from(body)
    if magic != SEGMENT:
        raise Corruption(path, 0, f"the magic {SEGMENT!r}", f"{magic!r}")
    if version != VERSION:
        raise UsageError(f"{path} has format {version}; this onerack reads format {VERSION}, a later one may read both")
    return Header(identity, sequence, size, seed)


# ------------------------------------------------------------------------------------------------ records


def part_bytes(payload_bytes: int) -> int:
    return PART.size + payload_bytes


def record_bytes(parts_bytes: int) -> int:
    """The size of a record with so many bytes of parts; there is always room for the end."""
    return HEAD_BYTES + (parts_bytes + 8 & ~7)


def begin_payload(begin: Begin) -> bytes:
    return _BEGIN.pack(begin.end, begin.checksum, 0)


def read_begin(payload: bytes) -> Begin:
    return Begin(*_BEGIN.unpack(payload)[:2])


def encode_record(
    seed: bytes, number: int, pieces: Sequence[bytes], parts: int, offset: int, previous: int
) -> tuple[bytes, bytes, int]:
    """Head and body of the record as it lies at `offset` of a segment, and its checksum.

    `pieces` together are the parts; `previous` is the checksum of the record before it, or of the header.
    """
    assert offset % 8 == 0
    assert parts > 0
    size = sum(map(len, pieces))
    body = b"".join((*pieces, _ENDS[size & 7]))
    empty, sparse = count_sectors(body, offset + HEAD_BYTES)
    begin = _HEAD.pack(seed, number, size, parts, empty, sparse, 0, 0)[: -2 * _CHECKSUM.size]
    checksum = zlib.crc32(body, zlib.crc32(begin, previous))
    head = begin + _CHECKSUM.pack(checksum)
    return head + _CHECKSUM.pack(zlib.crc32(head)), body, checksum


_ENDS: Final = [bytes(7 - rest) + bytes([END]) for rest in range(8)]
"""What completes a record, by the bytes of its parts modulo 8."""


def count_sectors(body: bytes, offset: int) -> tuple[int, int]:
    """Of the whole sectors of a file that begin within `body`, which lies at `offset` of it: how many are zeros, and
    how many have a single bit that is not."""
    if body.find(_SPARSE_RUN) < 0:
        return 0, 0  # Nearly always, and a hundred times as quick.
    empty = sparse = 0
    for begin in range(-offset % SECTOR, len(body) - SECTOR + 1, SECTOR):
        stripped = body[begin : begin + SECTOR].strip(b"\x00")
        if not stripped:
            empty += 1
        elif len(stripped) == 1 and stripped[0].bit_count() == 1:
            sparse += 1
    return empty, sparse


def read_head(content: Mapped, position: int) -> Head | None:
    """The head of the record at `position`; None if it is not whole."""
    if position + HEAD_BYTES > len(content):
        return None
    head = Head(*_HEAD.unpack_from(content, position))
    if zlib.crc32(content[position : position + HEAD_BYTES - _CHECKSUM.size]) != head.own_checksum:
        return None
    return head


def read_record(content: Mapped, path: str, position: int, seed: bytes, number: int | None, previous: int) -> Record:
    """The record at `position`, which must be of this segment and have this number (None: any).

    Raises: Corruption: it is not, or it is not whole.
    """
    head = read_head(content, position)
    if head is None:
        raise Corruption(path, position, f"the head of record {number or 'any'}", "other bytes")
    if head.seed != seed:
        raise Corruption(path, position, f"a record of segment {seed.hex()}", f"one of {head.seed.hex()}")
    if number is not None and head.number != number:
        raise Corruption(path, position, f"record {number}", f"record {head.number}")
    begin, end = position + HEAD_BYTES, position + head.record_bytes
    if end > len(content):
        raise Corruption(path, position, f"a record of {head.record_bytes} bytes", f"{len(content) - position} bytes")
    start = zlib.crc32(content[position : begin - 2 * _CHECKSUM.size], previous)
    found = zlib.crc32(memoryview(content)[begin:end], start)
    if found != head.checksum:
        raise Corruption(path, position, f"crc32 {head.checksum:08x}", f"{found:08x}")
    parts = list(_parts(content, path, begin, begin + head.size))
    if len(parts) != head.parts:
        raise Corruption(path, position, f"{head.parts} parts", f"{len(parts)}")
    return Record(head.number, parts, end, head.checksum)


def _parts(content: Mapped, path: str, position: int, end: int) -> Iterator[Part]:
    unpack, size = PART.unpack_from, PART.size
    while position < end:
        begin = position + size
        if begin > end:
            raise Corruption(path, position, "a part", f"{end - position} bytes")
        type, kind, _, payload_bytes, term, index = unpack(content, position)
        if begin + payload_bytes > end or type not in PART_TYPES:
            raise Corruption(path, position, "a part", f"type {type} with {payload_bytes} bytes")
        position = begin + payload_bytes
        yield Part(type, kind, term, index, _payload(content, type, begin, position))


def _payload(content: Mapped, type: int, begin: int, end: int) -> bytes:
    """Of a large entry it is a view, for the log of a node that starts may have gigabytes. Whoever takes it to pieces
    (`commands_of`), compares it or sends it does not see the difference."""
    if type == ENTRY and end - begin >= VIEWED_BYTES:
        return cast(bytes, memoryview(content)[begin:end])
    return content[begin:end]


# ------------------------------------------------------------------------------------------------ torn or damaged


def is_torn(content: Mapped, position: int, seed: bytes, number: int) -> bool:
    """Whether what lies from `position` to the end can be what a crash left of the record with this number.

    Requires: `read_record` refused it, and no later segment goes on.
    """
    used = used_bytes(content)
    if used <= position:
        return True
    if _has_later_record(content, position, seed, number):
        return False  # It was written after this one was durable.
    if used < position + HEAD_BYTES:  # A beginning of the head, which says nothing else than what is known.
        known = seed + number.to_bytes(8, "little")
        return known.startswith(content[position : min(used, position + len(known))])
    boundary = position - position % SECTOR + SECTOR
    if not content[position:boundary].strip(b"\x00"):
        return True
    if boundary < position + HEAD_BYTES and not content[boundary : boundary + SECTOR].strip(b"\x00"):
        return True
    head = read_head(content, position)
    if head is None or head.seed != seed or head.number != number:
        return False
    end = position + head.record_bytes
    if end > len(content) or used > end:
        return False
    return content[end - 1] == 0 or _has_lost_sector(content[position + HEAD_BYTES : end], position, head)


def _has_lost_sector(body: bytes, position: int, head: Head) -> bool:
    """More of the record is zeros than should be, and that cannot be the work of a single bit."""
    empty, sparse = count_sectors(body, position + HEAD_BYTES)
    return empty >= head.empty_sectors + 2 or (empty == head.empty_sectors + 1 and sparse >= head.sparse_sectors)


def used_bytes(content: Mapped) -> int:
    """Where the zeros begin with which the content ends."""
    end, step = len(content), 1 << 16
    zeros = bytes(step)
    while end >= step and content[end - step : end] == zeros:
        end -= step
    begin = max(0, end - step)
    return begin + len(content[begin:end].rstrip(b"\x00"))


def _has_later_record(content: Mapped, position: int, seed: bytes, number: int) -> bool:
    found = content.find(seed, position + 1)
    while found >= 0:
        head = read_head(content, found)
        if head is not None and head.number > number:
            return True
        found = content.find(seed, found + 1)
    return False
