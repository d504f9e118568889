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
_LOW: Final = tuple(bytes((n & 127 | 128, n >> 7 | 128)) for n in range(16384))
"""The lower 14 bits of a longer number."""
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


def revision_of(n: int) -> bytes:
    """A varint of two to four bytes in most cases: a revision. Never negative."""
    if n < 128:
        return _SHORT[n]
    if n < 16384:
        return bytes((n & 127 | 128, n >> 7))
    if n < 2097152:
        return _LOW[n & 16383] + _SHORT[n >> 14]
    if n < 268435456:
        return _LOW[n & 16383] + bytes((n >> 14 & 127 | 128, n >> 21))
    return varint(n)


def length_of(n: int) -> bytes:
    """A varint of one or two bytes in most cases: a length. Never negative."""
    if n < 128:
        return _SHORT[n]
    if n < 16384:
        return bytes((n & 127 | 128, n >> 7))
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

    __slots__ = ("_after", "_before", "_encoded", "_fixed", "_revision")

    def __init__(self, cluster_id: int, member_id: int, raft_term: int) -> None:
        self._before = (b"\x08" + varint(cluster_id) if cluster_id else b"") + (
            b"\x10" + varint(member_id) if member_id else b""
        )
        self._after = b"\x20" + varint(raft_term) if raft_term else b""
        self._fixed = len(self._before) + len(self._after) + 1
        self._revision = 0
        self._encoded = b""
        """At `_revision`: most answers of one turn have the same."""

    def at(self, revision: int) -> bytes:
        """Requires: revision > 0."""
        if revision != self._revision:
            number = revision_of(revision)
            size = self._fixed + len(number)
            self._encoded = b"\x0a%c%b\x18%b%b" % (size, self._before, number, self._after)
            self._revision = revision
        return self._encoded

    @property
    def without_revision(self) -> bytes:
        """Of what has nothing to do with the store."""
        return b"\x0a%c%b%b" % (self._fixed - 1, self._before, self._after)


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
    create = revision_of(version.create)
    size, count = len(key), version.version
    head = b"\x0a%b%b\x10%b\x18%b\x20%b" % (
        _SHORT[size] if size < 128 else length_of(size),
        key,
        create,
        revision_of(version.mod) if count > 1 else create,
        _SHORT[count] if count < 128 else revision_of(count),
    )
    if with_value and value:
        head = b"%b\x2a%b%b" % (head, length_of(len(value)), value)
    return head + b"\x30" + varint(version.lease) if version.lease else head


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
