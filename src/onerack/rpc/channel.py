"""A channel: one client's connection to one service, kept up, with the client core behind it.

The idea: two loops. Calls go into the core as they are made; once per turn of the event loop, and earlier when many
have gathered, the core is drained, and everything leaves in one write. Beside it a task keeps a link up: it dials one
address after the other, greets the server, and dials again, with growing pauses, when the link is lost. What becomes of
open calls meanwhile is the core's decision. A channel over a socket that was handed over has that one link only.

The rule: nothing here decides about a call. A binding that can never succeed (another cluster, an incompatible
interface) ends the channel with an error that says why; everything else is tried again.

This shell drives its core itself, where runtime/host.py would: a turn of the loop for each batch of calls would cost
more than the calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, Protocol

from onerack.config import RpcConfig
from onerack.errors import BindingRefused, NotExecuted, OnerackError, ProtocolError, UsageError
from onerack.rpc.alarm import Alarm
from onerack.rpc.core.client import (
    Abandon,
    ClientCore,
    Close,
    GoingAway,
    Invoke,
    Linked,
    Outcome,
    Unlinked,
    Unreachable,
)
from onerack.rpc.core.retry import Backoff
from onerack.rpc.dice import new_random
from onerack.rpc.interface.codec import Codec
from onerack.rpc.link import TOGETHER, Arrival, Buffer, Link, send_by
from onerack.rpc.messages import (
    PROTOCOL_VERSION,
    Credit,
    GoAway,
    Hello,
    Mode,
    Notice,
    Refused,
    Response,
    Status,
    StreamEnd,
    StreamItem,
    Welcome,
)
from onerack.rpc.outcomes import error_of
from onerack.rpc.resolver import Resolver
from onerack.rpc.streams import Reader, Writer
from onerack.rpc.transports import Address, attach, dial, parse_address
from onerack.runtime.seam import Tick

_USER: Final = "user"
_CALL_BITS: Final = 47
_CLOSING_S: Final = 3.0
_OVER: Final = "the socket"


class CalledMethod(Protocol):
    """What must be known of a method: an interface's `Method` is one, and so is what `by_name` makes of a schema."""

    @property
    def full_name(self) -> str: ...
    @property
    def mode(self) -> Mode: ...
    @property
    def attempts(self) -> int | None: ...
    @property
    def attachment_parameter(self) -> str | None: ...
    @property
    def result_attachment(self) -> str | None: ...
    @property
    def stream_parameter(self) -> str | None: ...
    @property
    def result_is_stream(self) -> bool: ...
    @property
    def item(self) -> Codec | None: ...
    @property
    def result_item(self) -> Codec | None: ...


class CalledService(Protocol):
    """What a channel knows of a service."""

    @property
    def name(self) -> str: ...
    @property
    def schema_hash(self) -> str: ...
    @property
    def schema_bytes(self) -> bytes: ...
    @property
    def methods(self) -> Mapping[str, CalledMethod]: ...


class StreamCall:
    """A call one of whose sides is a stream: what the shell holds of it."""

    __slots__ = ("failure", "pump", "reader", "writer")

    def __init__(self, reader: Reader[Any] | None, writer: Writer | None) -> None:
        self.reader = reader
        self.writer = writer
        self.failure: Exception | None = None
        """What the caller's own iterator raised."""
        self.pump: asyncio.Task[None] | None = None


