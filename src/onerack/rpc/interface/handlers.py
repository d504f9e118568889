"""Handlers: the methods of a user's implementation, checked against the interface before the first call comes.

The idea: an implementation is any object that has the methods. It need not inherit from the interface, may write
`def` where it does not wait, and may take more than the interface says, as long as that has defaults.

The rule: an exactly-once method is a plain `def`. It runs again when the log is read after a crash, and must then do
the same; whoever awaits in it lets other calls come between, in another order each time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from msgspec.structs import astuple

from onerack.errors import UsageError
from onerack.rpc.attachment import received
from onerack.rpc.interface.interface import Interface
from onerack.rpc.interface.method import Method
from onerack.rpc.interface.signature import Signature
from onerack.rpc.messages import Mode

Kind = Literal["plain", "async", "stream"]


@dataclass(frozen=True, slots=True, eq=False)
class Handler:
    """How a server runs a method."""

    method: Method
    function: Callable[..., Any]
    """The implementation's own."""
    kind: Kind
    """plain: `call` gives the result. async: it gives a coroutine of it. stream: it gives an async iterator."""
    call: Callable[..., Any]
    """(Arguments, attachment=None, stream=None): runs `function` with what came."""


def bind(interface: Interface, implementation: object) -> dict[str, Handler]:
    """A handler for each method, by its short name.

    Raises: UsageError: a method is missing, takes other parameters or is of the wrong kind; names class and method.
    """
    if inspect.isclass(implementation):
        raise UsageError(f"{implementation.__name__} is a class; give an object of it: {implementation.__name__}(...)")
    return {name: _handler(method, implementation) for name, method in interface.methods.items()}


def _handler(method: Method, implementation: object) -> Handler:
    place = f"{type(implementation).__name__}.{method.name}"
    function = getattr(implementation, method.name, None)
    if function is None:
        raise UsageError(f"{place} is missing; {method.full_name}{method.signature.python} needs it")
    if not callable(function):
        raise UsageError(f"{place} must be a method, and is {function!r:.80}")
    _check_parameters(place, function, method.signature)
    kind = _kind(place, function, method)
    return Handler(method, function, kind, _call(function, method.signature))


def _check_parameters(place: str, function: Callable[..., Any], signature: Signature) -> None:
    """The same names in the same order; what is more has defaults. Annotations are for the type checker to compare."""
    taken = list(inspect.signature(function).parameters.values())
    for index, wanted in enumerate(signature.python.parameters.values()):
        found = taken[index] if index < len(taken) else None
        if found is None or found.name != wanted.name or found.kind in (found.VAR_POSITIONAL, found.VAR_KEYWORD):
            instead = f"has '{found.replace(annotation=found.empty)}' there" if found else "takes no more"
            raise UsageError(
                f"{place}: parameter {index + 1} of {signature.full_name} is '{wanted.name}', and {place} {instead}"
            )
        if found.kind is found.KEYWORD_ONLY and wanted.kind is not found.KEYWORD_ONLY:
            raise UsageError(f"{place}: parameter '{wanted.name}' may be given by position, and not by keyword only")
    for more in taken[len(signature.parameters) :]:
        if more.default is more.empty and more.kind not in (more.VAR_POSITIONAL, more.VAR_KEYWORD):
            raise UsageError(f"{place}: parameter '{more.name}' is not in {signature.full_name}, and has no default")


def _kind(place: str, function: Callable[..., Any], method: Method) -> Kind:
    forms = (function, type(function).__call__)
    is_async = any(map(inspect.iscoroutinefunction, forms))
    is_generator = any(map(inspect.isasyncgenfunction, forms))
    if method.result_is_stream:
        if is_async:
            raise UsageError(f"{place} is `async def` without `yield`; the result of {method.full_name} is a stream")
        return "stream"
    if is_generator or any(map(inspect.isgeneratorfunction, forms)):
        raise UsageError(f"{place} has a `yield`, and the result of {method.full_name} is no stream")
    if method.mode is Mode.EXACTLY_ONCE and is_async:
        raise UsageError(
            f"{place} must be a plain `def`: exactly_once methods run again from the log, and may not await"
        )
    if method.stream_parameter and not is_async:
        raise UsageError(f"{place} must be `async def`, since it reads the stream '{method.stream_parameter}'")
    return "async" if is_async else "plain"


def _by_place(signature: Signature) -> bool:
    """All that is given by position, and nothing of it as a stream."""
    return not any(parameter.by_keyword or parameter.role == "stream" for parameter in signature.parameters)


def _call(function: Callable[..., Any], signature: Signature) -> Callable[..., Any]:
    if all(parameter.role == "value" and not parameter.by_keyword for parameter in signature.parameters):

        def plain(arguments: msgspec.Struct, attachment: Any = None, stream: Any = None) -> Any:
            return function(*astuple(arguments))

        return plain

    if [parameter.role for parameter in signature.parameters][-1] == "attachment" and _by_place(signature):

        def with_attachment(arguments: msgspec.Struct, attachment: Any = None, stream: Any = None) -> Any:
            return function(*astuple(arguments), received(attachment))

        return with_attachment

    def call(arguments: msgspec.Struct, attachment: Any = None, stream: Any = None) -> Any:
        values = iter(astuple(arguments))
        args, kwargs = [], {}
        for parameter in signature.parameters:
            match parameter.role:
                case "value":
                    value = next(values)
                case "attachment":
                    value = received(attachment)
                case "stream":
                    value = stream
            if parameter.by_keyword:
                kwargs[parameter.name] = value
            else:
                args.append(value)
        return function(*args, **kwargs)

    return call
