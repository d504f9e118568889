"""Stubs: objects with the methods of an interface, each of which makes a call.

The idea: everything that a call needs is looked up once, when the stub is made; what is left to do for a call is to
encode, to hand over to the channel, and to wait. Interceptors are woven in only where there are any.

The rule: arguments are encoded when the call is made, so that changing them afterwards changes nothing. A cancelled
caller cancels the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec

from onerack.errors import ApplicationError, UsageError
from onerack.rpc.channel import CalledMethod, Channel, StreamCall
from onerack.rpc.context import DEFAULT, CallOptions, chosen, inherited, serving
from onerack.rpc.core.client import Outcome
from onerack.rpc.interface import Interface, Method
from onerack.rpc.interface.codec import to_msgpack
from onerack.rpc.messages import Mode
from onerack.rpc.outcomes import error_of


class OutgoingCall(msgspec.Struct):
    """What an interceptor of a client sees, and may change before it goes on."""

    method: str
    """`Service.method`"""
    arguments: msgspec.Struct
    """With the parameters as fields."""
    metadata: dict[str, str]


Proceed = Callable[[], Awaitable[Any]]
Interceptor = Callable[[OutgoingCall, Proceed], Awaitable[Any]]
"""`async def intercept(call, proceed): ...; return await proceed()`. It may call `proceed` again, or not at all."""


def stub_of(
    interface: Interface, channel: Channel, interceptors: Sequence[Interceptor], deadline_s: float | None
) -> Any:
    """An object with the interface's methods."""
    members: dict[str, Any] = {"__slots__": (), "__doc__": f"Calls {interface.name} by RPC."}
    for method in interface.methods.values():
        function = _function(method, channel, interceptors, deadline_s)
        function.__name__ = method.name
        function.__qualname__ = method.full_name
        members[method.name] = staticmethod(function)
    return type(f"{interface.name.rpartition('.')[2]}Stub", (), members)()


def _function(
    method: Method, channel: Channel, interceptors: Sequence[Interceptor], deadline_s: float | None
) -> Callable[..., Any]:
    if method.result_is_stream:
        return _streaming(method, channel, deadline_s)
    if method.stream_parameter:
        return _uploading(method, channel, deadline_s)
    if interceptors:
        return _intercepted(method, channel, interceptors, deadline_s)
    return _unary(method, channel, deadline_s)


# ------------------------------------------------------------------------------------------------ plain calls


def _unary(method: Method, channel: Channel, deadline_s: float | None) -> Callable[..., Any]:
    """What makes most of a program's calls is written out: each function less is some per cent of a call."""
    struct, take, encode = method.Arguments, method.arguments, method.encode_arguments
    decode = msgspec.msgpack.Decoder(method.signature.result).decode
    declared, name = int(method.mode), method.full_name
    takes_attachment, gives_attachment = method.attachment_parameter is not None, method.result_attachment is not None
    invoke, clock = channel.invoke, channel.clock

    async def call(*args: Any, **kwargs: Any) -> Any:
        attachment = None
        if takes_attachment:
            arguments, attachment, _ = take(*args, **kwargs)
            body = encode(arguments)
        else:
            try:
                body = to_msgpack(struct(*args, **kwargs))
            except Exception:
                body = encode(take(*args, **kwargs)[0])
        mode, deadline_at, metadata = declared, None, None
        if (own := chosen.get()) is not DEFAULT or serving.get() is not None:
            mode, deadline_at, metadata = settings_of(method, inherited(own))
        if deadline_s is not None:
            deadline_at = clock() + deadline_s if deadline_at is None else min(deadline_at, clock() + deadline_s)
        number, future = invoke(method, body, mode, attachment, deadline_at, metadata)
        try:
            outcome = await future
        except asyncio.CancelledError:
            channel.abandon(number)
            raise
        if outcome.status != 0:
            raise error_of(outcome, name)
        if gives_attachment:
            return _result(method, outcome)
        try:
            return decode(outcome.body)
        except Exception:
            return _result(method, outcome)

    return call


def _result(method: Method, outcome: Outcome) -> Any:
    try:
        return method.decode_return(outcome.body, outcome.attachment)
    except msgspec.ValidationError as error:
        raise _bad_result(method.full_name, error) from error


def _bad_result(name: str, error: Exception) -> ApplicationError:
    text = f"{name} was executed, and its result is not what it should be: {error}"
    return ApplicationError(text, cause="bad_result")