class Channel:
    """Open with `start`, end with `close`. For one event loop."""

    def __init__(
        self,
        interface: CalledService,
        addresses: Sequence[str],
        *,
        config: RpcConfig,
        over: socket.socket | None = None,
        cluster: str = "",
        tls: ssl.SSLContext | None = None,
        insecure: bool = False,
        resolver: Resolver | None = None,
    ) -> None:
        """`over`: a connected socket, instead of addresses."""
        self.interface = interface
        self.config = config
        self._addresses = [parse_address(address) for address in addresses]
        self._over = over
        self._cluster = cluster
        self._tls = tls
        self._insecure = insecure
        self._resolver = resolver
        self._loop = asyncio.get_running_loop()
        self._chance = new_random()
        self._core = ClientCore(config, self._chance, self._loop.time())
        self._methods = list(interface.methods.values())
        self._numbers = {
            method: (number, method.attempts or config.attempts_max) for number, method in enumerate(self._methods)
        }
        # From a random start, so that no answer to a former life of this client can fit a call of this one.
        self._calls = self._chance.getrandbits(_CALL_BITS)
        self._futures: dict[int, asyncio.Future[Outcome]] = {}
        self._streams: dict[int, StreamCall] = {}
        self._link: Link | None = None
        self._ending = 0
        """Links that were made and have not ended."""
        self._ended = asyncio.Event()
        self._welcome: asyncio.Future[Welcome] | None = None
        self._lost: asyncio.Event = asyncio.Event()
        self._lost_reason = ""
        self._turning = False
        self._gathered = 0
        """Calls that were made since the core was drained."""
        self._is_alone = False
        """The last call that left was the only one: probably there is one caller, and the next need not wait a turn."""
        self._now = 0.0
        """When the turn began in which calls are being made."""
        self._closed = False
        self._alarm = Alarm(self._loop, self._tick)
        self._linking: asyncio.Task[None] | None = None
        self._first_link: asyncio.Future[None] = self._loop.create_future()

    # ------------------------------------------------------------------------------------------------ life

    async def start(self, timeout_s: float) -> None:
        """Returns when a server has welcomed us.

        Raises: BindingRefused: it does not fit. UsageError: no such name. NotExecuted: nobody answered in time.
        """
        self._linking = self._loop.create_task(self._keep_linked())
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self._first_link)
        except TimeoutError:
            await self.close()
            where = ", ".join(map(str, self._addresses)) or _OVER
            reason = self._lost_reason or "no answer"
            raise NotExecuted(
                f"no connection to {where} within {timeout_s:g} s: {reason}", cause="unreachable"
            ) from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Ends open calls (their outcome is Unknown if they may have run), sessions and link. May be called again.

        Returns when the connection has ended, so that nothing of it outlives the event loop; a server that does not
        answer is waited for a moment only.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self._linking is not None:
                self._linking.cancel()
                await asyncio.gather(self._linking, return_exceptions=True)
        finally:  # Whoever closes may be cancelled, and does not come again.
            self._end_calls_and_link()
        await self._all_ended()
        if self._first_link.done() and not self._first_link.cancelled():
            self._first_link.exception()  # Seen by whoever called start; nobody else needs to.
        self._first_link.cancel()

    def _end_calls_and_link(self) -> None:
        self._core.step(Close(), _USER, self._loop.time())
        self._turn()
        self._alarm.cancel()
        if self._link is not None:
            self._link.flush()
            self._link.close("the client was closed")

    async def _all_ended(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING_S):
                while self._ending:
                    self._ended.clear()
                    await self._ended.wait()

    @property
    def server(self) -> str:
        """Where the link that is up leads to; empty while there is none."""
        return "" if self._link is None or not self._link.is_open else self._link.peer.address

    def clock(self) -> float:
        """The event loop's."""
        return self._loop.time()

    @property
    def open_calls(self) -> int:
        return self._core.open_calls

    # ------------------------------------------------------------------------------------------------ calls

    def invoke(
        self,
        method: CalledMethod,
        arguments: bytes,
        mode: int,
        attachment: Buffer | None = None,
        deadline_at: float | None = None,
        metadata: dict[str, str] | None = None,
        *,
        json: bool = False,
        streaming: bool = False,
    ) -> tuple[int, asyncio.Future[Outcome]]:
        """Makes a call; the future gets its outcome, never an exception. The arguments leave in this turn."""
        self._calls = call = self._calls + 1
        loop = self._loop
        future: asyncio.Future[Outcome] = loop.create_future()
        if self._closed:
            future.set_result(Outcome(call, Status.REFUSED, cause="closed", message="the client was closed"))
            return call, future
        self._futures[call] = future
        number, attempts_max = self._numbers[method]
        invoke = Invoke(call, number, mode, arguments, attachment, deadline_at, attempts_max, streaming, metadata, json)
        is_only = self._is_alone and len(self._futures) == 1
        if not self._turning:
            self._now = loop.time()
            if not is_only:
                self._turning = True
                loop.call_soon(self._turn)
        # `step` would look up what we know: which handler an Invoke goes to.
        self._core.on_invoke(invoke, _USER, self._now)
        self._gathered += 1
        if is_only or self._gathered == TOGETHER:
            self._carry_out()
        return call, future

    def tell(self, method: CalledMethod, arguments: bytes, attachment: Buffer | None) -> None:
        """Sends a request that is no call, now or never."""
        link = self._link
        if link is not None and self._core.is_linked:
            number, _ = self._numbers[method]
            link.send_now(self._core.told(number, int(method.mode), arguments), attachment)

    def abandon(self, call: int) -> None:
        """Nobody waits for this call any more."""
        self._futures.pop(call, None)
        self._end_stream(call, None)
        if not self._closed:
            self._core.step(Abandon(call), _USER, self._loop.time())
            self._turn()

    def open_stream(
        self,
        method: CalledMethod,
        arguments: bytes,
        mode: int,
        deadline_at: float | None,
        metadata: dict[str, str] | None,
        *,
        json: bool = False,
    ) -> tuple[int, asyncio.Future[Outcome], StreamCall]:
        """Makes a call with a stream. Raises: NotExecuted: there is no connection now."""
        if self._link is None or not self._link.is_open:
            raise NotExecuted(f"{method.full_name}: there is no connection to stream on", cause="unreachable")
        call, future = self.invoke(method, arguments, mode, None, deadline_at, metadata, json=json, streaming=True)
        window = self.config.stream_window_bytes
        reader = Reader(self._link, call, window, method.result_item.decode) if method.result_item else None
        writer = Writer(self._link, call, window, method.item.encode) if method.item else None
        stream = self._streams[call] = StreamCall(reader, writer)
        if future.done():
            self._settle_stream(future.result(), method.full_name)
        else:
            future.add_done_callback(lambda done: self._settled(done, method.full_name))
        return call, future, stream

    def end_arguments(self, call: int) -> None:
        """The stream of arguments is complete."""
        if self._link is not None and call in self._streams:
            self._link.send(StreamEnd(call))

    def fail_stream(self, call: int, error: Exception) -> None:
        """The caller's iterator of arguments has failed: the call is off, and the caller gets the error."""
        stream = self._streams.get(call)
        future = self._futures.get(call)
        if stream is not None:
            stream.pump = None
        self._end_stream(call, error)
        self.abandon(call)
        if future is not None and not future.done():
            future.set_result(Outcome(call, None, cause="cancelled", message="the caller's iterator failed"))

    def _settled(self, done: asyncio.Future[Outcome], method: str) -> None:
        if not done.cancelled():  # Its caller was, and abandons the call.
            self._settle_stream(done.result(), method)

    def _settle_stream(self, outcome: Outcome, method: str) -> None:
        self._end_stream(outcome.call, None if outcome.status == 0 else error_of(outcome, method))

    def _end_stream(self, call: int, error: Exception | None) -> None:
        stream = self._streams.pop(call, None)
        if stream is None:
            return
        if stream.reader is not None:
            stream.reader.end(error)
        if stream.writer is not None:
            stream.writer.close()
        if stream.pump is not None:
            stream.pump.cancel()

    # ------------------------------------------------------------------------------------------------ the turn

    def _turn(self) -> None:
        self._turning = False
        self._carry_out()

    def _carry_out(self) -> None:
        """What the core wants done."""
        if self._gathered:
            self._is_alone = self._gathered == len(self._futures) == 1
            self._gathered = 0
        output = self._core.drain()
        link = self._link
        if output.sends and link is not None:
            send_by(link, output.sends)
            link.flush()
        for outcome in output.applied:
            future = self._futures.pop(outcome.call, None)
            if future is not None and not future.done():
                future.set_result(outcome)
        self._alarm.set(output.wake_at)

    def _tick(self) -> None:
        self._core.step(Tick(), _USER, self._loop.time())
        self._turn()

    # ------------------------------------------------------------------------------------------------ the link's owner

    def received(self, link: Link, arrivals: Sequence[Arrival]) -> None:
        now = self._loop.time()
        respond = self._core.on_response
        name = link.name
        try:
            for message, attachment in arrivals:
                if type(message) is Response:
                    respond(message, name, now, attachment)
                else:
                    self._receive(message, link, now)
        except ProtocolError as error:
            link.send(Notice("contract", str(error)))
            link.close(str(error))
        self._turn()

    def _receive(self, message: Any, link: Link, now: float) -> None:
        """Everything but the answer to a call."""
        match message:
            case StreamItem(call, item):
                stream = self._streams.get(call)
                if stream is not None and stream.reader is not None:
                    stream.reader.arrived(item)
            case Credit(call, count):
                stream = self._streams.get(call)
                if stream is not None and stream.writer is not None:
                    stream.writer.granted(count)
            case Welcome():
                if self._welcome is not None and not self._welcome.done():
                    self._welcome.set_result(message)
            case Refused(cause, words):
                if self._welcome is not None and not self._welcome.done():
                    self._welcome.set_exception(_refusal(cause, words))
            case GoAway(reason):
                self._lost_reason = reason
                self._core.step(GoingAway(), link.name, now)
            case Notice(cause, words):
                self._lost_reason = f"{cause}: {words}"
                if self._welcome is not None and not self._welcome.done():
                    self._welcome.set_exception(_refusal(cause, words))
            case _:
                self._core.step(message, link.name, now)

    def lost(self, link: Link, reason: str) -> None:
        self._ending -= 1
        self._ended.set()
        if link is not self._link and self._link is not None:
            return
        self._lost_reason = self._lost_reason or reason
        if self._welcome is not None and not self._welcome.done():
            self._welcome.set_exception(ConnectionError(self._lost_reason or "the server closed the connection"))
        self._lost.set()

    # ------------------------------------------------------------------------------------------------ keeping a link

    async def _keep_linked(self) -> None:
        if self._over is not None:
            await self._live_over(self._over)
            return
        backoff = Backoff(self.config, self._chance)
        failures = 0
        while True:
            for address in await self._resolved():
                dialling = dial(address, self, config=self.config, tls=self._tls, insecure=self._insecure)
                if await self._live_with(str(address), dialling):
                    failures = 0
            failures += 1
            await asyncio.sleep(backoff.pause_s(failures))

    async def _live_over(self, connected: socket.socket) -> None:
        """The one link of a socket that was handed over, from the greeting to its end."""
        await self._live_with(_OVER, self._attach(connected))
        reason = self._lost_reason
        if not self._first_link.done():
            self._first_link.set_exception(NotExecuted(f"no connection: {reason}", cause="unreachable"))
        self._core.step(Unreachable(reason, final=True), _USER, self._loop.time())
        self._turn()

    async def _attach(self, connected: socket.socket) -> Link:
        return attach(connected, lambda _link: self, side="client", config=self.config)

    async def _resolved(self) -> Sequence[Address]:
        found: list[Address] = []
        for address in self._addresses:
            if address.scheme != "name":
                found.append(address)
                continue
            try:
                if self._resolver is None:
                    raise UsageError(f"{address}: names need a resolver: connect(..., resolver=...)")
                found += [parse_address(each) for each in await self._resolver.resolve(address.host)]
            except UsageError as error:
                self._unreachable(error)
        return found

    async def _live_with(self, place: str, dialling: Awaitable[Link]) -> bool:
        """One link, from dialling to its end. True: it was up."""
        self._lost.clear()
        self._lost_reason = ""
        try:
            welcome = await self._greet(place, dialling)
        except (OSError, OnerackError, TimeoutError) as error:
            if self._link is not None:
                self._link.close("not welcome")
                self._link = None
            self._unreachable(error, place)
            return False
        assert self._link is not None
        numbers = self._server_numbers(welcome)
        reliable = getattr(self._link, "is_reliable", True)
        self._core.step(Linked(self._link.name, welcome.epoch, reliable, numbers), _USER, self._loop.time())
        self._turn()
        if not self._first_link.done():
            self._first_link.set_result(None)
        await self._lost.wait()
        self._link = None
        self._core.step(Unlinked(self._lost_reason), _USER, self._loop.time())
        self._turn()
        return True

    async def _greet(self, place: str, dialling: Awaitable[Link]) -> Welcome:
        self._welcome = self._loop.create_future()
        async with asyncio.timeout(self.config.connect_timeout_s):
            link = await dialling
            self._ending += 1
            self._link = link
            link.send(self._hello())
            link.flush()
            welcome = await self._welcome
        if welcome.protocol != PROTOCOL_VERSION:
            words = f"{place} speaks version {welcome.protocol} of the protocol, we speak {PROTOCOL_VERSION}"
            raise BindingRefused(words, cause="protocol")
        if self._cluster and welcome.cluster != self._cluster:
            words = f"{place} belongs to the cluster {welcome.cluster!r}, not to {self._cluster!r}"
            raise BindingRefused(words, cause="cluster")
        return welcome

    def _hello(self) -> Hello:
        interface = self.interface
        return Hello(
            PROTOCOL_VERSION,
            self._cluster,
            interface.name,
            interface.schema_hash,
            interface.schema_bytes,
            self.config.stream_window_bytes,
        )

    def _server_numbers(self, welcome: Welcome) -> tuple[int, ...]:
        theirs = {name: number for number, name in enumerate(welcome.methods)}
        missing = [method.full_name for method in self._methods if method.full_name not in theirs]
        if missing:
            raise ProtocolError(f"the server has welcomed us, and does not name the method {missing[0]}")
        return tuple(theirs[method.full_name] for method in self._methods)

    def _unreachable(self, error: BaseException, address: str = "") -> None:
        final = isinstance(error, BindingRefused) or (isinstance(error, UsageError) and not self._first_link.done())
        words = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
        reason = words if not address or address in words else f"{address}: {words}"
        self._lost_reason = reason
        if final and not self._first_link.done():
            self._first_link.set_exception(error)
        self._core.step(Unreachable(reason, final=final), _USER, self._loop.time())
        self._turn()


def _refusal(cause: str, words: str) -> Exception:
    """Whether it is worth trying again."""
    if cause in ("overloaded", "stopping"):
        return ConnectionError(words)
    return BindingRefused(words, cause=cause)
