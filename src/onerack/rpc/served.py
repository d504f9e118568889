"""Served methods: a handler with everything around it: decoding, context, interceptors, encoding, counting.

The idea: whatever a handler does, it ends in a reply, and the reply is all that the core hears. The rule: what came
from a peer is decoded inside; what cannot be decoded was not executed; what was executed is answered, even if its
result cannot be encoded.

A plain handler that cannot answer yet, but will be told, returns an `asyncio.Future`: no task waits for it, and the
answer leaves when the future is done. Such a call has begun, and is not called off: whoever made it may stop waiting.

Interceptors are for handlers that wait: `async def intercept(call, proceed)` around each call, where `call` is what
`current()` gives. With interceptors plain handlers wait too; exactly-once handlers, which a log runs, have none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from time import perf_counter
from typing import Any

import msgspec
from msgspec.structs import astuple

from onerack.errors import CallError, UsageError
from onerack.rpc.context import CurrentCall, serving
from onerack.rpc.core.replies import fault_reply
from onerack.rpc.core.runs import Execution, MethodFacts
from onerack.rpc.core.sessions import Reply
from onerack.rpc.interface import Handler, Interface, bind
from onerack.rpc.interface.codec import to_msgpack
from onerack.rpc.link import Peer
from onerack.rpc.messages import UNANSWERED, Mode, Status
from onerack.rpc.metrics import SAMPLED_EVERY, MethodMetrics
from onerack.rpc.outcomes import reply_of
from onerack.rpc.streams import Reader, Writer

log = logging.getLogger("onerack.rpc")

Proceed = Callable[[], Awaitable[Any]]
Interceptor = Callable[[CurrentCall, Proceed], Awaitable[Any]]

_UNHEARD = Reply(0, b"")
"""Of a call that nobody waits for."""


class ServedMethod:
    """One method of one implementation."""

    def __init__(self, handler: Handler, interceptors: Sequence[Interceptor], *, show_tracebacks: bool) -> None:
        method = handler.method
        self.method = method
        self.metrics = MethodMetrics()
        self._handler = handler
        self._from_msgpack = msgspec.msgpack.Decoder(method.Arguments).decode
        roles = {(parameter.role, parameter.by_keyword) for parameter in method.signature.parameters}
        self._is_simple = roles <= {("value", False)} and method.result_attachment is None
        self._interceptors = () if method.mode is Mode.EXACTLY_ONCE else tuple(interceptors)
        self._show_tracebacks = show_tracebacks
        self.facts = MethodFacts(
            method.full_name,
            method.mode,
            inline=handler.kind == "plain" and not self._interceptors,
            streaming=method.result_is_stream or method.stream_parameter is not None,
        )

    def run(self, execution: Execution, peer: Peer | None) -> Reply | asyncio.Future[Any]:
        """Runs a plain handler to its end, or to the future that it returns (then: `reply_later`).

        A call of the log ends before the next one begins, so there a future is no answer. Written out, since most
        calls of most servers pass here.
        """
        metrics = self.metrics
        metrics.calls = count = metrics.calls + 1
        began_at = 0.0 if count % SAMPLED_EVERY else perf_counter()
        request = execution.request
        try:
            arguments = self._decode(execution) if request.json else self._from_msgpack(request.arguments)
        except Exception:
            return self._refused(execution)
        token = serving.set((execution, peer))
        try:
            if not self._is_simple or request.json:
                returned = self._handler.call(arguments, execution.attachment)
                if not execution.from_log:
                    if request.call == UNANSWERED:
                        return _UNHEARD
                    if isinstance(returned, asyncio.Future):
                        return returned
                return self._reply(returned, execution)
            returned = self._handler.function(*astuple(arguments))
            if isinstance(returned, asyncio.Future) and not execution.from_log:
                return returned
            try:
                return Reply(0, to_msgpack(returned))
            except Exception:
                return self._reply(returned, execution)
        except (Exception, asyncio.CancelledError) as error:
            return self._failure(error)
        finally:
            serving.reset(token)
            if began_at:
                metrics.took(perf_counter() - began_at)

    def reply_later(self, execution: Execution, future: asyncio.Future[Any]) -> Reply:
        """What became of a future that `run` has given. Requires: it is done."""
        try:
            returned = future.result()
            if self._is_simple and not execution.request.json:
                with suppress(Exception):
                    return Reply(0, to_msgpack(returned))
            return self._reply(returned, execution)
        except asyncio.CancelledError:
            return fault_reply(Status.ABORTED, "cancelled", "the handler's future was cancelled")
        except Exception as error:
            return self._failure(error)

    async def run_async(
        self, execution: Execution, peer: Peer | None, reader: Reader[Any] | None, writer: Writer | None
    ) -> Reply:
        """Runs any handler to its end; never raises."""
        self.metrics.calls += 1
        began_at = perf_counter()
        try:
            arguments = self._decode(execution)
        except msgspec.ValidationError:
            return self._refused(execution)
        call = CurrentCall(execution, peer)
        token = serving.set((execution, peer))
        try:
            returned = await self._woven(call, arguments, execution, reader, writer)()
            return self._reply(returned, execution)
        except asyncio.CancelledError as error:
            cause = str(error) or "cancelled"
            return fault_reply(Status.ABORTED, cause, f"the handler was called off ({cause})")
        except Exception as error:
            return self._failure(error)
        finally:
            serving.reset(token)
            self.metrics.took(perf_counter() - began_at)

    def _decode(self, execution: Execution) -> msgspec.Struct:
        request = execution.request
        decode = self.method.decode_arguments_json if request.json else self.method.decode_arguments
        arguments: msgspec.Struct = decode(request.arguments)
        return arguments

    def _refused(self, execution: Execution) -> Reply:
        try:
            self._decode(execution)
        except msgspec.ValidationError as error:
            return fault_reply(Status.REFUSED, "bad_arguments", str(error)[:4000])
        raise AssertionError(f"{self.facts.name}: arguments that could not be decoded, and now can")

    def _reply(self, returned: Any, execution: Execution) -> Reply:
        method = self.method
        if execution.request.json:
            value, attachment = method.split_return(returned)
            return Reply(0, method.encode_result_json(value), attachment)
        body, attachment = method.encode_return(returned)
        return Reply(0, body, attachment)

    def _failure(self, error: BaseException) -> Reply:
        self.metrics.failed += 1
        if not isinstance(error, CallError | asyncio.CancelledError):
            log.debug("%s raised %s", self.facts.name, type(error).__name__, exc_info=error)
        return reply_of(error, show_traceback=self._show_tracebacks)

    def _woven(
        self,
        call: CurrentCall,
        arguments: msgspec.Struct,
        execution: Execution,
        reader: Reader[Any] | None,
        writer: Writer | None,
    ) -> Proceed:
        async def proceed() -> Any:
            returned = self._handler.call(arguments, execution.attachment, reader)
            if self._handler.kind == "stream":
                assert writer is not None
                await _send_all(returned, writer)
                return None
            waits = self._handler.kind == "async" or isinstance(returned, asyncio.Future)
            return await returned if waits else returned

        step: Proceed = proceed
        for interceptor in reversed(self._interceptors):
            step = _around(interceptor, call, step)
        return step


def _around(interceptor: Interceptor, call: CurrentCall, proceed: Proceed) -> Proceed:
    return lambda: interceptor(call, proceed)


async def _send_all(items: Any, writer: Writer) -> None:
    """An iterator that can be closed is, whatever happens: its `finally` runs when the reader goes away."""
    if hasattr(items, "aclose"):
        async with aclosing(items):
            async for item in items:
                await writer.write(item)
        return
    async for item in items:
        await writer.write(item)


class Served:
    """All methods of a server by number, and the state that exactly-once services keep."""

    def __init__(self, interceptors: Sequence[Interceptor], *, show_tracebacks: bool) -> None:
        self.facts: list[MethodFacts] = []
        self._methods: list[ServedMethod] = []
        self._told: dict[int, ServedMethod] = {}
        self._durable: dict[str, Any] = {}
        self._interceptors = interceptors
        self._show_tracebacks = show_tracebacks

    def __getitem__(self, number: int) -> ServedMethod:
        return self._methods[number]

    def told(self, number: int) -> ServedMethod | None:
        """One whose requests can be run without more ado, if nobody waits for the reply."""
        return self._told.get(number)

    def __iter__(self) -> Iterator[ServedMethod]:
        return iter(self._methods)

    def add(self, interface: Interface, implementation: Any, *, durable: bool) -> None:
        """Raises: UsageError: the implementation does not fit, or cannot be served by a host of this kind."""
        handlers = bind(interface, implementation).values()
        once = [handler.method for handler in handlers if handler.method.mode is Mode.EXACTLY_ONCE]
        if once and not durable:
            raise UsageError(
                f"{once[0].full_name} is exactly_once, which needs a server that keeps a durable log: "
                "serve(..., durable=LocalLog(directory))"
            )
        if once:
            for name in ("snapshot", "restore"):
                if not callable(getattr(implementation, name, None)):
                    raise UsageError(
                        f"{type(implementation).__name__}.{name} is missing: {once[0].full_name} is exactly_once, so "
                        "its state must be made from a log: snapshot() -> bytes, restore(snapshot: bytes) -> None"
                    )
            self._durable[interface.name] = implementation
        for handler in handlers:
            served = ServedMethod(handler, self._interceptors, show_tracebacks=self._show_tracebacks)
            if served.facts.inline and served.facts.mode <= Mode.AT_LEAST_ONCE:
                self._told[len(self._methods)] = served
            self._methods.append(served)
            self.facts.append(served.facts)

    def snapshot(self) -> bytes:
        """The state of every exactly-once service. Raises: TypeError: one gives something else than bytes."""
        states = {name: implementation.snapshot() for name, implementation in self._durable.items()}
        for name, state in states.items():
            if not isinstance(state, bytes | bytearray):
                raise TypeError(f"{name}: snapshot() must give bytes, not {type(state).__name__}")
        return msgspec.msgpack.encode(states)

    def restore(self, content: bytes) -> None:
        states = msgspec.msgpack.decode(content, type=dict[str, bytes])
        for name, implementation in self._durable.items():
            if name in states:
                implementation.restore(states[name])

    def gone(self, method: str) -> Reply:
        """For a call in the log whose method the service has no longer."""
        return fault_reply(Status.REFUSED, "no_method", f"the service no longer has {method}")
