"""A snapshot of the store: everything that applying the log has made, as a stream of bytes.

    frame = u32 length | payload            payload = msgpack of a Head, then of lists of versions, then an empty list,
                                            then more lists of versions, then an empty list; an empty frame is a
                                            pause, and says nothing

The idea: the small things (leases, alarms, users) are copied at once, and stand in the head. The versions are walked
while puts go on: first what lies before the log, in the order of keys, then the log up to the revision at which the
snapshot began. Both are never changed, only appended to, as long as nobody sweeps; and the walker holds the sweeper.

The rule: pieces have at most PIECE_BYTES, and to make one never takes longer than a look at a slice of keys.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from onerack.errors import check
from onerack.kv.core.auth import AuthState
from onerack.kv.core.store import Store
from onerack.kv.core.version import Version

FORMAT: Final = 1
PIECE_BYTES: Final = 1 << 20
FRAME_BYTES_MAX: Final = 1 << 28
"""A length beyond it is damage; no slice of versions comes near."""
SLICE_BYTES: Final = 1 << 19
"""A frame of versions is closed when it holds so much."""
_LENGTH: Final = struct.Struct("<I")
_PAUSE: Final = _LENGTH.pack(0)
"""An empty frame, which says nothing."""


class Head(msgspec.Struct, array_like=True):
    """All but the versions."""

    format: int
    revision: int
    compacted: int
    first_logged: int
    leases: list[tuple[int, int]]
    """(id, granted TTL), in the order in which they were granted."""
    leases_granted: int
    lease_term: int
    alarms: list[tuple[int, int]]
    auth: AuthState


def fresh_head() -> Head:
    """Of a store in which nothing was ever written."""
    store = Store()
    return Head(FORMAT, store.revision, store.compacted, store.first_logged, [], 0, 0, [], AuthState())


_encoder: Final = msgspec.msgpack.Encoder()
_heads: Final = msgspec.msgpack.Decoder(Head)
_versions: Final = msgspec.msgpack.Decoder(list[Version])


def pieces_of(store: Store, head: Head) -> Iterator[bytes]:
    """The snapshot as of this call, although puts go on while it is iterated."""
    # Both walks begin now: they hold the sweeper, and know where the log ends.
    encoded = _encoder.encode(head)
    base = _base(store, store.walk_keys(), head.first_logged)
    return _cut(_framed(encoded, base, store.walk_log()))


def _base(store: Store, walk: Iterator[list[bytes]], first_logged: int) -> Iterator[list[Version]]:
    """What lies before the log: of each key at most one version, its oldest."""
    for keys in walk:
        oldest = [store.oldest(key) for key in keys]
        yield [version for version in oldest if version.mod < first_logged]


def _framed(head: bytes, base: Iterator[list[Version]], log: Iterator[list[Version]]) -> Iterator[bytes]:
    yield _frame(head)
    for part in (base, log):
        for versions in part:
            for few in _few(versions):
                yield _frame(_encoder.encode(few))
            yield _PAUSE  # Also after a slice in which there was nothing: to look through all may take long.
        yield _frame(_encoder.encode([]))


def _few(versions: list[Version]) -> Iterator[list[Version]]:
    """Never an empty list, which would be the end."""
    few: list[Version] = []
    size = 0
    for version in versions:
        few.append(version)
        size += version.size
        if size >= SLICE_BYTES:
            yield few
            few, size = [], 0
    if few:
        yield few


def _frame(payload: bytes) -> bytes:
    return _LENGTH.pack(len(payload)) + payload


def _cut(frames: Iterator[bytes]) -> Iterator[bytes]:
    for frame in frames:
        for begin in range(0, len(frame), PIECE_BYTES):
            yield frame[begin : begin + PIECE_BYTES]


# ------------------------------------------------------------------------------------------------ back


def refilled(pieces: Iterator[bytes]) -> tuple[Head, Store]:
    """The reverse. Raises: AssertionError: this is no whole snapshot (its checksums are the storage's affair)."""
    frames = _frames(pieces)
    try:
        head = _heads.decode(_next(frames))
        check(head.format == FORMAT, f"a snapshot of format {head.format}; this release reads {FORMAT}")
        store = Store()
        store.refill(head.revision, head.compacted, head.first_logged, _lists(frames), _lists(frames))
    except msgspec.MsgspecError as error:
        raise AssertionError(f"this is no snapshot of the store: {error}") from error
    return head, store


def _lists(frames: Iterator[bytes]) -> Iterator[list[Version]]:
    while versions := _versions.decode(_next(frames)):
        yield versions


def _next(frames: Iterator[bytes]) -> bytes:
    frame = next(frames, None)
    check(frame is not None, "a snapshot of the store ends in the middle")
    assert frame is not None
    return frame


def _frames(pieces: Iterator[bytes]) -> Iterator[bytes]:
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        at = 0
        while len(buffer) - at >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(buffer, at)
            check(size <= FRAME_BYTES_MAX, f"a frame of {size} bytes in a snapshot of the store")
            if len(buffer) - at - _LENGTH.size < size:
                break
            at += _LENGTH.size
            if size:
                yield bytes(buffer[at : at + size])
            at += size
        del buffer[:at]
    check(not buffer, "a snapshot of the store ends in the middle")
