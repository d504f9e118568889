"""Tests of a whole server among peers that break every rule: it goes on, honest clients are served, memory is flat.

The idea: conversations that are right, spoiled in their bytes (mutations.py) and in the fields of their messages, which
gets past the decoder and into sessions, streams and handlers. The rule that every test here ends with: nothing was
raised in the event loop, and nothing is left of whoever has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Protocol

import msgspec
import pytest

from onerack import rpc
from onerack.config import MIB, RpcConfig
from onerack.rpc.messages import (
    Cancel,
    CloseSession,
    Credit,
    Fault,
    Hello,
    KeepSession,
    Mode,
    Notice,
    OpenSession,
    Ping,
    Pong,
    Refused,
    Request,
    Response,
    SessionOpened,
    Status,
    StreamEnd,
    StreamItem,
    Welcome,
)
from onerack.rpc.transports.budget import Budget
from onerack.rpc.transports.receiver import Receiver
from tests.many_files import many_files
from tests.rpc.mutations import feed, frames_of, hammer
from tests.rpc.services import Shop, ShopServer, run

CONFIG = RpcConfig(streams_max=16)
HELLO = Hello(1, "", "")
ABSURD = (0, -1, 1, 2, 3, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63), 2**64 - 1)
DEEP = b"\x91" * 5000 + b"\xc0"


class Till(Protocol):
    @rpc.exactly_once
    async def add(self, cents: int) -> int: ...


class TillServer:
    def __init__(self) -> None:
        self.cents = 0

    def add(self, cents: int) -> int:
        self.cents += cents
        return self.cents

    def snapshot(self) -> bytes:
        return str(self.cents).encode()

    def restore(self, snapshot: bytes) -> None:
        self.cents = int(snapshot)


class House:
    """A server over TCP, and everything that went wrong in its event loop."""

    def __init__(self, server: rpc.Server, raised: list[str]) -> None:
        self.server = server
        self.raised = raised
        self.numbers = {name: number for number, name in enumerate(server.welcome().methods)}

    def request(self, call: int, method: str, *arguments: Any, **fields: Any) -> Request:
        """A call as it should be, outside of any session; `fields` spoil it."""
        given = {"mode": 0, "timeout_ms": 0, "session": 0, "seq": 0, "ack": 0, **fields}
        return Request(call=call, method=self.numbers[method], arguments=msgspec.msgpack.encode(arguments), **given)

    def once(self, call: int, session: int, seq: int, item: str = "tea", **fields: Any) -> Request:
        return self.request(call, "Shop.buy", item, 1, **{"mode": 2, "session": session, "seq": seq, **fields})

    async def empty(self, visitors: int = 0) -> None:
        """Nothing is left of whoever has gone."""
        async with asyncio.timeout(20):
            while len(self.server.visitors) > visitors or self.server.streams or self.server.core.open_calls:
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def house(config: RpcConfig = CONFIG, directory: Path | None = None) -> AsyncIterator[House]:
    raised: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(repr(context)))
    services: dict[Any, Any] = {Shop: ShopServer()}
    log = None
    if directory is not None:
        services[Till], log = TillServer(), rpc.LocalLog(directory)
    async with await rpc.serve(
        services, None, "tcp://127.0.0.1:0", config=config, durable=log, cluster="red"
    ) as server:
        yield House(server, raised)
        await server.close(drain_s=1)
    assert raised == []


class Stranger:
    """A raw socket at the server."""

    def __init__(self, server: rpc.Server) -> None:
        self._where = ("127.0.0.1", int(server.address.rpartition(":")[2]))
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._receiver = Receiver("client", CONFIG, Budget(CONFIG))
        self._loop = asyncio.get_running_loop()
        self.heard: list[Any] = []
        self.is_told_all = False

    async def __aenter__(self) -> Stranger:
        await self._loop.sock_connect(self._socket, self._where)
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._socket.close()

    async def say(self, *messages: Any) -> None:
        await self.say_bytes(b"".join(frames_of([(message, None) for message in messages], CONFIG)))

    async def say_bytes(self, content: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            await self._loop.sock_sendall(self._socket, content)

    async def hear(self, kind: type) -> Any:
        """Reads until such a message has come, and gives it; None: the server has closed before."""
        while not (found := [each for each in self.heard if isinstance(each, kind)]):
            if not await self._more():
                return None
        self.heard.remove(found[0])
        return found[0]

    async def hear_all(self) -> list[Any]:
        """Until the server has closed."""
        while await self._more():
            pass
        return self.heard

    async def finish(self) -> list[Any]:
        """Says that this was all, and hears what the server has to say to it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        return await self.hear_all()

    async def _more(self) -> bool:
        try:
            content = await self._loop.sock_recv(self._socket, 1 << 18)
        except ConnectionError:
            content = b""
        self.heard += [message for message, _ in feed(self._receiver, content, itertools.repeat(1 << 18))]
        return bool(content)


