"""Snapshot files: the state of all machines at one index, in pieces, each with its checksum.

    snapshot    header | piece | piece | ... | footer                                     little-endian
    header      frame( magic | version | 0 | identity | seed | msgpack of the SnapshotMark )
    piece       bytes | crc32 | offset in the snapshot | the bytes
    footer      magic | total bytes | pieces | crc32 of the last piece | crc32 of the footer

The idea: a snapshot is written piece by piece beside the old one, which stays valid until the new one has its name;
and is read piece by piece, by whoever needs it, while it may be unlinked already. A piece's checksum starts from that
of the piece before, the first one's from the header's, so that no piece can be missing, doubled or another file's.

The rule: a snapshot exists when `commit` has returned, and only then may anything be removed that it replaces.

Source: Ongaro & Ousterhout (extended version), 2014, section 7.
"""

from __future__ import annotations

import os
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from onerack.codec import HEADER as FRAME
from onerack.codec import encode_frame
from onerack.config import MIB
from onerack.errors import Corruption, UsageError, check
from onerack.raft.messages import SnapshotMark
from onerack.raft.storage.files import frame_at, raft_directory, snapshot_name, snapshots_in
from onerack.raft.storage.format import SEED_BYTES
from onerack.raft.storage.identity import read_identity
from onerack.rpc.durable.format import IDENTITY_BYTES
from onerack.runtime.env import ReadFile, StorageDisk
from onerack.runtime.real import RealDisk
from onerack.runtime.unfinished import UnfinishedFile

MAGIC: Final = b"1RACKRSN"
FOOTER_MAGIC: Final = b"SNAPENDS"
VERSION: Final = 1
PIECE_BYTES_MAX: Final = 64 * MIB
"""A longer one is no piece of ours."""
_HEAD: Final = struct.Struct(f"<8sII{IDENTITY_BYTES}s{SEED_BYTES}s")
_HEADER_BYTES_MAX: Final = MIB
_PIECE: Final = struct.Struct("<IIQ")
_PIECE_KEY: Final = struct.Struct("<IQ")
_FOOTER: Final = struct.Struct("<8sQII")
_CHECKSUM: Final = struct.Struct("<I")
FOOTER_BYTES: Final = _FOOTER.size + _CHECKSUM.size
_MARK: Final = msgspec.msgpack.Decoder(SnapshotMark)


class Footer(NamedTuple):
    """How a snapshot ends."""

    size: int
    """Bytes of all pieces."""
    pieces: int
    checksum: int


def _piece_checksum(piece: bytes, offset: int, previous: int) -> int:
    return zlib.crc32(piece, zlib.crc32(_PIECE_KEY.pack(len(piece), offset), previous))


class SnapshotWriter:
    """A snapshot under way. After an error, `abort` it."""

    def __init__(self, disk: StorageDisk, directory: str, identity: bytes, seed: bytes, mark: SnapshotMark) -> None:
        self.mark = mark
        self.size = 0
        """Bytes of the pieces so far."""
        self._pieces = 0
        self._ended = False
        self._file = UnfinishedFile(disk, directory, snapshot_name(mark.index), seed)
        header = encode_frame(_HEAD.pack(MAGIC, VERSION, 0, identity, seed) + msgspec.msgpack.encode(mark))
        self._checksum = zlib.crc32(header)
        self._file.append(header)

    def write(self, piece: bytes) -> None:
        """Raises: StorageFull."""
        check(not self._ended, "a snapshot that has ended takes no more pieces")
        if len(piece) > PIECE_BYTES_MAX:
            raise UsageError(f"a piece of {len(piece)} bytes; at most {PIECE_BYTES_MAX} are allowed")
        if not piece:
            return
        self._checksum = _piece_checksum(piece, self.size, self._checksum)
        self._file.append(_PIECE.pack(len(piece), self._checksum, self.size))
        self._file.append(piece)
        self.size += len(piece)
        self._pieces += 1

    def commit(self) -> None:
        """The snapshot is durable, and has its name, when this returns. Raises: StorageFull."""
        check(not self._ended, "a snapshot ends once")
        footer = _FOOTER.pack(FOOTER_MAGIC, self.size, self._pieces, self._checksum)
        self._file.append(footer + _CHECKSUM.pack(zlib.crc32(footer)))
        self._file.finish().close()
        self._ended = True

    def abort(self) -> None:
        """Leaves nothing. May be called again, and does nothing after `commit`."""
        if not self._ended:
            self._ended = True
            self._file.abandon()


