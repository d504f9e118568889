"""The files of a log, byte by byte: header, records, pieces of a snapshot; and what a crash can make of a record.

    segment    header | record | record | ...        snapshot   header | piece | piece | ... | empty piece
    header     frame( magic | version | 0 | identity | index )
    record     frame( head | msgpack list of commands | zeros up to a multiple of 8 )
    head       identity | index of the first command | commands | bytes of the list | empty sectors | crc32 of the head
    piece      frame( offset in the snapshot | bytes )                     frame: as in codec.py; little-endian

The idea: a batch is one frame, so it is whole or it is nothing. Its head has a checksum of its own and says where the
record ends, which batch it is and of which log: so a damaged length misleads nobody, and a record in the wrong place
is found out. The identity is drawn at random when a log is made, and is where to look for the next record after damage.

The rule: a torn record is told from a damaged one exactly. A crash leaves of the one record that was being written a
beginning, or some sectors of 512 bytes without the others, which then read as zeros; nothing follows it. The head
counts the sectors that are zeros by themselves, so that one more is a lost one. Whatever cannot have come about
this way is damage to what was acknowledged, and is reported, never cut.

The format is described for other readers in docs/rpc-log.md.
Source: Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018, section 3.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from onerack.codec import HEADER as FRAME
from onerack.codec import encode_frame, frame_checksum
from onerack.config import KIB, MIB, CodecConfig
from onerack.errors import Corruption, UsageError

SEGMENT: Final = b"1RACKLOG"
SNAPSHOT: Final = b"1RACKSNP"
VERSION: Final = 1
IDENTITY_BYTES: Final = 16
SECTOR: Final = 512
"""A disk writes a sector whole or not at all."""
PIECE_BYTES: Final = MIB
RECORD_BYTES_MAX: Final = CodecConfig().frame_bytes_max
COMMAND_BYTES_MAX: Final = RECORD_BYTES_MAX - 64 * KIB
"""Leaves room for what surrounds the only command of a record."""

_HEADER: Final = struct.Struct("<8sII16sQ")
HEADER_BYTES: Final = FRAME.size + _HEADER.size
_HEAD: Final = struct.Struct("<16sQIII")
_CHECKSUM: Final = struct.Struct("<I")
_HEAD_BYTES: Final = _HEAD.size + _CHECKSUM.size
RECORD_BYTES_MIN: Final = FRAME.size + _HEAD_BYTES
"""Frame and head. A multiple of 8, as is every record: so each sector that it touches holds eight bytes of it or more,
and of frame and head no eight bytes are ever zero."""
_OFFSET: Final = struct.Struct("<Q")
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(list[bytes])


class Header(msgspec.Struct, frozen=True):
    """How a file begins."""

    identity: bytes
    """Of the log; the same in all its files."""
    index: int
    """Segment: of the first command that it may hold. Snapshot: of the last command that it includes."""

    def __str__(self) -> str:
        return f"index {self.index} of log {self.identity.hex()}"


class Head(msgspec.Struct, frozen=True):
    """How a record begins."""

    identity: bytes
    index: int
    count: int
    size: int
    empty_sectors: int

    @property
    def record_bytes(self) -> int:
        return RECORD_BYTES_MIN + _padded(self.size)


class Record(NamedTuple):
    """One batch."""

    commands: list[bytes]
    end: int
    """Where the next record begins."""


# ------------------------------------------------------------------------------------------------ headers


def encode_header(magic: bytes, header: Header) -> bytes:
    return encode_frame(_HEADER.pack(magic, VERSION, 0, header.identity, header.index))


def read_header(content: bytes, path: str, magic: bytes) -> Header:
    """Raises: Corruption. UsageError: a later onerack wrote the file."""
    if len(content) < HEADER_BYTES:
        raise Corruption(path, 0, f"a header of {HEADER_BYTES} bytes", f"{len(content)} bytes")
    payload = _frame_at(content, path, 0, _HEADER.size)
    found, version, _, identity, index = _HEADER.unpack(payload)
    if found != magic:
        raise Corruption(path, FRAME.size, f"the magic {magic!r}", f"{found!r}")
    if version != VERSION:
        raise UsageError(f"{path} has format {version}; this onerack reads format {VERSION}, a later one may read both")
    return Header(identity, index)


def _frame_at(content: bytes, path: str, position: int, size: int) -> bytes:
    """The payload of the frame that must lie here and have this size. Requires: content has so many bytes."""
    length, checksum = FRAME.unpack_from(content, position)
    if length != size:
        raise Corruption(path, position, f"a length of {size}", f"{length}")
    payload = content[position + FRAME.size : position + FRAME.size + size]
    found = frame_checksum(payload)
    if found != checksum:
        raise Corruption(path, position, f"crc32 {checksum:08x}", f"{found:08x}")
    return payload


# ------------------------------------------------------------------------------------------------ records


def encode_record(identity: bytes, index: int, commands: Sequence[bytes], offset: int) -> bytes:
    """The record as it lies at `offset` of a segment, which must be a multiple of 8."""
    assert offset % 8 == 0
    assert commands
    body = _ENCODER.encode(commands)
    size = len(body)
    body = body.ljust(_padded(size), b"\x00")
    empty = empty_sectors(body, offset + RECORD_BYTES_MIN)
    head = _HEAD.pack(identity, index, len(commands), size, empty)
    return encode_frame(b"".join((head, _CHECKSUM.pack(zlib.crc32(head)), body)))


def _padded(size: int) -> int:
    return (size + 7) & ~7


def empty_sectors(body: bytes, offset: int) -> int:
    """How many sectors that begin within `body`, which lies at `offset` of its file, hold nothing but zeros of it."""
    begins = range(-offset % SECTOR, len(body), SECTOR)
    return sum(not body[begin : begin + SECTOR].strip(b"\x00") for begin in begins)


def read_head(content: bytes, position: int) -> Head | None:
    """The head of the record at `position`; None if it is not whole."""
    begin = position + FRAME.size
    head = content[begin : begin + _HEAD.size]
    if len(content) < begin + _HEAD_BYTES or zlib.crc32(head) != _CHECKSUM.unpack_from(content, begin + _HEAD.size)[0]:
        return None
    return Head(*_HEAD.unpack(head))


def read_record(content: bytes, path: str, position: int, identity: bytes, index: int) -> Record:
    """The record at `position`, which must be this log's and begin with the command at `index`.

    Raises: Corruption: it is not, or it is not whole.
    """
    head = read_head(content, position)
    if head is None:
        raise Corruption(path, position, f"the head of the record of command {index}", "other bytes")
    if head.identity != identity:
        raise Corruption(path, position, f"a record of log {identity.hex()}", f"one of {head.identity.hex()}")
    if head.index != index:
        raise Corruption(path, position, f"the record of command {index}", f"that of command {head.index}")
    end = position + head.record_bytes
    if end > len(content):
        raise Corruption(path, position, f"a record of {head.record_bytes} bytes", f"{len(content) - position} bytes")
    payload = _frame_at(content, path, position, head.record_bytes - FRAME.size)
    try:
        commands = _DECODER.decode(payload[_HEAD_BYTES : _HEAD_BYTES + head.size])
    except msgspec.DecodeError as error:
        raise Corruption(path, position, "a list of commands", str(error)) from error
    if len(commands) != head.count:
        raise Corruption(path, position, f"{head.count} commands", f"{len(commands)}")
    return Record(commands, end)


def is_torn(content: bytes, position: int, identity: bytes, index: int) -> bool:
    """Whether what lies from `position` to the end can be what a crash left of the record of command `index`.

    Requires: `read_record` refused it, and no later segment goes on.
    """
    if _has_later_record(content, position, identity, index):
        return False  # It was written after this one was durable.
    if len(content) - position < RECORD_BYTES_MIN:
        return True
    boundary = position - position % SECTOR + SECTOR
    first, second = content[position : position + RECORD_BYTES_MIN], b""
    if boundary < position + RECORD_BYTES_MIN:
        first, second = content[position:boundary], content[boundary : position + RECORD_BYTES_MIN]
    if not first.strip(b"\x00") or (second and not second.strip(b"\x00")):
        return True
    head = read_head(content, position)
    if head is None or head.identity != identity or head.index != index:
        return False
    end = position + head.record_bytes
    if end > len(content):
        return True
    body = content[position + RECORD_BYTES_MIN : end]
    return end == len(content) and empty_sectors(body, position + RECORD_BYTES_MIN) > head.empty_sectors


def _has_later_record(content: bytes, position: int, identity: bytes, index: int) -> bool:
    found = content.find(identity, position + FRAME.size + 1)
    while found >= 0:
        head = read_head(content, found - FRAME.size)
        if head is not None and head.index > index:
            return True
        found = content.find(identity, found + 1)
    return False


# ------------------------------------------------------------------------------------------------ snapshots


def snapshot_frames(identity: bytes, index: int, snapshot: bytes) -> Iterator[bytes]:
    """The file of a snapshot, frame by frame."""
    yield encode_header(SNAPSHOT, Header(identity, index))
    for offset in (*range(0, len(snapshot), PIECE_BYTES), len(snapshot)):
        yield encode_frame(_OFFSET.pack(offset) + snapshot[offset : offset + PIECE_BYTES])


def read_snapshot(content: bytes, path: str) -> bytes:
    """The snapshot that the file holds, which has a good header. Raises: Corruption."""
    pieces: list[bytes] = []
    position, offset = HEADER_BYTES, 0
    while True:
        piece = _piece_at(content, path, position, offset)
        position += FRAME.size + _OFFSET.size + len(piece)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
    if position != len(content):
        raise Corruption(path, position, "the end of the file", f"{len(content) - position} bytes more")
    return b"".join(pieces)


def _piece_at(content: bytes, path: str, position: int, offset: int) -> bytes:
    rest = len(content) - position - FRAME.size
    length = FRAME.unpack_from(content, position)[0] if rest >= 0 else 0
    if not _OFFSET.size <= length <= rest:
        raise Corruption(path, position, "a piece of the snapshot", f"a length of {length} before {max(0, rest)} bytes")
    payload = _frame_at(content, path, position, length)
    if _OFFSET.unpack_from(payload)[0] != offset:
        raise Corruption(
            path, position, f"the piece at {offset} of the snapshot", f"that at {_OFFSET.unpack_from(payload)[0]}"
        )
    return payload[_OFFSET.size :]
