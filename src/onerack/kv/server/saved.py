"""A saved store: what `etcdctl snapshot save` writes when it is pointed at us.

    magic | u32 length, piece | u32 length, piece | ... | u32 0 | zeros up to a multiple of 512 | sha256 of all before

The idea: the pieces are those of the machine's own snapshot. The frame around them is as etcdctl wants it: a file that
is a multiple of 512 bytes long, and a SHA-256 behind, or it holds the download for broken off.

The rule: nothing is believed of a file before its sum is right.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from onerack.errors import Corruption

MAGIC: Final = b"onerack kv snapshot 1\n\0\0"
_BLOCK: Final = 512
_LENGTH: Final = struct.Struct("<I")
_SUM_BYTES: Final = hashlib.sha256().digest_size
_PIECE_BYTES_MAX: Final = 1 << 28
_READ_BYTES: Final = 1 << 20


def blobs(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The whole file, a piece at a time."""
    digest = hashlib.sha256()
    size = 0
    for part in _framed(pieces):
        digest.update(part)
        size += len(part)
        yield part
    padding = bytes(-size % _BLOCK)
    digest.update(padding)
    yield padding + digest.digest()


def _framed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield MAGIC
    for piece in pieces:
        if piece:
            yield _LENGTH.pack(len(piece)) + piece
    yield _LENGTH.pack(0)


def pieces_of(file: BinaryIO, name: str) -> Iterator[bytes]:
    """The machine's pieces again, for `KvMachine.restore`; the whole file is checked before the first one.

    Raises: Corruption: this is no saved store, or not all of it.
    """
    size = _checked(file, name)
    file.seek(len(MAGIC))
    while True:
        at = file.tell()
        head = file.read(_LENGTH.size)
        length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else _PIECE_BYTES_MAX + 1
        if not length:
            return
        if length > _PIECE_BYTES_MAX or at + length > size:
            raise Corruption(name, at, "a whole piece", "the end of the file")
        yield file.read(length)


def _checked(file: BinaryIO, name: str) -> int:
    """The size without the sum. Raises: Corruption."""
    size = file.seek(0, 2) - _SUM_BYTES
    file.seek(0)
    magic = file.read(len(MAGIC))
    if magic != MAGIC:
        raise Corruption(name, 0, f"{MAGIC!r}, as every saved store begins", repr(magic))
    if size < 0 or size % _BLOCK:
        raise Corruption(name, max(size, 0), f"a multiple of {_BLOCK} bytes, and a SHA-256", "a file that is cut short")
    digest = hashlib.sha256()
    file.seek(0)
    left = size
    while left:
        part = file.read(min(left, _READ_BYTES))
        digest.update(part)
        left -= len(part)
    found = file.read(_SUM_BYTES)
    if found != digest.digest():
        raise Corruption(name, size, f"sha256 {digest.hexdigest()}", found.hex())
    return size
