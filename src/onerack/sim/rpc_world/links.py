"""Links of a simulated world: `sim://name`, what link.py asks for, over weather instead of a wire.

The idea: two kinds of link. A reliable one delivers in order what it delivers, as TCP does, and can be lost: then a
beginning of what was in flight still arrives, perhaps after the client has dialled again. On a lossy one every message
fares on its own (lost, doubled, late, overtaken), and the client core is told that it may not rely on it. The greeting
is part of dialling, and is neither lost nor doubled on either.

The rules: every message is encoded when it is sent and decoded when it arrives, so that nobody shares an object with
the other side; whoever dies is silent at once, and the other side learns of it later; names are unique in the world.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from random import Random
from typing import Any, Final, NamedTuple, Protocol

from onerack.config import KIB, RpcConfig
from onerack.errors import UsageError
from onerack.rpc.link import Buffer, Owner, Peer
from onerack.rpc.messages import Credit, Hello, Refused, Request, Response, StreamEnd, StreamItem, Welcome
from onerack.rpc.transports.frames import Side, decoder_for, encode
from onerack.sim.rpc_world.lives import Life
from onerack.sim.rpc_world.trace import Trace
from onerack.sim.rpc_world.weather import Weather

GREETING: Final = (Hello, Welcome, Refused)
STREAMS: Final = (StreamItem, StreamEnd, Credit)
IN_FLIGHT_BYTES_MAX: Final = 256 * KIB
"""Beyond, whoever asks `drained` waits."""
TOLD_SOON_S: Final = 0.3
TOLD_LATE_S: Final = 25.0
"""A peer that is silent is found out by keepalive: after so long at most."""


class Letter(NamedTuple):
    """One message on its way."""

    head: bytes
    attachment: bytes | None
    kind: type
    call: int

    @property
    def size(self) -> int:
        return len(self.head) + len(self.attachment or b"")


class Registrar(Protocol):
    """Who knows which call a message belongs to."""

    def sent(self, link: SimLink, request: Request) -> tuple[Request, int]:
        """The request as it travels, and the number of its call."""

    def number_of(self, link: str, call: int) -> int: ...


class Between(Protocol):
    """What lies between the two ends."""

    weather: Weather
    trace: Trace
    ledger: Registrar
    chance: Random
    outside: Context
    in_flight: int
    """Messages that may still arrive."""

    def passing(self, link: SimLink) -> None:
        """A message sets out from there."""

    def gone(self, link: SimLink) -> None:
        """This end has ended."""


class SimLink:
    """One end."""

    def __init__(self, sea: Between, name: str, peer: Peer, side: Side, life: Life, config: RpcConfig) -> None:
        self.name = name
        self.peer = peer
        self.is_open = True
        self.is_reliable = not sea.weather.faults.is_lossy
        self.life = life
        self.other: SimLink
        self.owner: Owner
        self.methods: tuple[str, ...] = ()
        """`Service.method` by number, as the server said in its greeting."""
        self._sea = sea
        self._config = config
        self._decode = decoder_for(side)
        self._context = life.context
        self._loop = asyncio.get_running_loop()
        self._outbox: list[Letter] = []
        self._coming: deque[tuple[float, Letter]] = deque()
        """In order: what has been sent to this end and was not delivered."""
        self._coming_bytes = 0
        self._last_arrival = 0.0
        self._will_flush = False
        self._is_paused = False
        self._is_severed = False
        """What is sent to this end from now on does not arrive."""
        self._is_lost = False
        self._waiters: list[asyncio.Future[None]] = []
        """Of `drained`, at the other end."""

    # ------------------------------------------------------------------------------------------------ for the owner

    def send(self, message: Any, attachment: Buffer | None = None) -> None:
        if not self.is_open or not self.life.alive:
            return
        if isinstance(message, STREAMS) and not self.is_reliable:
            raise UsageError("streams are never sent again, so they need Faults without drop, duplicate and reorder")
        call = 0
        if type(message) is Request:
            message, call = self._sea.ledger.sent(self, message)
        elif type(message) is Response:
            call = self._sea.ledger.number_of(self.name, message.call)
        elif type(message) is Welcome:
            self.other.methods = message.methods
        head = encode(message)
        content = None if attachment is None else bytes(attachment)
        if len(head) > self._config.head_bytes_max or len(content or b"") > self._config.attachment_bytes_max:
            raise UsageError(f"a {type(message).__name__} of {len(head)} bytes is longer than this link's limits allow")
        self._outbox.append(Letter(head, content, type(message), call))
        if not self._will_flush:
            self._will_flush = True
            self._loop.call_soon(self._flush_in_turn, context=self._context)

    def send_now(self, message: Any, attachment: Buffer | None = None) -> None:
        self.send(message, attachment)
        self.flush()

    def send_all(self, messages: Sequence[Any]) -> None:
        for message in messages:
            self.send(message)

    def flush(self) -> None:
        letters, self._outbox = self._outbox, []
        for letter in letters:
            self.life.point(f"sends {letter.kind.__name__}", detail=zlib.crc32(letter.head), call=letter.call)
            self._transmit(letter)

    def _flush_in_turn(self) -> None:
        self._will_flush = False
        self.flush()

    async def drained(self) -> None:
        while self.is_open and self.other._coming_bytes > IN_FLIGHT_BYTES_MAX:
            waiter = self._loop.create_future()
            self.other._waiters.append(waiter)
            await waiter

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False
        self._loop.call_soon(self._arrive, context=self._sea.outside)

    def close(self, reason: str = "") -> None:
        if not self.is_open or not self.life.alive:
            return
        self.flush()
        self.is_open = False
        self._loop.call_soon(self._lose, reason or "closed at this end", context=self._context)
        self.other._will_lose(f"the other side has closed: {reason}", 0.0)

    # ------------------------------------------------------------------------------------------------ on the way

    def _transmit(self, letter: Letter) -> None:
        sea, other = self._sea, self.other
        sea.passing(self)
        if other._is_severed:
            sea.weather.lost += 1
            return
        if self.is_reliable or letter.kind in GREETING:
            healed = sea.weather.heals_at(self.life.node, other.life.node)
            other._expect(max(self._loop.time(), healed) + sea.weather.delay_s(), letter)
            return
        delays = sea.weather.delays_s(self.life.node, other.life.node)
        if len(delays) != 1:
            verb = "doubles" if delays else "loses"
            sea.trace.note("network", f"{verb} {letter.kind.__name__}", call=letter.call)
        for delay in delays:
            sea.in_flight += 1
            self._loop.call_later(delay, other._land, letter, context=sea.outside)

    def _expect(self, at: float, letter: Letter) -> None:
        self._last_arrival = max(self._last_arrival, at)
        self._coming.append((self._last_arrival, letter))
        self._coming_bytes += letter.size
        self._sea.in_flight += 1
        self._loop.call_at(self._last_arrival, self._arrive, context=self._sea.outside)

    def _arrive(self) -> None:
        """Takes everything that is due: what came together is delivered together."""
        due: list[Letter] = []
        waits = self._is_paused and self.life.alive
        while self._coming and self._coming[0][0] <= self._loop.time() and not waits:
            due.append(self._coming.popleft()[1])
        self._forget(due)
        if due:
            self._context.run(self._deliver, due)

    def _land(self, letter: Letter) -> None:
        """On a lossy link."""
        self._sea.in_flight -= 1
        self._context.run(self._deliver, [letter])

    def _deliver(self, letters: Sequence[Letter]) -> None:
        if not self.is_open or self._is_lost or not self.life.alive:
            return
        arrivals = []
        for letter in letters:
            self.life.point(f"hears {letter.kind.__name__}", detail=zlib.crc32(letter.head), call=letter.call)
            arrivals.append((self._decode(memoryview(letter.head)), letter.attachment))
        self.owner.received(self, arrivals)
        self.flush()

    def _forget(self, letters: Sequence[Letter]) -> None:
        """They are under way no longer."""
        self._sea.in_flight -= len(letters)
        self._coming_bytes -= sum(letter.size for letter in letters)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # ------------------------------------------------------------------------------------------------ the end

    def sever(self) -> None:
        """The connection is lost, at both ends; neither knows yet."""
        chance = self._sea.chance
        for end in (self, self.other):
            if end._is_severed:
                continue
            survivors = chance.randint(0, len(end._coming))
            lost = [end._coming.pop()[1] for _ in range(len(end._coming) - survivors)]
            end._forget(lost)
            late_s = chance.choice((0.0, chance.uniform(0.0, 2.0)))
            end._coming = deque((at + late_s, letter) for at, letter in end._coming)
            end._last_arrival += late_s
            for at, _ in end._coming:
                self._loop.call_at(at, end._arrive, context=self._sea.outside)
            told_s = chance.uniform(1.0, TOLD_LATE_S) if chance.random() < 0.2 else chance.uniform(0.001, TOLD_SOON_S)
            end._will_lose("the connection was lost", told_s)

    def _will_lose(self, reason: str, after_s: float) -> None:
        """The last that it hears, after what is in flight."""
        self._is_severed = True
        at = max(self._loop.time(), self._last_arrival) + self._sea.weather.delay_s() + after_s
        self._loop.call_at(at, self._lose, reason, context=self._context)

    def _lose(self, reason: str) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        self.is_open = False
        letters = [letter for _, letter in self._coming]
        self._coming.clear()
        self._forget(letters)
        self._sea.gone(self)
        self._sea.trace.note(self.life.node, f"loses the link to {self.peer.address}: {reason}")
        self.owner.lost(self, reason)
