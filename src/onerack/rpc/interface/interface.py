"""Interface: a Protocol class, read once: its methods made ready, its schema, and the hash of it.

The idea: the interface is the schema. There is no other language to write it in, and no file to generate. The rule:
an interface that was read can be called; whatever is wrong with one is said when it is read, not when it is used.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol

import msgspec

from onerack.errors import UsageError
from onerack.rpc.interface.codec import codec_of
from onerack.rpc.interface.method import Method, method_of
from onerack.rpc.interface.signature import REQUIRED, Parameter, Signature, first_line, signature_of
from onerack.rpc.modes import service_name
from onerack.rpc.schema.hints import Shapes, default_text
from onerack.rpc.schema.schema import (
    SCHEMA_BYTES_MAX,
    MethodSchema,
    Schema,
    canonical_bytes,
    encode_schema,
    schema_hash,
)
from onerack.rpc.schema.shapes import Field, Row, Scalar, Shape, Stream

ATTACHMENT: Final = Scalar("Attachment")
NOT_REMOTE: Final = (property, staticmethod, classmethod, functools.cached_property)


@dataclass(frozen=True, slots=True, eq=False)
class Interface:
    """What callers and servers need of a Protocol class."""

    name: str
    methods: dict[str, Method]
    """By their short names, sorted."""
    schema: Schema
    schema_hash: str
    schema_bytes: bytes
    """The canonical ones: what a client sends with its greeting."""


def interface_of(protocol: type) -> Interface:
    """Reads a class whose public methods have annotations: a `typing.Protocol`, or any other.

    Raises: UsageError: something in it cannot be called from afar; names the method, the parameter and the remedy.
    """
    if not inspect.isclass(protocol):
        raise UsageError(f"an interface is a class, usually a typing.Protocol, and not {protocol!r:.80}")
    return _read(protocol)  # type: ignore[arg-type]  # mypy takes the hash of a class for that of its objects


@functools.cache
def _read(protocol: type) -> Interface:
    service = service_name(protocol)
    members = _members(protocol)
    nested = {name: value for name, value in members.items() if not inspect.isfunction(value)}
    signatures = [signature_of(f"{service}.{name}", method, nested) for name, method in _methods(service, members)]
    if not signatures:
        raise UsageError(f"{service} has no public methods; an interface has at least one `async def`")
    schema = _schema(service, signatures, first_line(vars(protocol).get("__doc__")))
    size = len(encode_schema(schema))
    if size > SCHEMA_BYTES_MAX:
        raise UsageError(f"{service} has a schema of {size} bytes; at most {SCHEMA_BYTES_MAX} are possible: divide it")
    methods = {method.name: method for method in map(method_of, signatures)}
    return Interface(service, methods, schema, schema_hash(schema), canonical_bytes(schema))


def _members(protocol: type) -> dict[str, Any]:
    """What is public in its body and those of its bases, sorted. None: an attribute that is only announced."""
    found: dict[str, Any] = {}
    for cls in reversed(protocol.__mro__):
        if cls not in (object, Protocol, Generic):
            found |= dict.fromkeys(inspect.get_annotations(cls)) | vars(cls)
    return {name: found[name] for name in sorted(found) if not name.startswith("_")}


def _methods(service: str, members: dict[str, Any]) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, value in members.items():
        if inspect.isfunction(value):
            yield name, value
        elif value is None or isinstance(value, NOT_REMOTE):
            kind = "mere attribute" if value is None else type(value).__name__
            raise UsageError(f"{service}.{name} is a {kind}; an interface has methods, `async def {name}(self) -> T`")


def _schema(service: str, signatures: list[Signature], doc: str) -> Schema:
    """Reads every type, in the order of the methods' names, and so refuses what cannot travel."""
    shapes = Shapes()
    methods = tuple(_method_schema(signature, shapes) for signature in signatures)
    return Schema(service, methods, shapes.records, doc)


def _method_schema(signature: Signature, shapes: Shapes) -> MethodSchema:
    return MethodSchema(
        name=signature.full_name.rpartition(".")[2],
        mode=signature.delivery.mode,
        parameters=tuple(_field(parameter, signature, shapes) for parameter in signature.parameters),
        result=_result_shape(signature, shapes),
        doc=signature.doc,
    )


def _field(parameter: Parameter, signature: Signature, shapes: Shapes) -> Field:
    place = signature.place(parameter.name)
    if parameter.role == "attachment":
        shape: Shape = ATTACHMENT
    else:
        shape = shapes.read(parameter.hint, place)
    if parameter.role == "stream":
        shape = Stream(shape)
    if parameter.default is REQUIRED:
        return Field(parameter.name, shape)
    if parameter.role == "value":
        _check_default(parameter, place)
    return Field(parameter.name, shape, default_text(parameter.default))


def _check_default(parameter: Parameter, place: str) -> None:
    """A caller sends its defaults, so they have to arrive."""
    codec = codec_of(parameter.hint, place)
    try:
        codec.decode(codec.encode(parameter.default))
    except (UsageError, msgspec.ValidationError) as error:
        raise UsageError(
            f"{place} has a default that is not of its type: {parameter.default!r:.80} ({error})"
        ) from None


def _result_shape(signature: Signature, shapes: Shapes) -> Shape:
    if signature.result_attachment == "only":
        return ATTACHMENT
    shape = shapes.read(signature.result, f"{signature.full_name}: the result")
    if signature.result_attachment == "last":
        return Row((shape, ATTACHMENT))
    return Stream(shape) if signature.result_is_stream else shape
