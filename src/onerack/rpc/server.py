"""The server: binds services to links, and the server core to both.

The idea: what arrives by a link in one read goes into the core; the core says which handlers to run; plain ones run
there and then, and all answers leave in one write. Handlers that wait are tasks; a plain one that returns a future is
answered when that is done, without a task, and what is done in one turn leaves together. Exactly-once calls go to the
durable host and come back as commands to apply (see `durable/host.py`).

The rule: no decision about a call is made here; a peer that breaks the contract is told so and closed, and nobody else
notices.

This shell drives its core itself, where runtime/host.py would: a turn of the loop for each batch of calls would cost
more than the calls. The order is the same: what goes to the log first, answers after what they depend on is durable.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, Self, cast

import msgspec

from onerack.config import RpcConfig
from onerack.errors import CallError, NotExecuted, UsageError
from onerack.rpc.alarm import Alarm
from onerack.rpc.builtin import Health, HealthService, Reflection, ReflectionService, ServiceDescription
from onerack.rpc.core.durable import LOG
from onerack.rpc.core.replies import fault_reply
from onerack.rpc.core.runs import (
    Abort,
    Committed,
    Dropped,
    Executed,
    Execution,
    LinkLost,
    Propose,
)
from onerack.rpc.core.server import ServerCore
from onerack.rpc.dice import new_random
from onerack.rpc.durable.host import DurableHost
from onerack.rpc.interface import Interface, interface_of, json_schema
from onerack.rpc.link import Link, Listener, Peer, send_by
from onerack.rpc.messages import PROTOCOL_VERSION, GoAway, Mode, Request, Response, Status, Welcome
from onerack.rpc.metrics import MetricsSnapshot, snapshot_of
from onerack.rpc.policy import Policy
from onerack.rpc.schema import describe, encode_schema
from onerack.rpc.served import Served, ServedMethod
from onerack.rpc.streams import Reader, Writer
from onerack.rpc.transports import attach, listen, parse_address
from onerack.rpc.visitor import Visitor
from onerack.runtime.seam import Envelope, Tick

log = logging.getLogger("onerack.rpc")


class Server:
    """Services at addresses. Made by `serve`; for one event loop."""

    def __init__(
        self,
        services: Mapping[Callable[..., Any], Any],
        *,
        config: RpcConfig,
        cluster: str = "",
        durable: DurableHost | None = None,
        policy: Policy | None = None,
        interceptors: Sequence[Any] = (),
        show_tracebacks: bool = False,
    ) -> None:
        """Raises: UsageError: an interface or an implementation that cannot be served, with the reason."""
        self.config = config
        self.cluster = cluster
        self.policy = policy
        self.interfaces: dict[str, Interface] = {}
        self.refused = 0
        self.stopping = False
        self.visitors: dict[str, Visitor] = {}
        self.streams: dict[tuple[str, int], tuple[Reader[Any] | None, Writer | None]] = {}
        self._loop = asyncio.get_running_loop()
        self._durable = durable
        self._served = Served(interceptors, show_tracebacks=show_tracebacks)
        self._listeners: list[Listener] = []
        self._tasks: dict[int, tuple[Execution, asyncio.Task[None]]] = {}
        self._promised: set[asyncio.Future[Any]] = set()
        """What plain handlers have returned instead of an answer."""
        self._turn_is_due = False
        self._dirty: dict[str, Link] = {}
        self._answers: list[Envelope] = []
        """To commands of the batch that is being applied."""
        self._idle = asyncio.Event()
        self._halted: BaseException | None = None
        for protocol, implementation in services.items():
            self._add(protocol, implementation)
        builtin: dict[Callable[..., Any], Any] = {
            Health: HealthService(lambda: self.stopping),
            Reflection: ReflectionService(self.describe),
        }
        for protocol, implementation in builtin.items():
            self._add(protocol, implementation)
        if durable is not None and not durable.durable:
            self._refuse_volatile_host()
        chance = new_random()
        self.epoch = chance.getrandbits(62) + 1
        self.core = ServerCore(self._served.facts, config, chance, durable=durable is not None)
        self._alarm = Alarm(self._loop, self._tick)
        plain = (number for number, facts in enumerate(self._served.facts) if not facts.streaming)
        self.free = frozenset(plain if policy is None else ())
        """The methods whose requests need nothing but the core."""

    def _add(self, protocol: Callable[..., Any], implementation: Any) -> None:
        interface = interface_of(cast(type, protocol))
        if interface.name in self.interfaces:
            raise UsageError(f"two services are called {interface.name}; give one another name by @service(...)")
        self.interfaces[interface.name] = interface
        self._served.add(interface, implementation, durable=self._durable is not None)

    def _refuse_volatile_host(self) -> None:
        once = [facts.name for facts in self._served.facts if facts.mode is Mode.EXACTLY_ONCE]
        raise UsageError(
            f"{once[0] if once else 'exactly-once'}: the host given as `durable` says that it is not durable, so it "
            "cannot keep what an exactly-once call promises"
        )

    # ------------------------------------------------------------------------------------------------ life

    async def start(
        self, addresses: Sequence[str], *, tls: ssl.SSLContext | None = None, insecure: bool = False
    ) -> None:
        """Recovers the durable state, then listens.

        Raises: UsageError: an address that may not be served so. OSError: one that cannot be listened at.
        """
        try:
            if self._durable is not None:
                await self._durable.start(self)
            for address in addresses:
                listener = await listen(
                    parse_address(address), self.accept, config=self.config, tls=tls, insecure=insecure
                )
                self._listeners.append(listener)
        except BaseException:
            await self.close(drain_s=0)
            raise

    @property
    def addresses(self) -> list[str]:
        return [listener.address for listener in self._listeners]

    @property
    def address(self) -> str:
        """The first one. Raises: UsageError: the server listens nowhere."""
        if not self._listeners:
            raise UsageError("the server listens nowhere (any more)")
        return self._listeners[0].address

    async def close(self, drain_s: float | None = None) -> None:
        """Takes no more calls, lets open ones end for `drain_s` (default: as configured), then ends everything."""
        first = not self.stopping
        self.stopping = True
        self.core.stop()
        if first:
            for visitor in self.visitors.values():
                visitor.link.send(GoAway("the server is stopping"))
                visitor.link.flush()
        try:
            async with asyncio.timeout(self.config.drain_timeout_s if drain_s is None else drain_s):
                await self._drained()
        except TimeoutError:
            log.warning("%d calls had not ended when the server was closed", self.open_calls)
        else:
            if first and self.visitors and drain_s != 0:
                await asyncio.sleep(_GOODBYE_S)
        await self._end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def _drained(self) -> None:
        while self.open_calls:
            self._idle.clear()
            await self._idle.wait()

    @property
    def open_calls(self) -> int:
        """Calls that have come and are not answered."""
        return self.core.open_calls + len(self._promised)

    async def _end(self) -> None:
        tasks = [task for _, task in self._tasks.values()]
        for open_call in [*tasks, *self._promised]:
            open_call.cancel()
        await asyncio.sleep(0)  # In which whoever waits for a promise is told.
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._durable is not None:
            durable, self._durable = self._durable, None
            await durable.close()
        self._turn()
        for visitor in list(self.visitors.values()):
            visitor.link.close("the server was closed")
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            await listener.close()
        self._alarm.cancel()

    async def wait(self) -> None:
        """Until the server cannot go on, or this is cancelled. Raises: what halted it (its log, mostly)."""
        while self._halted is None:
            self._idle.clear()
            await self._idle.wait()
        raise self._halted

    def describe(self) -> list[ServiceDescription]:
        return [_description(interface) for interface in self.interfaces.values()]

    def metrics(self) -> MetricsSnapshot:
        core = self.core
        durable = core.durable.sessions if core.durable is not None else ()
        return MetricsSnapshot(
            connections=len(self.visitors),
            sessions=core.open_sessions + len(durable),
            running=self.open_calls,
            reply_cache_bytes=core.reply_cache_bytes,
            refused=self.refused,
            methods={handler.facts.name: snapshot_of(handler.metrics) for handler in self._served},
        )

    # ------------------------------------------------------------------------------------------------ links

    def attach(
        self, connected: socket.socket, *, identity: str = "", lost: Callable[[str], None] | None = None
    ) -> Link:
        """Serves whoever holds the other end of a connected stream socket, a child process for instance.

        The socket is the server's from now on. `identity`: who that is, as handlers see it in `current().peer`.
        `lost`: told why the link has ended, once it has. The other end is opened by `connect(..., over=...)`.
        """
        return attach(
            connected, lambda link: self.accept(link, lost), side="server", config=self.config, identity=identity
        )

    def accept(self, link: Link, lost: Callable[[str], None] | None = None) -> Visitor:
        visitor = self.visitors[link.name] = Visitor(self, link, lost)
        return visitor

    def welcome(self) -> Welcome:
        names = tuple(facts.name for facts in self._served.facts)
        config = self.config
        return Welcome(
            PROTOCOL_VERSION,
            self.cluster,
            self.epoch,
            names,
            self._durable is not None,
            config.attachment_bytes_max,
            config.stream_window_bytes,
        )

    def leave(self, link: Link) -> None:
        """A link is gone."""
        del self.visitors[link.name]
        for key in [key for key in self.streams if key[0] == link.name]:
            _close(self.streams.pop(key), ConnectionError("the client is gone"))
        self.core.step(LinkLost(), link.name, self._loop.time())
        self.turn()

    def hear(self, request: Request, attachment: Any, link: Link) -> bool:
        """A request that nobody waits for. If it is one to a plain handler that anybody may call, nothing of it is
        remembered or answered, so there is nothing to decide, and it is run. False: it is to be treated as any other.
        """
        served = self._served.told(request.method)
        if served is None or self.policy is not None or self.stopping:
            return False
        served.run(Execution(0, link.name, request, served.facts.name, attachment), link.peer)
        return True

    def request(self, request: Request, attachment: Any, link: Link, now: float) -> None:
        """A request from a link that has been welcomed, for a method that is not `free`, or that there is not."""
        if 0 <= request.method < len(self._served.facts):
            served = self._served[request.method]
            if self.policy is not None and (refusal := self.policy.refusal(served.facts.name, link.peer)):
                self.core.answer((link.name, request.call), request.session, refusal)
                return
            if served.facts.streaming and not self._open_stream(request, served, link):
                return
        self.core.on_request(request, link.name, now, attachment)

    def _open_stream(self, request: Request, handler: ServedMethod, link: Link) -> bool:
        """False: this is a copy of the request of a stream that goes on, or one stream too many, and was answered."""
        visitor = self.visitors[link.name]
        if (link.name, request.call) in self.streams:
            return False
        if visitor.open_streams >= self.config.streams_max:
            words = f"there are {self.config.streams_max} streams on this connection already"
            overloaded = fault_reply(Status.OVERLOADED, "overloaded", words)
            self.core.answer((link.name, request.call), request.session, overloaded)
            return False
        method, window = handler.method, self.config.stream_window_bytes
        theirs = visitor.window_bytes
        reader: Reader[Any] | None = None
        writer: Writer | None = None
        if method.item is not None:
            decode = method.item.decode_json if request.json else method.item.decode
            reader = Reader(link, request.call, window, decode)
        if method.result_item is not None:
            encode = method.result_item.encode_json if request.json else method.result_item.encode
            writer = Writer(link, request.call, theirs, encode)
        self.streams[link.name, request.call] = (reader, writer)
        visitor.open_streams += 1
        return True

    def _end_streams(self, link: Link, parcels: Sequence[Envelope]) -> None:
        """Whoever is answered has no stream any more: it has ended, or was never begun."""
        for parcel in parcels:
            message = parcel.message
            if type(message) is Response and (stream := self.streams.pop((link.name, message.call), None)):
                self.visitors[link.name].open_streams -= 1
                _close(stream, None)

    # ------------------------------------------------------------------------------------------------ the turn

    def turn(self) -> None:
        """Carries out what the core wants done, until it wants no more, and sends what has gathered."""
        self._turn()
        for link in self._dirty.values():
            link.flush()
        self._dirty.clear()

    def _turn(self) -> None:
        core = self.core
        while True:
            output = core.drain()
            if output.sends:
                self._send(output.sends)
            if not output.applied:
                break
            for order in output.applied:
                if type(order) is Execution:
                    self._execute(order)
                else:
                    self._abort(order)
        self._alarm.set(output.wake_at)
        if self.stopping and not self.open_calls:
            self._idle.set()

    def _send(self, parcels: Sequence[Envelope]) -> None:
        """Runs of messages for one link are handed over together."""
        for to, group in groupby(parcels, key=_TO):
            several = list(group)
            visitor = self.visitors.get(to)
            if visitor is not None:
                link = self._dirty[to] = visitor.link
                if visitor.open_streams:
                    self._end_streams(link, several)
                send_by(link, several)
            elif to == LOG:
                for parcel in several:
                    self._propose(parcel.message)

    def _execute(self, execution: Execution) -> None:
        number = execution.request.method
        if number < 0:
            reply = self._served.gone(execution.method)
        else:
            served = self._served[number]
            visitor = self.visitors.get(execution.link)
            peer = None if visitor is None else visitor.link.peer
            if not served.facts.inline:
                running = self._run(served, execution, peer)
                task = self._loop.create_task(running, name=served.facts.name)
                self._tasks[execution.ticket] = (execution, task)
                return
            answer = served.run(execution, peer)
            if isinstance(answer, asyncio.Future):
                self._promised.add(answer)
                answer.add_done_callback(partial(self._kept, served, execution))
                return
            reply = answer
        self.core.on_executed(Executed(execution, reply), execution.link, 0.0)

    def _kept(self, served: ServedMethod, execution: Execution, future: asyncio.Future[Any]) -> None:
        """A promise is kept, or never will be. Many are kept in the same turn: their answers leave together."""
        self._promised.discard(future)
        self.core.on_executed(Executed(execution, served.reply_later(execution, future)), execution.link, 0.0)
        if not self._promised:
            self.turn()
        elif not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._due_turn)

    def _due_turn(self) -> None:
        self._turn_is_due = False
        self.turn()

    async def _run(self, served: ServedMethod, execution: Execution, peer: Peer | None) -> None:
        key = (execution.link, execution.request.call)
        reader, writer = self.streams.get(key, (None, None))
        reply = await served.run_async(execution, peer, reader, writer)
        self._tasks.pop(execution.ticket, None)
        self.core.step(Executed(execution, reply), execution.link, self._loop.time())
        self.turn()

    def _abort(self, order: Abort) -> None:
        execution, task = self._tasks.get(order.ticket, (None, None))
        if execution is not None and task is not None:
            task.cancel(order.cause)
            self._loop.call_soon(self._did_it_begin, execution, task, order.cause)

    def _did_it_begin(self, execution: Execution, task: asyncio.Task[None], cause: str) -> None:
        """A task that was called off before its first step has run nothing, and so did not say that it has ended."""
        if task.done() and self._tasks.pop(execution.ticket, None) is not None:
            reply = fault_reply(Status.REFUSED, cause, f"the call was called off before its handler began ({cause})")
            self.core.step(Executed(execution, reply), execution.link, self._loop.time())
            self.turn()

    def _tick(self) -> None:
        self.core.step(Tick(), "", self._loop.time())
        self.turn()

    # ------------------------------------------------------------------------------------------------ the log's machine

    def _propose(self, proposal: Propose) -> None:
        try:
            if self._durable is None:
                raise NotExecuted("the server is closed", cause="stopping")
            self._durable.propose(proposal.command)
        except NotExecuted as error:
            self.dropped(proposal.command, error)

    def apply(self, index: int, command: bytes) -> None:
        """Runs what the command decides, now: the next one may depend on it. Answers leave with the batch."""
        self.core.step(Committed(index, command), LOG, self._loop.time())
        output = self.core.drain()
        self._answers += output.sends
        for order in output.applied:
            self._execute(order)

    def applied(self) -> None:
        answers, self._answers = self._answers, []
        self._send(answers)
        self.turn()

    def dropped(self, command: bytes, error: CallError) -> None:
        definite = isinstance(error, NotExecuted)
        if not definite and error.cause == "storage":
            self._halt(error)
        self._loop.call_soon(self._drop, Dropped(command, definite, error.cause))

    def _drop(self, message: Dropped) -> None:
        self.core.step(message, LOG, self._loop.time())
        self.turn()

    def _halt(self, error: BaseException) -> None:
        """The log takes no more: what it lost track of cannot be answered by this life of the server.

        (A replicated log that has only lost track of one command goes on, and so does the server.)
        """
        if self._halted is None:
            self._halted = error
            log.error("the log has halted: %s", error)
            self._idle.set()
            # Whoever waits for an answer that cannot come is told that he waits in vain.
            for visitor in list(self.visitors.values()):
                visitor.link.close(f"the server's log has halted: {error}")

    def snapshot(self) -> bytes:
        assert self.core.durable is not None
        return self.core.durable.snapshot(self._served.snapshot())

    def restore(self, snapshot: bytes) -> None:
        assert self.core.durable is not None
        self._served.restore(self.core.durable.restore(snapshot))


_TO = attrgetter("to")
_GOODBYE_S: Final = 0.05
"""So long after a goodbye a request may arrive that left before it was heard. It is refused, so that its caller knows
that it did not run; cut off, nobody would know."""


def _close(stream: tuple[Reader[Any] | None, Writer | None], error: Exception | None) -> None:
    reader, writer = stream
    if reader is not None:
        reader.end(error)
    if writer is not None:
        writer.close()


def _description(interface: Interface) -> ServiceDescription:
    return ServiceDescription(
        name=interface.name,
        schema_hash=interface.schema_hash,
        text=describe(interface.schema),
        json_schema=msgspec.json.encode(json_schema(interface)).decode(),
        schema=encode_schema(interface.schema),
    )


async def serve(
    protocol: Callable[..., Any] | Mapping[Callable[..., Any], Any],
    implementation: Any = None,
    *addresses: str,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
    durable: DurableHost | None = None,
    cluster: str = "",
    policy: Any = None,
    interceptors: Sequence[Any] = (),
    show_tracebacks: bool = False,
    config: RpcConfig | None = None,
) -> Server:
    """Serves an implementation of an interface at some addresses; returns when calls are taken.

        server = await serve(Account, Bank(), "tcp://127.0.0.1:0", durable=LocalLog("bank/"))
        server = await serve({Account: Bank(), Audit: Audit()}, None, "tls://0.0.0.0:7700", tls=context)

    `tls`: server context with TLS 1.3 and client certificates. `insecure=True`: plain TCP beyond loopback.
    `durable`: where exactly-once calls are kept; the implementation then has `snapshot() -> bytes` and
    `restore(bytes)`. `policy`: see policy.py. `interceptors`: see served.py. `cluster`: clients of another are refused.

    Raises: UsageError: what cannot be served, with the reason. OSError: an address in use. Corruption: a damaged log.
    """
    services = dict(protocol) if isinstance(protocol, Mapping) else {protocol: implementation}
    if isinstance(implementation, str) and isinstance(protocol, Mapping):
        addresses = (implementation, *addresses)
    server = Server(
        services,
        config=config or RpcConfig(),
        cluster=cluster,
        durable=durable,
        policy=Policy.of(policy),
        interceptors=interceptors,
        show_tracebacks=show_tracebacks,
    )
    await server.start(addresses or ("tcp://127.0.0.1:0",), tls=tls, insecure=insecure)
    return server
