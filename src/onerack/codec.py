"""Frames: the one format in which messages lie on a wire and records lie on a disk.

    u32 length of the payload | u32 crc32 of (length, payload) | payload          (little-endian)

The idea: the checksum covers the length too, so that a damaged length cannot send the reader astray unnoticed.
The rule: a length is compared with the cap before a byte is allocated for it, and nothing but `ProtocolError`
(wire) or `Corruption` (disk) leaves this file for bad bytes. On disk a frame that is cut short by the end of the
file is a torn tail (the last write did not finish); a frame whose checksum is wrong although all of it is there is
corruption, unless it is the last one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from onerack.config import CodecConfig
from onerack.errors import Corruption, ProtocolError

HEADER: Final = struct.Struct("<II")
_LENGTH: Final = struct.Struct("<I")
_CONFIG: Final = CodecConfig()


def frame_checksum(payload: bytes | memoryview) -> int:
    """crc32 over the little-endian length and the payload."""
    return zlib.crc32(payload, zlib.crc32(_LENGTH.pack(len(payload))))


def encode_frame(payload: bytes) -> bytes:
    """One frame. Raises `ProtocolError` when the payload is longer than the cap."""
    if len(payload) > _CONFIG.frame_bytes_max:
        raise ProtocolError(f"frame of {len(payload)} bytes; at most {_CONFIG.frame_bytes_max} are allowed")
    return HEADER.pack(len(payload), frame_checksum(payload)) + payload


class FrameDecoder:
    """Cuts a stream of bytes into payloads. Holds at most one unfinished frame."""

    def __init__(self, frame_bytes_max: int = _CONFIG.frame_bytes_max) -> None:
        self._buffer = bytearray()
        self._frame_bytes_max = frame_bytes_max

    def feed(self, received: bytes) -> list[bytes]:
        """All payloads that `received` completes, in order.

        Raises: ProtocolError: a length over the cap or a wrong checksum; the connection must be closed.
        """
        self._buffer += received
        payloads: list[bytes] = []
        position = 0
        while len(self._buffer) - position >= HEADER.size:
            length, checksum = HEADER.unpack_from(self._buffer, position)
            if length > self._frame_bytes_max:
                raise ProtocolError(f"frame of {length} bytes; at most {self._frame_bytes_max} are allowed")
            end = position + HEADER.size + length
            if end > len(self._buffer):
                break
            payload = bytes(memoryview(self._buffer)[position + HEADER.size : end])
            if frame_checksum(payload) != checksum:
                raise ProtocolError(f"frame of {length} bytes has a wrong checksum")
            payloads.append(payload)
            position = end
        del self._buffer[:position]
        return payloads

    @property
    def pending_bytes(self) -> int:
        """Bytes of the unfinished frame."""
        return len(self._buffer)


def decode_file(content: bytes, path: str) -> Iterator[bytes]:
    """The payloads of a stored log; a torn tail ends it silently.

    Raises: Corruption: a damaged frame that is not the last.
    """
    position = 0
    while len(content) - position >= HEADER.size:
        length, checksum = HEADER.unpack_from(content, position)
        end = position + HEADER.size + length
        if length > _CONFIG.frame_bytes_max or end > len(content):
            return
        payload = content[position + HEADER.size : end]
        found = frame_checksum(payload)
        if found != checksum:
            if end == len(content):
                return
            raise Corruption(path, position, f"crc32 {checksum:08x}", f"{found:08x}")
        yield payload
        position = end


def as_utf8(text: str) -> str:
    """The same text, with what UTF-8 cannot hold (lone surrogates) written as escapes, so that it can be sent."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
