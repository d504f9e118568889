"""Signature: what one method of an interface says of itself, read off its annotations and checked.

The idea: a method is an ordinary annotated function. What a parameter is to a call follows from its annotation: a
value in the message, an attachment beside it (`Attachment`), or a stream while it lasts (`AsyncIterator[T]`).

The rule: whatever cannot become a call is refused here, before anything is bound, with `Service.method`, the
parameter, what was found and what is possible.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from onerack.errors import UsageError
from onerack.rpc.attachment import Attachment, is_attachment
from onerack.rpc.messages import Mode
from onerack.rpc.modes import Delivery, delivery_of

Role = Literal["value", "attachment", "stream"]
ResultAttachment = Literal["only", "last"]
REQUIRED: Final = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    hint: Any
    """For a stream: that of its items."""
    role: Role
    default: Any
    """REQUIRED: there is none."""
    by_keyword: bool
    """Only so, not by position."""


@dataclass(frozen=True, slots=True)
class Signature:
    full_name: str
    """`Service.method`, for people and for the wire."""
    delivery: Delivery
    parameters: tuple[Parameter, ...]
    result: Any
    """Of what is in the message; for a stream: of its items."""
    result_is_stream: bool
    result_attachment: ResultAttachment | None
    python: inspect.Signature
    """Without `self` and without annotations."""
    doc: str

    def parameter(self, role: Role) -> Parameter | None:
        """The one parameter that travels in this way."""
        return next((parameter for parameter in self.parameters if parameter.role == role), None)

    def values(self) -> list[Parameter]:
        """The parameters that are in the message."""
        return [parameter for parameter in self.parameters if parameter.role == "value"]

    def place(self, parameter: str) -> str:
        """Whose value it is, for messages."""
        return f"{self.full_name}: parameter '{parameter}'"


def signature_of(full_name: str, function: Callable[..., Any], namespace: dict[str, Any]) -> Signature:
    """Reads a method as it stands in its class. `namespace`: names that its annotations may use besides its module's.

    Raises: UsageError: it cannot be called from afar.
    """
    try:
        named = inspect.signature(function).parameters
        hints = get_type_hints(function, localns=namespace, include_extras=True)
    except Exception as error:  # Annotations are code; they may raise anything.
        raise UsageError(
            f"{full_name}: its annotations cannot be read ({error}); the types must be known in the module of the class"
        ) from error
    if next(iter(named), "") != "self":
        raise UsageError(f"{full_name}: the first parameter of a method is self")
    parameters = list(named.values())[1:]
    if "return" not in hints:
        raise UsageError(f"{full_name}: the result has no annotation; write `-> T`, or `-> None`")
    hint, attachment = _result(hints["return"], full_name)
    is_stream = _is_stream(hint)
    _check_async(full_name, function, is_stream)
    signature = Signature(
        full_name=full_name,
        delivery=delivery_of(function),
        parameters=tuple(_parameter(full_name, parameter, hints) for parameter in parameters),
        result=_item_of(hint, f"{full_name}: the result") if is_stream else hint,
        result_is_stream=is_stream,
        result_attachment=attachment,
        python=inspect.Signature([parameter.replace(annotation=REQUIRED) for parameter in parameters]),
        doc=first_line(function.__doc__),
    )
    _check_roles(signature)
    _check_mode(signature)
    return signature


def first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0].strip()


def _parameter(full_name: str, parameter: inspect.Parameter, hints: dict[str, Any]) -> Parameter:
    place = f"{full_name}: parameter '{parameter.name}'"
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        kind = parameter.kind.description
        raise UsageError(f"{place} is {kind}; parameters need a name that a caller may use, and a type each")
    if parameter.name not in hints:
        raise UsageError(f"{place} has no annotation; write `{parameter.name}: T`")
    hint, default = hints[parameter.name], parameter.default
    role: Role = "stream" if _is_stream(hint) else "attachment" if is_attachment(hint) else "value"
    if role == "stream":
        hint = _item_of(hint, place)
        if default is not REQUIRED:
            raise UsageError(f"{place} is a stream and has a default; a stream is always given")
    if role == "attachment" and default not in (REQUIRED, b""):
        raise UsageError(f"{place} is an attachment with the default {default!r:.80}; it may only be b''")
    return Parameter(parameter.name, hint, role, default, parameter.kind is parameter.KEYWORD_ONLY)


def _result(hint: Any, full_name: str) -> tuple[Any, ResultAttachment | None]:
    """What is in the message, and where an attachment stands."""
    if is_attachment(hint):
        return type(None), "only"
    if get_origin(hint) is not tuple or not any(map(is_attachment, get_args(hint))):
        return hint, None
    value, *rest = get_args(hint)
    if rest != [Attachment]:
        raise UsageError(f"{full_name}: a result with an attachment is `-> Attachment` or `-> tuple[T, Attachment]`")
    return value, "last"


def _is_stream(hint: Any) -> bool:
    return hint is AsyncIterator or get_origin(hint) is AsyncIterator


def _item_of(hint: Any, place: str) -> Any:
    if not get_args(hint):
        raise UsageError(f"{place} is a stream of no type; write AsyncIterator[T]")
    (item,) = get_args(hint)
    if is_attachment(item):
        raise UsageError(f"{place} is a stream of attachments; its items are messages: write AsyncIterator[bytes]")
    return item


def _check_async(full_name: str, function: Callable[..., Any], result_is_stream: bool) -> None:
    if result_is_stream and inspect.iscoroutinefunction(function):
        raise UsageError(
            f"{full_name}: the result is a stream, so write `def`, not `async def`: the call itself gives the iterator"
        )
    if not result_is_stream and not inspect.iscoroutinefunction(function):
        raise UsageError(
            f"{full_name}: write `async def`, since a caller has to wait (or give an AsyncIterator[T] back)"
        )


def _check_roles(signature: Signature) -> None:
    for role in ("attachment", "stream"):
        names = [parameter.name for parameter in signature.parameters if parameter.role == role]
        if len(names) > 1:
            raise UsageError(f"{signature.full_name}: {' and '.join(names)} are {role}s; a method has at most one")


def _check_mode(signature: Signature) -> None:
    mode = signature.delivery.mode
    if signature.result_is_stream or signature.parameter("stream"):
        if mode not in (Mode.READONLY, Mode.AT_MOST_ONCE):
            raise UsageError(
                f"{signature.full_name}: a stream cannot be {mode.name.lower()}, since half of it cannot be taken back "
                "when it is tried again; mark it @readonly or @at_most_once"
            )
    elif mode is Mode.EXACTLY_ONCE and (signature.result_attachment or signature.parameter("attachment")):
        raise UsageError(
            f"{signature.full_name}: an exactly_once call is kept in a log, with its result, so neither may have an "
            "attachment; send the bytes by another method, and their name by this one"
        )