class SnapshotReader:
    """A snapshot that is read. Header and footer are good; each piece is checked when its turn comes."""

    def __init__(self, file: ReadFile, path: str) -> None:
        self.path = path
        self._file = file
        start = file.read(0, FRAME.size)
        length = FRAME.unpack(start)[0] if len(start) == FRAME.size else 0
        if length > _HEADER_BYTES_MAX:
            raise Corruption(path, 0, f"a header of at most {_HEADER_BYTES_MAX} bytes", f"a length of {length}")
        header = file.read(0, FRAME.size + length)
        self.identity, self.mark = _read_header(header, path)
        self._begin, self._start = len(header), zlib.crc32(header)
        self.footer = self._read_footer()

    @property
    def size(self) -> int:
        """Bytes of all pieces."""
        return self.footer.size

    def pieces(self) -> Iterator[bytes]:
        """As they were written, once: the file is closed when they end.

        Raises: Corruption: what came before is right, the rest cannot be had.
        """
        try:
            yield from self._pieces()
        finally:
            self.close()

    def _pieces(self) -> Iterator[bytes]:
        position, offset, count, previous = self._begin, 0, 0, self._start
        end = self._file.size - FOOTER_BYTES
        while position < end:
            head = self._file.read(position, _PIECE.size)
            size, checksum, at = _PIECE.unpack(head) if len(head) == _PIECE.size else (0, 0, 0)
            begin = position + _PIECE.size
            if at != offset or not 0 < size <= min(PIECE_BYTES_MAX, end - begin):
                raise Corruption(self.path, position, f"the piece at {offset}", f"one at {at} of {size} bytes")
            piece = self._file.read(begin, size)
            found = _piece_checksum(piece, offset, previous)
            if found != checksum:
                raise Corruption(self.path, position, f"crc32 {checksum:08x}", f"{found:08x}")
            position, offset, count, previous = begin + size, offset + size, count + 1, checksum
            yield piece
        if (offset, count, previous) != self.footer:
            raise Corruption(self.path, end, f"the end of {self.footer}", f"{Footer(offset, count, previous)}")

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> SnapshotReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read_footer(self) -> Footer:
        position = self._file.size - FOOTER_BYTES
        content = self._file.read(max(position, self._begin), FOOTER_BYTES)
        if len(content) < FOOTER_BYTES:
            raise Corruption(self.path, self._begin, f"a footer of {FOOTER_BYTES} bytes", f"{len(content)} bytes")
        magic, size, pieces, checksum = _FOOTER.unpack_from(content)
        found, (expected,) = zlib.crc32(content[: _FOOTER.size]), _CHECKSUM.unpack_from(content, _FOOTER.size)
        if magic != FOOTER_MAGIC or found != expected:
            raise Corruption(self.path, position, f"a footer with crc32 {expected:08x}", f"one with {found:08x}")
        return Footer(size, pieces, checksum)


def _read_header(content: bytes, path: str) -> tuple[bytes, SnapshotMark]:
    payload = frame_at(content, path, 0)
    if len(payload) < _HEAD.size:
        raise Corruption(path, 0, f"a header of at least {_HEAD.size} bytes", f"{len(payload)}")
    magic, version, _, identity, _ = _HEAD.unpack_from(payload)
    if magic != MAGIC:
        raise Corruption(path, FRAME.size, f"the magic {MAGIC!r}", f"{magic!r}")
    if version != VERSION:
        raise UsageError(f"{path} has format {version}; this onerack reads format {VERSION}, a later one may read both")
    try:
        return identity, _MARK.decode(payload[_HEAD.size :])
    except msgspec.DecodeError as error:
        raise Corruption(path, FRAME.size + _HEAD.size, "a mark", str(error)) from error


class SnapshotStore:
    """The snapshots of the log in this data directory, which must have been opened once."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        disk: StorageDisk | None = None,
        identity: bytes = b"",
        draw: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._disk = disk or RealDisk()
        self._directory = raft_directory(directory)
        self._identity = identity
        self._draw = draw

    @property
    def identity(self) -> bytes:
        """Of the log. Raises: UsageError: there is none yet."""
        if not self._identity:
            identity = read_identity(self._disk, self._directory)
            if identity is None:
                raise UsageError(f"there is no log in {self._directory}; open it first")
            self._identity = identity.log
        return self._identity

    def create(self, mark: SnapshotMark) -> SnapshotWriter:
        """A new snapshot, in the place of any with this index. Raises: StorageFull."""
        return SnapshotWriter(self._disk, self._directory, self.identity, self._draw(SEED_BYTES), mark)

    def indexes(self) -> list[int]:
        """Of all snapshots, sorted."""
        return snapshots_in(self._disk.names(self._directory))

    def newest(self) -> SnapshotMark | None:
        """Raises: Corruption: it is damaged at its beginning or end."""
        indexes = self.indexes()
        if not indexes:
            return None
        with self.open_index(indexes[-1]) as reader:
            return reader.mark

    def open(self, mark: SnapshotMark) -> SnapshotReader:
        """Raises: Corruption. FileNotFoundError: there is no such snapshot (any more)."""
        return self.open_index(mark.index)

    def open_index(self, index: int) -> SnapshotReader:
        path = f"{self._directory}/{snapshot_name(index)}"
        file = self._disk.open_read(path)
        try:
            reader = SnapshotReader(file, path)
            if (reader.identity, reader.mark.index) != (self.identity, index):
                expected = f"index {index} of log {self.identity.hex()}"
                raise Corruption(path, FRAME.size, expected, f"{reader.mark.index} of {reader.identity.hex()}")
        except BaseException:
            file.close()
            raise
        return reader

    def delete_before(self, index: int) -> None:
        """Those with a lower index; never the newest. Whatever comes back after a crash is only needless."""
        for old in self.indexes()[:-1]:
            if old < index:
                with suppress(FileNotFoundError):
                    self._disk.unlink(f"{self._directory}/{snapshot_name(old)}")
