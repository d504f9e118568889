"""Arguments: what a caller gives, as one Struct, and what travels beside it.

The idea: the parameters of a method become the fields of a generated Struct that is written as an array. An array
that is shorter, from an older program, is filled up with the defaults; what a newer one has added is passed over.

The rule: a wrong call fails as a wrong call of a Python function does, with a TypeError that names the method.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import asdict

from onerack.errors import UsageError
from onerack.rpc.attachment import view_of
from onerack.rpc.interface.codec import Decode, Encode, decoder, json_decoder, msgpack_encoder
from onerack.rpc.interface.signature import REQUIRED, Parameter, Signature

Given = tuple[msgspec.Struct, memoryview | None, AsyncIterator[Any] | None]
"""A call taken apart: the arguments in its message, its attachment, its stream."""


def arguments_struct(signature: Signature) -> type[msgspec.Struct]:
    """Fields in Python's order, by position and keyword as the method itself."""
    values = signature.values()
    # No cycle can lead through arguments (gc=False): nothing that they hold was made knowing them.
    options: dict[str, Any] = {"array_like": True, "frozen": True, "gc": False}
    struct = msgspec.defstruct(signature.full_name, [_field(each) for each in values if not each.by_keyword], **options)
    by_keyword = [_field(each) for each in values if each.by_keyword]
    if not by_keyword:
        return struct
    return msgspec.defstruct(signature.full_name, by_keyword, bases=(struct,), kw_only=True, **options)


def json_struct(signature: Signature) -> type[msgspec.Struct]:
    """The same as an object by name, which takes no other names."""
    fields = [_field(parameter) for parameter in signature.values()]
    return msgspec.defstruct(signature.full_name, fields, kw_only=True, forbid_unknown_fields=True)


def _field(parameter: Parameter) -> tuple[str, Any, Any]:
    default = parameter.default
    if default is REQUIRED:
        return parameter.name, parameter.hint, msgspec.NODEFAULT
    if isinstance(default, (list, dict, set, bytearray)):
        default = msgspec.field(default_factory=partial(deepcopy, default))
    return parameter.name, parameter.hint, default


# ------------------------------------------------------------------------------------------------ a call


def call_of(signature: Signature, struct: type[msgspec.Struct]) -> Callable[..., Given]:
    """A function with the method's own parameters that takes a call apart.

    It raises: TypeError: the method cannot be called so. UsageError: an attachment has no bytes, a stream no items.
    """
    if signature.parameter("attachment") or signature.parameter("stream"):
        return _taker(signature, struct)

    def plain(*args: Any, **kwargs: Any) -> Given:
        try:
            return struct(*args, **kwargs), None, None
        except TypeError:
            _bound(signature, args, kwargs)  # Fails as well, in Python's words.
            raise

    return plain


def _taker(signature: Signature, struct: type[msgspec.Struct]) -> Callable[..., Given]:
    names = tuple(signature.python.parameters)
    attachment, stream = signature.parameter("attachment"), signature.parameter("stream")
    place = signature.place(attachment.name) if attachment else ""
    ends_in_attachment = attachment is not None and not stream and names[-1] == attachment.name

    def taken_apart(*args: Any, **kwargs: Any) -> Given:
        all_by_place = len(args) == len(names) and not kwargs
        if all_by_place and ends_in_attachment:
            return struct(*args[:-1]), view_of(args[-1], place), None
        values = dict(zip(names, args, strict=True)) if all_by_place else _bound(signature, args, kwargs)
        view = items = None
        if attachment:
            view = view_of(values.pop(attachment.name, b""), place)
        if stream:
            items = _iterator(values.pop(stream.name), signature.place(stream.name))
        return struct(**values), view, items

    return taken_apart


def _bound(signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        return signature.python.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise TypeError(f"{signature.full_name}() {error}") from None


def _iterator(value: Any, place: str) -> AsyncIterator[Any]:
    if not hasattr(value, "__aiter__"):
        raise UsageError(f"{place} must be an async iterator, e.g. an `async def` with `yield`, and is {value!r:.80}")
    iterator: AsyncIterator[Any] = aiter(value)
    return iterator


# ------------------------------------------------------------------------------------------------ bytes


def arguments_encoder(signature: Signature) -> Encode:
    return msgpack_encoder(partial(_unsendable, signature))


def arguments_decoder(signature: Signature, struct: type[msgspec.Struct]) -> Decode:
    names = [parameter.name for parameter in signature.values()]

    def words(message: str) -> str:  # msgspec counts fields, people name them: at `$[1]` is at `cents`.
        return re.sub(r"\$\[(\d+)\]", lambda found: names[int(found[1])], message, count=1)

    return decoder(msgspec.msgpack.Decoder(struct).decode, signature.full_name, words)


def arguments_decoder_json(signature: Signature, struct: type[msgspec.Struct], by_name: type[msgspec.Struct]) -> Decode:
    decode = json_decoder(by_name)
    return decoder(
        lambda payload: struct(**asdict(decode(payload))),
        signature.full_name,
        lambda message: message.replace("`$.", "`"),
    )


def _unsendable(signature: Signature, arguments: msgspec.Struct) -> str:
    """Which argument it is that cannot be sent."""
    for name, value in asdict(arguments).items():
        try:
            msgspec.msgpack.encode(value)
        except Exception:  # As in the encoder.
            return signature.place(name)
    return signature.full_name
