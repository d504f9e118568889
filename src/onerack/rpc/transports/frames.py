"""Frames: how messages and their attachments lie on a connection. `docs/rpc-wire.md` says the same at more length.

    u32 word                                  top two bits: kind; the other thirty: size of what follows
    MESSAGE  head                             a message without attachment
    WHOLE    u32 size of head | head | bytes  a message and its attachment, up to a piece long
    BEGIN    u32 transfer | u64 total | head  a message whose attachment, longer than a piece, follows
    PIECE    u32 transfer | bytes             the next bytes of it; with the last one the message is delivered

All numbers are little-endian. `head` is the msgpack of one message of messages.py. The transfer's number is the
sender's choice, and is free again when its last byte was sent.

The idea: whoever reads the word knows how much to read, so that a large attachment is read by the kernel straight into
its own memory. Long attachments are cut into pieces, so that a small message waits for a piece and not for all of them.

The rules:
- Every bound is checked before memory is taken; anything wrong raises ProtocolError, and the connection ends.
- Frames carry no checksum: between hosts TCP's and TLS's must do, and bulk content has one from end to end in the
  systems above. What lies on a disk is another format (codec.py), which has one.
- What a sender has begun and not finished is bounded: at most TRANSFERS_MAX transfers, and together at most
  TOGETHER_BYTES_MAX, unless there is only one.
- Messages without attachment, or with one shorter than LARGE_BYTES, arrive in the order in which they were sent. One
  with a larger attachment may be overtaken.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from onerack.config import KIB, MIB, RpcConfig, require
from onerack.errors import ProtocolError
from onerack.rpc.messages import FromClient, FromServer

MESSAGE: Final = 0
WHOLE: Final = 1
BEGIN: Final = 2
PIECE: Final = 3
KIND_SHIFT: Final = 30
SIZE_MASK: Final = (1 << KIND_SHIFT) - 1

WORD: Final = struct.Struct("<I")
TWO_WORDS: Final = struct.Struct("<II")
BEGINNING: Final = struct.Struct("<IQ")
"""Of a BEGIN frame: transfer, total bytes."""
BEGIN_FRAME: Final = struct.Struct("<IIQ")
"""The same with the word."""

LARGE_BYTES: Final = 64 * KIB
"""From here on copying costs more than a system call: the kernel reads and writes an attachment at its own place."""
TRANSFERS_MAX: Final = 16
"""Transfers that may be unfinished at once in one direction of a connection."""
TOGETHER_BYTES_MAX: Final = 64 * MIB
"""What they may come to together; one alone may be longer."""

Side = Literal["client", "server"]
"""Which end of a connection this is: a client hears FromServer, a server FromClient."""

encode: Final = msgspec.msgpack.Encoder().encode
_DECODERS: Final[dict[Side, msgspec.msgpack.Decoder[Any]]] = {
    "client": msgspec.msgpack.Decoder(FromServer),
    "server": msgspec.msgpack.Decoder(FromClient),
}
NOT_A_MESSAGE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding raises for bytes that are no message: wrong types, wrong UTF-8, nesting without end."""

OPENING_BYTES: Final = 6
"""So many of a stream's first bytes tell another protocol."""
_OTHER_TONGUES: Final = (
    (re.compile(rb"(GET|POST|HEAD|PUT|OPTIONS) ?|HTTP"), "HTTP"),
    (re.compile(rb"PRI "), "HTTP/2"),
    (re.compile(rb"SSH-"), "SSH"),
    # A handshake that begins, or an alert. Our own first message has another sixth byte, whatever its size.
    (re.compile(rb"\x16\x03...\x01|\x15\x03.\x00\x02", re.DOTALL), "TLS (is one address tcp:// and the other tls://?)"),
)


def decoder_for(side: Side) -> Callable[[memoryview], Any]:
    """What turns a head that comes in at this end into a message; raises one of NOT_A_MESSAGE."""
    return _DECODERS[side].decode


def check_limits(config: RpcConfig) -> None:
    """Raises: UsageError: frames with such limits do not fit the thirty bits of a size."""
    longest = config.head_bytes_max + config.piece_bytes_max + BEGIN_FRAME.size
    require(
        longest <= SIZE_MASK,
        f"head_bytes_max={config.head_bytes_max} and piece_bytes_max={config.piece_bytes_max} make frames of up to "
        f"{longest} bytes; at most {SIZE_MASK} are possible",
    )


def tongue_of(opening: bytes) -> str:
    """What else a peer may be speaking whose first bytes are these; empty when nothing is recognised."""
    return next((tongue for pattern, tongue in _OTHER_TONGUES if pattern.match(opening)), "")


def check_size(kind: int, size: int, config: RpcConfig) -> None:
    """Raises: ProtocolError: no frame of this kind may have this size."""
    if kind == MESSAGE:
        lowest, highest = 1, config.head_bytes_max
    elif kind == WHOLE:
        lowest, highest = WORD.size + 1, WORD.size + config.head_bytes_max + config.piece_bytes_max
    elif kind == BEGIN:
        lowest, highest = BEGINNING.size + 1, BEGINNING.size + config.head_bytes_max
    else:
        lowest, highest = WORD.size + 1, WORD.size + config.piece_bytes_max
    if not lowest <= size <= highest:
        name = ("message", "message with its attachment", "message whose attachment follows", "piece")[kind]
        raise ProtocolError(f"a {name} of {size} bytes; expected {lowest} to {highest}")


def check_whole(size: int, head_size: int, config: RpcConfig) -> None:
    """Raises: ProtocolError: a WHOLE frame of this size cannot have such a head."""
    attachment_size = size - WORD.size - head_size
    if not 0 < head_size <= config.head_bytes_max or not 0 <= attachment_size <= config.piece_bytes_max:
        raise ProtocolError(
            f"a frame of {size} bytes with a message of {head_size} and an attachment of {attachment_size}; messages "
            f"have 1 to {config.head_bytes_max} bytes, attachments in one frame up to {config.piece_bytes_max}"
        )
