"""Commands: what an entry of the log is made of.

    entry      command | command | ...
    command    u32 length of the body | u8 mount | u64 tag | body                          (little-endian)

The idea: everything that clients propose during one turn becomes one entry, so the protocol pays per batch and not per
command. `mount` says which state machine a command is for. `tag` is the proposer's own number: the process that knows
it tells its caller what came out; to all others it means nothing. So any node may take any command and pass it on.

The rule: a body is opaque from the client's socket to every log; and an entry is applied whole, or it is corrupt.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from onerack.errors import Corruption

HEAD: Final = struct.Struct("<IBQ")
_TAG: Final = struct.Struct("<Q")
_TAG_OFFSET: Final = 5

MEMBERS: Final = 0
"""The mount of raft's own address book."""
KV: Final = 1
GFS: Final = 2
MAPREDUCE: Final = 3
CALLS: Final = 16
"""From here on: exactly-once services."""
USER: Final = 32
"""From here on: whatever users mount."""


def pack_command(mount: int, tag: int, body: bytes) -> bytes:
    return HEAD.pack(len(body), mount, tag) + body


def commands_of(payload: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Mount, tag and body of each command.

    Raises: Corruption: these are not commands. What came before has been given out already.
    """
    unpack, size, position, end = HEAD.unpack_from, HEAD.size, 0, len(payload)
    while position < end:
        if end - position < size:
            raise _corrupt(position, end)
        length, mount, tag = unpack(payload, position)
        start = position + size
        position = start + length
        if position > end:
            raise _corrupt(start - size, end)
        # A copy only of an entry that is a view of its file.
        yield mount, tag, bytes(payload[start:position])


def tags_of(payload: bytes) -> list[int]:
    """The tags only. Raises: Corruption."""
    return [tag for _, tag, _ in commands_of(payload)]


def _corrupt(position: int, end: int) -> Corruption:
    return Corruption("an entry of the log", position, "a whole command", f"{end - position} bytes")
