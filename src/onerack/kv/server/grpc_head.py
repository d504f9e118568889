"""Heads of gRPC requests: what a header list asks for, and the trailers that say how it went.

The idea: a head depends on the header list alone, so it is made once for many requests, and everything is looked up
then: the handler, the timeout, the metadata.

The rule: a list that HTTP/2 calls malformed resets the stream; one that is only no gRPC is answered with a status.
Source: RFC 9113, section 8 (fields); PROTOCOL-HTTP2.md of gRPC.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from onerack.kv.server.grpc_status import INTERNAL, UNIMPLEMENTED
from onerack.kv.server.http2.frames import PROTOCOL_ERROR, StreamFailure
from onerack.kv.server.http2.headers import Field, literal, status

Kind = Literal["unary", "stream", "refused"]

_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_NEEDED: Final = (b":method", b":scheme", b":path")
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_BAD_VALUE: Final = re.compile(rb"[\0\r\n]")
_OF_THE_CONNECTION: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_KNOWN_MAX: Final = 256
_KNOWN_BYTES_MAX: Final = 2048
"""So many heads are remembered for all connections, of header lists up to this size: the timeout differs each time, all
else seldom."""
_OURS: Final = frozenset({"content-type", "te", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding"})
_CONTENT_TYPE: Final = re.compile(rb"application/grpc($|[+;])")
_PLAIN: Final = re.compile(rb"[ -$&-~]*")
_NOT_PLAIN: Final = re.compile(rb"[^ -$&-~]")
_TEXT_BYTES_MAX: Final = 1024
"""Of a grpc-message, which encoded may be three times as long: clients bound their header lists, too."""


class Refusal(Exception):
    """A call that is not taken, and why."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Head(msgspec.Struct, frozen=True):
    """What a request's header list means."""

    kind: Kind
    path: str
    handler: Callable[..., Any]
    message_bytes_max: int
    timeout_s: float | None = None
    metadata: Mapping[str, str] = {}
    binary_metadata: Mapping[str, bytes] = {}
    token: str = ""
    encoding: str = ""
    refusal: bytes | None = None
    """The header block that answers it, when nobody does."""

    def within(self, timeout_s: float) -> Head:
        """The same with a timeout."""
        return Head(self.kind, self.path, self.handler, self.message_bytes_max, timeout_s, self.metadata,
                    self.binary_metadata, self.token, self.encoding)  # fmt: skip


@functools.lru_cache(256)
def trailers(code: int, text: str) -> bytes:
    """The block that ends a call."""
    block = literal(b"grpc-status", str(code).encode())
    return block + literal(b"grpc-message", percent_encoded(text)) if text else block


