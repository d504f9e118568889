"""Schema: an interface as a small struct that a client sends with its greeting and a server shows to whoever asks.

The idea: equal hashes mean that two programs agree, and nothing more is read. Only when they differ is the other's
schema looked at, to say whether it matters and what the first difference is.

The rule: the canonical bytes, and so the hash, are the same in every process and on every machine: methods are sorted
by name, words of documentation are left out, modules do not occur. A schema from a peer is not trusted: it is short,
shallow, and every name in it is a word.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec
from msgspec.structs import replace

from onerack.errors import ProtocolError
from onerack.rpc.messages import Mode
from onerack.rpc.schema.shapes import NESTING_MAX, Field, Record, Shape, nesting

SCHEMA_BYTES_MAX: Final = 128 * 1024
"""A longer one is refused, and so is an interface that would need it."""


class MethodSchema(msgspec.Struct, frozen=True, array_like=True):
    """One method: its signature, and how often a call of it runs."""

    name: str
    mode: Mode
    parameters: tuple[Field, ...]
    """In Python's order, streams and attachments among them."""
    result: Shape
    doc: str = ""

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.parameters))}) -> {self.result}"


class Schema(msgspec.Struct, frozen=True, array_like=True):
    """One interface."""

    service: str
    methods: tuple[MethodSchema, ...]
    """By name."""
    records: tuple[Record, ...] = ()
    """The classes that occur in the methods, each once."""
    doc: str = ""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Schema).decode


def canonical_bytes(schema: Schema) -> bytes:
    """The schema without its words of documentation: what is hashed, and what a client sends."""
    methods = tuple(replace(method, doc="") for method in schema.methods)
    return _encode(replace(schema, methods=methods, doc=""))


def schema_hash(schema: Schema) -> str:
    """Sixteen hexadecimal digits that are equal exactly if the canonical bytes are."""
    return hashlib.blake2b(canonical_bytes(schema), digest_size=8).hexdigest()


def encode_schema(schema: Schema) -> bytes:
    """With documentation: for reflection."""
    return _encode(schema)


def decode_schema(payload: bytes) -> Schema:
    """Reads what a peer sent.

    Raises: ProtocolError: it is no schema, or one that is too long or too deep to look at.
    """
    if len(payload) > SCHEMA_BYTES_MAX:
        raise ProtocolError(f"a schema may have {SCHEMA_BYTES_MAX} bytes, and this one has {len(payload)}")
    try:
        schema = _decode(payload)
        deepest = max(map(nesting, _shapes(schema)), default=0)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"these bytes are not a schema: {error}") from error
    if deepest > NESTING_MAX:
        raise ProtocolError(f"a schema may nest types {NESTING_MAX} deep, and this one nests them {deepest} deep")
    return schema


def _shapes(schema: Schema) -> list[Shape]:
    fields = [field for holder in schema.records for field in holder.fields]
    fields += [field for method in schema.methods for field in method.parameters]
    return [field.shape for field in fields] + [method.result for method in schema.methods]