def settings_of(method: CalledMethod, wanted: CallOptions) -> tuple[int, float | None, dict[str, str] | None]:
    """Mode, deadline and metadata of a call. Raises: UsageError: a mode weaker than the method's, without `unsafe`."""
    mode = method.mode if wanted.mode is None else wanted.mode
    if mode < method.mode and not wanted.unsafe:
        raise UsageError(
            f"{method.full_name} is {method.mode.name.lower()}; to call it as {mode.name.lower()}, which is weaker, "
            "say options(..., unsafe=True)"
        )
    if mode is not method.mode and (method.result_is_stream or method.stream_parameter):
        raise UsageError(f"{method.full_name} has a stream, which is sent once; it has no other mode than its own")
    if mode is Mode.EXACTLY_ONCE and (method.attachment_parameter or method.result_attachment):
        raise UsageError(f"{method.full_name} has an attachment, which no log keeps; it cannot be called exactly once")
    return int(mode), wanted.deadline_at, wanted.metadata


def _intercepted(
    method: Method, channel: Channel, interceptors: Sequence[Interceptor], deadline_s: float | None
) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        arguments, attachment, _ = method.arguments(*args, **kwargs)
        mode, deadline_at, metadata = settings_of(method, inherited(chosen.get()))
        outgoing = OutgoingCall(method.full_name, arguments, dict(metadata or {}))

        async def proceed() -> Any:
            at = earlier(deadline_at, deadline_s, channel)
            encoded = method.encode_arguments(outgoing.arguments)
            number, future = channel.invoke(method, encoded, mode, attachment, at, outgoing.metadata or None)
            try:
                outcome = await future
            except asyncio.CancelledError:
                channel.abandon(number)
                raise
            if outcome.status != 0:
                raise error_of(outcome, method.full_name)
            return _result(method, outcome)

        step: Proceed = proceed
        for interceptor in reversed(interceptors):
            step = _woven(interceptor, outgoing, step)
        return await step()

    return call


def _woven(interceptor: Interceptor, call: OutgoingCall, proceed: Proceed) -> Proceed:
    return lambda: interceptor(call, proceed)


def earlier(deadline_at: float | None, deadline_s: float | None, channel: Channel) -> float | None:
    if deadline_s is None:
        return deadline_at
    own = channel.clock() + deadline_s
    return own if deadline_at is None else min(own, deadline_at)


# ------------------------------------------------------------------------------------------------ streams


def _streaming(method: Method, channel: Channel, deadline_s: float | None) -> Callable[..., Any]:
    """The result is a stream; the arguments may be one too. The call is made when the first item is asked for."""

    def call(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        arguments, _, source = method.arguments(*args, **kwargs)
        mode, deadline_at, metadata = settings_of(method, inherited(chosen.get()))
        encoded = method.encode_arguments(arguments)

        async def items() -> AsyncIterator[Any]:
            at = earlier(deadline_at, deadline_s, channel)
            number, _, stream = channel.open_stream(method, encoded, mode, at, metadata)
            pump(channel, number, stream, source)
            try:
                assert stream.reader is not None
                async for item in stream.reader:
                    yield item
            finally:
                channel.abandon(number)

        return items()

    return call


def _uploading(method: Method, channel: Channel, deadline_s: float | None) -> Callable[..., Any]:
    """The arguments are a stream, the result is a value."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        arguments, _, source = method.arguments(*args, **kwargs)
        mode, deadline_at, metadata = settings_of(method, inherited(chosen.get()))
        at = earlier(deadline_at, deadline_s, channel)
        number, future, stream = channel.open_stream(method, method.encode_arguments(arguments), mode, at, metadata)
        pump(channel, number, stream, source)
        try:
            outcome = await future
        except asyncio.CancelledError:
            channel.abandon(number)
            raise
        if stream.failure is not None:
            raise stream.failure
        if outcome.status != 0:
            raise error_of(outcome, method.full_name)
        return _result(method, outcome)

    return call


def pump(channel: Channel, number: int, stream: StreamCall, source: AsyncIterator[Any] | None) -> None:
    """Has the caller's stream sent, if there is one, while the call goes on."""
    if source is not None:
        stream.pump = asyncio.get_running_loop().create_task(_send_items(channel, number, stream, source))


async def _send_items(channel: Channel, number: int, stream: StreamCall, source: AsyncIterator[Any]) -> None:
    """Sends what the caller's iterator gives. If that raises, the call is cancelled and the caller gets the error."""
    assert stream.writer is not None
    try:
        async for item in source:
            await stream.writer.write(item)
    except ConnectionError:
        return  # The call has ended, or will with its connection, and says so by itself.
    except Exception as error:
        stream.failure = error
        channel.fail_stream(number, error)
        return
    channel.end_arguments(number)