def percent_encoded(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    if len(raw) > _TEXT_BYTES_MAX:
        raw = raw[:_TEXT_BYTES_MAX].decode("utf-8", "ignore").encode()
    return raw if _PLAIN.fullmatch(raw) else _NOT_PLAIN.sub(lambda found: b"%%%02X" % ord(found[0]), raw)


def timeout_of(value: bytes) -> float:
    """Raises: Refusal: it is none."""
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        raise Refusal(INTERNAL, f"malformed grpc-timeout: {value[:20].decode('latin-1')!r}")
    return int(found[1]) * _UNITS[found[2]]


def head_reader(
    routes: Mapping[str, tuple[Kind, Callable[..., Any]]], message_bytes_max: int, answer_block: bytes
) -> Callable[[Sequence[Field]], Head]:
    """What makes heads of header lists. `answer_block` is what every answer begins with."""

    def refused(path: str, block: bytes) -> Head:
        return Head("refused", path, refused, message_bytes_max, refusal=block)

    def read_without_timeout(fields: Sequence[Field]) -> Head:
        pseudo, regular = _checked(fields)
        path = pseudo[b":path"].decode("latin-1")
        if pseudo[b":method"] != b"POST":
            return refused(path, status(405) + literal(b"allow", b"POST"))
        if not _CONTENT_TYPE.match(regular.get(b"content-type", b"")):
            return refused(path, status(415) + literal(b"accept", b"application/grpc"))
        try:
            kind, handler = _route(routes, path)
            metadata, binary_metadata = _metadata(regular)
        except Refusal as refusal:
            return refused(path, answer_block + trailers(refusal.code, refusal.text))
        return Head(
            kind,
            path,
            handler,
            message_bytes_max,
            metadata=metadata,
            binary_metadata=binary_metadata,
            token=metadata.get("token") or metadata.get("authorization", ""),
            encoding=regular.get(b"grpc-encoding", b"").decode("latin-1"),
        )

    known: dict[tuple[Field, ...], Head] = {}

    def read(fields: Sequence[Field]) -> Head:
        timeouts = [value for name, value in fields if name == b"grpc-timeout"]
        key = tuple([field for field in fields if field[0] != b"grpc-timeout"] if timeouts else fields)
        head = known.get(key)
        if head is None:
            head = read_without_timeout(key)
            if sum(len(name) + len(value) for name, value in key) <= _KNOWN_BYTES_MAX:
                if len(known) >= _KNOWN_MAX:
                    known.clear()
                known[key] = head
        if not timeouts or head.refusal is not None:
            return head
        try:
            return head.within(timeout_of(timeouts[-1]))
        except Refusal as refusal:
            return refused(head.path, answer_block + trailers(refusal.code, refusal.text))

    return read


def _route(routes: Mapping[str, tuple[Kind, Callable[..., Any]]], path: str) -> tuple[Kind, Callable[..., Any]]:
    found = routes.get(path)
    if found is not None:
        return found
    service, slash, method = path[1:].rpartition("/")
    if not slash or not path.startswith("/"):
        raise Refusal(UNIMPLEMENTED, f"malformed method name: {path!r}")
    if any(known.startswith(f"/{service}/") for known in routes):
        raise Refusal(UNIMPLEMENTED, f"unknown method {method} for service {service}")
    raise Refusal(UNIMPLEMENTED, f"unknown service {service}")


def _checked(fields: Sequence[Field]) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """Pseudo fields and the others, several values of one name joined. Raises: StreamFailure: malformed."""
    pseudo: dict[bytes, bytes] = {}
    regular: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] == b":":
            if regular or name in pseudo or name not in _PSEUDO:
                raise StreamFailure(PROTOCOL_ERROR, f"pseudo field {name!r} out of place")
            pseudo[name] = value
        elif not _NAME.fullmatch(name) or _BAD_VALUE.search(value) or name in _OF_THE_CONNECTION:
            raise StreamFailure(PROTOCOL_ERROR, f"field {name!r} does not belong here")
        else:
            regular[name] = regular[name] + b"," + value if name in regular else value
    if not all(pseudo.get(name) for name in _NEEDED):
        raise StreamFailure(PROTOCOL_ERROR, "a request needs :method, :scheme and :path")
    if regular.get(b"te", b"trailers") != b"trailers":
        raise StreamFailure(PROTOCOL_ERROR, "te may only say trailers")
    return pseudo, regular


def _metadata(fields: Mapping[bytes, bytes]) -> tuple[dict[str, str], dict[str, bytes]]:
    """Raises: Refusal: a binary value that is none."""
    text: dict[str, str] = {}
    binary: dict[str, bytes] = {}
    for name, value in fields.items():
        key = name.decode("latin-1")
        if key.endswith("-bin"):
            binary[key] = b",".join(_from_base64(key, piece) for piece in value.split(b","))
        elif key not in _OURS:
            text[key] = value.decode("latin-1")
    return text, binary


def _from_base64(name: str, value: bytes) -> bytes:
    try:
        return base64.b64decode(value.rstrip(b"=") + b"=" * (-len(value.rstrip(b"=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(INTERNAL, f"malformed binary metadata {name!r}") from None