async def opened(stranger: Stranger, *, durable: bool = False) -> int:
    await stranger.say(HELLO, OpenSession(1, durable))
    found: SessionOpened = await stranger.hear(SessionOpened)
    return found.session


def test_what_is_raised_in_the_event_loop_fails_these_tests() -> None:
    async def test() -> None:
        async with house():
            asyncio.get_running_loop().call_soon(lambda: 1 // 0)
            await asyncio.sleep(0.01)

    with pytest.raises(AssertionError, match="Exception in callback"):
        run(test)


# ------------------------------------------------------------------------------------------------ told, and closed

FULL = [StreamItem(5, msgspec.msgpack.encode("x" * 100_000)) for _ in range(30)]
"""For a handler that waits for credit itself."""


@pytest.mark.parametrize(
    ("messages", "kind", "cause", "words"),
    [
        ([Cancel(1)], Notice, "contract", "the first message must be Hello, not Cancel"),
        ([HELLO, HELLO], Notice, "contract", "a second Hello"),
        ([Hello(99, "", "")], Refused, "protocol", "version 99 of the protocol, the server 1"),
        ([Hello(1, "blue", "")], Refused, "cluster", "cluster 'red', not 'blue'"),
        ([Hello(1, "", "Shops")], Refused, "service", "no service 'Shops' here; served are: Shop"),
        ([Hello(1, "", "Shop", "0" * 16, b"\xc1")], Notice, "contract", "not a schema"),
        ([Hello(1, "", "Shop", "0" * 16, DEEP)], Notice, "contract", "not a schema"),
        ([Hello(1, "", "Shop", "0" * 16, bytes(200_000))], Notice, "contract", "a schema may have"),
        ([Hello(1, "", "", stream_window=0)], Refused, "malformed", "a window of 0 bytes"),
        ([Hello(1, "", "", stream_window=-(2**62))], Refused, "malformed", "a window of -46"),
        ([HELLO, "count", Credit(5, 0)], Notice, "contract", "granted 0 bytes"),
        ([HELLO, "count", Credit(5, -1)], Notice, "contract", "granted -1 bytes"),
        ([HELLO, "count", Credit(5, 2**62)], Notice, "contract", "granted 4611686018427387904 bytes"),
        (
            [Hello(1, "", "", stream_window=1), "upper", *FULL],
            Notice,
            "contract",
            "more than the 1048576 bytes it had credit for",
        ),
        ([HELLO, Welcome(1, "", 1, ())], Notice, "malformed", "bytes that are no message"),
        ([HELLO, Response(1, 1, 0, b"")], Notice, "malformed", "bytes that are no message"),
        ([HELLO, [3, 1]], Notice, "malformed", "bytes that are no message"),
        ([HELLO, [3, "x", 0, 0, 0, 0, 0, 0, b""]], Notice, "malformed", "bytes that are no message"),
        ([HELLO, [3, 2**64 - 1, -(2**63), 0, 0, 0, 0, 0, {}]], Notice, "malformed", "bytes that are no message"),
    ],
)
def test_an_offender_is_told_what_it_did_and_closed(messages: list[Any], kind: type, cause: str, words: str) -> None:
    async def test() -> None:
        async with house() as at, Stranger(at.server) as stranger:
            calls = {"count": at.request(5, "Shop.count", 10**9), "upper": at.request(5, "Shop.upper")}
            await stranger.say(*(calls[each] if isinstance(each, str) else each for each in messages))
            told = [each for each in await stranger.hear_all() if isinstance(each, Notice | Refused)]
            assert [(type(each), each.cause) for each in told] == [(kind, cause)]
            assert words in told[0].message
            await at.empty()
            assert at.server.metrics().refused == (cause != "malformed" or kind is Refused)

    run(test)


# ------------------------------------------------------------------------------------------------ answered, and kept


@pytest.mark.parametrize(
    ("fields", "status", "cause"),
    [
        ({"method": -1}, Status.REFUSED, "no_method"),
        ({"method": 2**63}, Status.REFUSED, "no_method"),
        ({"seq": 0}, Status.REFUSED, "malformed"),
        ({"seq": -1}, Status.REFUSED, "malformed"),
        ({"seq": 2**62}, Status.REFUSED, "malformed"),
        ({"seq": 2, "ack": 2**62}, Status.REFUSED, "malformed"),
        ({"seq": 2, "ack": -(2**63)}, Status.REFUSED, "malformed"),
        ({"session": 2**64 - 1}, Status.REBOOTED, "rebooted"),
        ({"session": -1}, Status.REBOOTED, "rebooted"),
        ({"seq": 1, "arguments": b"\x92\xa3tea\x02"}, Status.FALSE_RETRY, "false_retry"),
        ({"seq": 2, "timeout_ms": 2**64 - 1}, Status.OK, ""),
        ({"seq": 2, "timeout_ms": -(2**63)}, Status.OK, ""),
        ({"seq": 2, "arguments": DEEP}, Status.REFUSED, "bad_arguments"),
        ({"seq": 2, "arguments": b""}, Status.REFUSED, "bad_arguments"),
        ({"seq": 2, "arguments": b"[" * 100_000, "json": True}, Status.REFUSED, "bad_arguments"),
        ({"mode": 3}, Status.REFUSED, "not_durable"),
        ({"mode": 2**62}, Status.OK, ""),
        ({"mode": -1}, Status.OK, ""),
        ({"call": 2**64 - 1, "seq": 2}, Status.OK, ""),
    ],
)
def test_a_call_that_makes_no_sense_is_refused_and_the_next_is_served(
    fields: dict[str, Any], status: Status, cause: str
) -> None:
    async def test() -> None:
        async with house() as at, Stranger(at.server) as stranger:
            session = await opened(stranger)
            await stranger.say(at.once(2, session, 1))
            assert (await stranger.hear(Response)).status == 0
            spoiled = msgspec.structs.replace(at.once(3, session, 2), **fields)
            await stranger.say(spoiled, at.request(9, "Shop.stock", "abc"))
            answer, after = await stranger.hear(Response), await stranger.hear(Response)
            assert (answer.call, answer.status) == (spoiled.call, status)
            if status != Status.OK:
                assert msgspec.msgpack.decode(answer.body, type=Fault).cause == cause
            assert (after.call, msgspec.msgpack.decode(after.body)) == (9, 3)

    run(test)


def test_replayed_requests_are_answered_with_the_first_answer() -> None:
    async def test() -> None:
        async with house() as at, Stranger(at.server) as one, Stranger(at.server) as other:
            session = await opened(one)
            await other.say(HELLO)
            for stranger, call in ((one, 2), (one, 2), (other, 7), (one, 3)):
                await stranger.say(at.once(call, session, 1))
                answer = await stranger.hear(Response)
                assert (answer.call, msgspec.msgpack.decode(answer.body)["number"]) == (call, 1)
            await one.say(at.once(4, session, 2, ack=1), at.once(5, session, 1), Ping(1))
            assert (await one.hear(Response)).call == 4
            assert [each for each in one.heard if isinstance(each, Response)] == [], "a late copy is discarded"

    run(test)


def test_messages_about_calls_that_nobody_knows_are_passed_over() -> None:
    async def test() -> None:
        async with house() as at, Stranger(at.server) as stranger:
            nowhere = [StreamItem(77, b"x"), StreamEnd(77), Credit(77, -1), Cancel(77), Cancel(-(2**63)), Pong(2**63)]
            await stranger.say(HELLO, *nowhere, CloseSession(2**63), KeepSession(-1, 2**63))
            await stranger.say(at.request(9, "Shop.stock", "abc"))
            assert (await stranger.hear(Response)).call == 9

    run(test)


def test_streams_have_a_limit_and_refused_ones_leave_nothing() -> None:
    async def test() -> None:
        async with house() as at, Stranger(at.server) as stranger:
            await stranger.say(HELLO, *(at.request(call, "Shop.total") for call in range(1, 19)))
            refused = [await stranger.hear(Response) for _ in range(2)]
            assert [(each.call, each.status) for each in refused] == [(17, Status.OVERLOADED), (18, Status.OVERLOADED)]
            await stranger.say(at.request(1, "Shop.total"), StreamItem(1, b"\x05"), StreamEnd(1))
            answer = await stranger.hear(Response)
            assert (answer.call, msgspec.msgpack.decode(answer.body)) == (1, 5), (
                "the copy of its request changed nothing"
            )
            assert len(at.server.streams) == 15
            await stranger.say(at.request(30, "Shop.total", mode=int(Mode.EXACTLY_ONCE)))
            assert (await stranger.hear(Response)).status == Status.REFUSED
            assert len(at.server.streams) == 15
            await stranger.finish()
            await at.empty()

    run(test)


# ------------------------------------------------------------------------------------------------ spoiled at random


class Honest:
    """A client that calls for as long as something else runs, and is answered rightly each time."""

    def __init__(self, at: House) -> None:
        self._at = at
        self.calls = 0

    async def until(self, ended: asyncio.Future[Any]) -> Any:
        async with await rpc.connect(Shop, self._at.server.address, cluster="red", deadline=20) as shop:
            while not ended.done():
                assert await shop.stock("abc") == 3
                assert (await shop.buy(f"honest {self.calls}")).words == (f"honest {self.calls}",)
                assert [number async for number in shop.count(3)] == [0, 1, 2]
                assert await shop.wait(0) == "done"
                self.calls += 4
            return await ended


def conversation(at: House, chance: Random, session: int, durable: int) -> list[Any]:
    """What a good client might say, in another order each time."""
    seqs, durable_seqs = itertools.count(1), itertools.count(1)
    said: list[Any] = []
    for call in range(2, 40):
        said += chance.choice(
            (
                lambda call: [at.request(call, "Shop.stock", "abc")],
                lambda call: [at.once(call, session, next(seqs), ack=max(0, call - 20))],
                lambda call: [at.request(call, "Till.add", 1, mode=3, session=durable, seq=next(durable_seqs))],
                lambda call: [at.request(call, "Shop.wait", 0.001, timeout_ms=50)],
                lambda call: [at.request(call, "Shop.count", 5), Credit(call, 100)],
                lambda call: [at.request(call, "Shop.total"), StreamItem(call, b"\x01"), StreamEnd(call)],
                lambda call: [at.request(call, "Shop.wait", 5), Cancel(call)],
                lambda call: [KeepSession(session, 0), Ping(call)],
            )
        )(call)
    return said


def spoil(messages: list[Any], chance: Random) -> None:
    """Some fields become absurd; some messages come twice, or change places."""
    for place in range(len(messages)):
        if chance.random() > 0.15:
            continue
        kind = chance.choice(("field", "field", "field", "again", "swap"))
        other = chance.randrange(len(messages))
        if kind == "again":
            messages[place] = messages[other]
        elif kind == "swap":
            messages[place], messages[other] = messages[other], messages[place]
        else:
            message = messages[place]
            name = chance.choice(message.__struct_fields__)
            old = getattr(message, name)
            if isinstance(old, bool):
                new: Any = not old
            elif isinstance(old, int):
                new = chance.choice((*ABSURD, old + 1, old - 1))
            elif isinstance(old, bytes):
                new = chance.choice((b"", DEEP, old[:-1], old * 2, chance.randbytes(8), b"[" * 3000))
            else:
                new = {"traceparent": "x" * 3000, "": ""}
            messages[place] = msgspec.structs.replace(message, **{name: new})


async def spoiled_conversations(at: House, seed: int, frames: int) -> int:
    """Gives how many frames were sent."""
    chance, sent = Random(seed), 0
    while sent < frames:
        async with Stranger(at.server) as stranger:
            session = await opened(stranger)
            await stranger.say(OpenSession(2, True))
            durable: SessionOpened = await stranger.hear(SessionOpened)
            said = conversation(at, chance, session, durable.session)
            spoil(said, chance)
            await stranger.say(*said, CloseSession(session), CloseSession(durable.session))
            sent += len(said)
            await stranger.finish()
    return sent


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def among(at: House, hostile: Callable[[int], Any], growth_max: int) -> int:
    """Serves an honest client while `hostile(seed)` goes on, once to warm up and once to measure."""
    await hostile(1)
    before = resident_bytes()
    honest = Honest(at)
    done: int = await honest.until(asyncio.ensure_future(hostile(2)))
    await at.empty()
    assert honest.calls > 20
    assert resident_bytes() - before < growth_max
    return done


def test_conversations_with_absurd_fields_while_an_honest_client_is_served(tmp_path: Path) -> None:
    async def test() -> None:
        async with house(directory=tmp_path) as at:
            assert await among(at, lambda seed: spoiled_conversations(at, seed, 3000), 32 * MIB) >= 3000

    run(test, 60)


def recorded(at: House) -> list[bytes]:
    """The frames of a whole conversation, with attachments."""
    messages: list[tuple[Any, Any]] = [(HELLO, None), (OpenSession(1, False), None)]
    messages += [(message, None) for message in conversation(at, Random(7), 1, 1)[:20]]
    messages += [(at.request(90, "Shop.size", ""), b"x" * 300), (at.request(91, "Shop.size", ""), bytes(1_200_000))]
    return frames_of(messages, CONFIG)


def test_conversations_with_spoiled_bytes_while_an_honest_client_is_served(tmp_path: Path) -> None:
    async def test() -> None:
        async with house(directory=tmp_path) as at:
            frames = recorded(at)
            await among(at, lambda seed: hammer(at.server.address, frames, seed=seed, count=60), 64 * MIB)

    run(test, 60)


@pytest.mark.soak
def test_a_million_spoiled_frames(tmp_path: Path) -> None:
    async def test() -> None:
        async with house(directory=tmp_path) as at:
            await among(at, lambda seed: spoiled_conversations(at, seed, 500_000), 64 * MIB)
            frames = recorded(at)
            await among(at, lambda seed: hammer(at.server.address, frames, seed=seed, count=25_000), 64 * MIB)

    run(test, 3600)


# ------------------------------------------------------------------------------------------------ slow clients


def slow_ways(at: House) -> Sequence[bytes]:
    """Each a way to hold a connection and take nothing from it."""

    def said(*messages: Any) -> bytes:
        return b"".join(frames_of([(message, None) for message in messages], CONFIG))

    narrow = Hello(1, "", "", stream_window=4096)
    return (
        b"",
        said(HELLO)[:-1],
        said(HELLO),
        said(HELLO, at.request(1, "Shop.stock", "x" * 1000))[:-1],
        said(narrow, at.request(1, "Shop.count", 10**9)),
        said(narrow, at.request(1, "Shop.total")),
        said(HELLO, *(at.request(call, "Shop.stock", "x") for call in range(50))),
        said(HELLO, at.request(1, "Shop.blob", 100_000)),
    )


async def slow_clients(at: House, count: int) -> list[socket.socket]:
    where, ways = ("127.0.0.1", int(at.server.address.rpartition(":")[2])), slow_ways(at)
    loop, sockets = asyncio.get_running_loop(), []
    for way in itertools.islice(itertools.cycle(ways), count):
        sockets.append(socket.socket())
        sockets[-1].setblocking(False)
        sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(sockets[-1], where)
        await loop.sock_sendall(sockets[-1], way)
    return sockets


def test_a_thousand_slow_clients_hold_nobody_up() -> None:
    patient = RpcConfig(hello_timeout_s=60, keepalive_interval_s=60, keepalive_timeout_s=60)

    async def test() -> None:
        async with house(patient) as at:
            before = resident_bytes()
            honest = Honest(at)
            sockets = await honest.until(asyncio.ensure_future(slow_clients(at, 1000)))
            while len(at.server.visitors) < 1000:
                await asyncio.sleep(0.005)
            await honest.until(asyncio.ensure_future(asyncio.sleep(0.2)))
            assert honest.calls > 50
            assert resident_bytes() - before < 100 * MIB
            for each in sockets:
                each.close()
            await at.empty()

    with many_files(3000):
        run(test, 90)


def test_slow_clients_are_closed_at_last() -> None:
    async def test() -> None:
        async with house(RpcConfig(hello_timeout_s=0.3, keepalive_interval_s=0.3, keepalive_timeout_s=0.2)) as at:
            sockets = await slow_clients(at, 40)
            await Honest(at).until(asyncio.ensure_future(at.empty(visitors=1)))
            for each in sockets:
                each.close()

    run(test, 60)
