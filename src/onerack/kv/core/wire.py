"""Protobuf by hand, for what comes a thousand times a second: a put, a read of one key, their answers, and events.

The idea: a message of a few fields is a few bytes of tags between values that we already hold. To join them costs a
third of what it costs to fill a message object and to serialise it; and to look at the first bytes of a plain put, a
fifth of parsing it. Whatever does not look plain goes the long way, through `onerack.kv.messages`.

The rule: the bytes are those that protobuf itself would write (fields by number, defaults left out), which a property
test holds them to.

Source: the encoding of protocol buffers; field numbers as in `messages.tables`.
"""

from __future__ import annotations

from typing import Final

from onerack.kv.core.version import Version

_SHORT: Final = tuple(bytes((n,)) for n in range(128))
_U64: Final = (1 << 64) - 1


def varint(n: int) -> bytes:
    """Any int64 or uint64."""
    if 0 <= n < 128:
        return _SHORT[n]
    n &= _U64
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def length_of(n: int) -> bytes:
    """A varint that is a length: small, and never negative."""
    if n < 128:
        return _SHORT[n]
    if n < 16384:
        return bytes((n & 127 | 128, n >> 7))
    return varint(n)


def revision_of(n: int) -> bytes:
    """A varint that is a revision: three or four bytes in most lives."""
    if n < 128:
        return _SHORT[n]
    if n < 16384:
        return bytes((n & 127 | 128, n >> 7))
    if n < 2097152:
        return bytes((n & 127 | 128, n >> 7 & 127 | 128, n >> 14))
    if n < 268435456:
        return bytes((n & 127 | 128, n >> 7 & 127 | 128, n >> 14 & 127 | 128, n >> 21))
    return varint(n)


# ------------------------------------------------------------------------------------------------ what comes


def plain_put(request: bytes, at: int) -> tuple[bytes, bytes] | None:
    """Key and value of a PutRequest that begins at `at` and has nothing else; None: it must be parsed in full."""
    try:
        if request[at] != 0x0A:
            return None
        size = request[at + 1]
        begin = at + 2
        if size > 127:
            return None
        end = begin + size
        key = request[begin:end]
        if len(request) == end:
            return (key, b"")
        if request[end] != 0x12:
            return None
        size = request[end + 1]
        begin = end + 2
        if size > 127:
            high = request[begin]
            if high > 127:
                return None
            size = size & 127 | high << 7
            begin += 1
        if begin + size != len(request):
            return None
        return (key, request[begin:])
    except IndexError:
        return None


def plain_key(request: bytes) -> bytes | None:
    """The key of a RangeRequest that asks for one key, now; None: it must be parsed in full."""
    size = len(request)
    if 2 < size < 130 and request[0] == 0x0A and request[1] == size - 2:
        return request[2:]
    # `serializable` says who may answer, not what.
    if 4 < size < 132 and request[0] == 0x0A and request[1] == size - 4 and request[-2:] == b"\x38\x01":
        return request[2:-2]
    return None


# ------------------------------------------------------------------------------------------------ what goes


class Header:
    """The ResponseHeader, encoded as a field 1 of any response. All but the revision changes rarely."""

    __slots__ = ("_after", "_before", "_fixed")

    def __init__(self, cluster_id: int, member_id: int, raft_term: int) -> None:
        self._before = (b"\x08" + varint(cluster_id) if cluster_id else b"") + (
            b"\x10" + varint(member_id) if member_id else b""
        )
        self._after = b"\x20" + varint(raft_term) if raft_term else b""
        self._fixed = len(self._before) + len(self._after) + 1

    def at(self, revision: int) -> bytes:
        """Requires: revision > 0."""
        number = revision_of(revision)
        return b"\x0a%c%b\x18%b%b" % (self._fixed + len(number), self._before, number, self._after)


def inner_header(revision: int) -> bytes:
    """The header of an operation inside a transaction: only the revision."""
    number = varint(revision)
    return b"\x0a%c\x18%b" % (1 + len(number), number)


EMPTY_HEADER: Final = b"\x0a\x00"
"""That of a transaction inside a transaction."""


def key_value(version: Version, with_value: bool = True) -> bytes:
    """A KeyValue. Of a deleted key only the key and the revision are known."""
    key = version.key
    if not version.version:
        return b"\x0a%b%b\x18%b" % (length_of(len(key)), key, revision_of(version.mod))
    value = version.value
    lease = version.lease
    return b"\x0a%b%b\x10%b\x18%b\x20%b%b%b" % (
        length_of(len(key)),
        key,
        revision_of(version.create),
        revision_of(version.mod),
        revision_of(version.version),
        b"\x2a%b%b" % (length_of(len(value)), value) if with_value and value else b"",
        b"\x30" + varint(lease) if lease else b"",
    )


def field(tag: int, content: bytes) -> bytes:
    """A field that is a message. Requires: its number is below 16, and `tag` says so."""
    return b"%c%b%b" % (tag, length_of(len(content)), content)


def range_response(header: bytes, found: list[Version], more: bool, count: int, with_values: bool = True) -> bytes:
    """A RangeResponse."""
    parts = [header]
    for version in found:
        content = key_value(version, with_values)
        parts += (b"\x12", length_of(len(content)), content)
    if more:
        parts.append(b"\x18\x01")
    if count:
        parts.append(b"\x20" + varint(count))
    return b"".join(parts)


def only_kv(version: Version) -> bytes:
    """The rest of a RangeResponse that has found one key: `kvs` and `count`."""
    content = key_value(version)
    return b"\x12%b%b\x20\x01" % (length_of(len(content)), content)


def event(version: Version, previous: Version | None) -> bytes:
    """An Event, as a field 11 of a WatchResponse."""
    content = key_value(version)
    parts = [b"" if version.version else b"\x08\x01", b"\x12", length_of(len(content)), content]
    if previous is not None:
        before = key_value(previous)
        parts += (b"\x1a", length_of(len(before)), before)
    return field(0x5A, b"".join(parts))
