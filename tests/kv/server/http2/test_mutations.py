"""Tests of valid conversations with something changed in them: nothing raises, nothing is left behind, others go on.

The idea: a conversation is bytes. Each run damages one anywhere, cuts it anywhere, and gives it to a connection of a
real service on a wire of our own, so that thousands fit into a second. The seed says everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import tracemalloc
from collections.abc import Sequence

import pytest
from hpack import Encoder

from onerack.config import KvConfig
from onerack.kv.server.grpc import OVERHEAD_BYTES, service_of
from onerack.kv.server.http2 import frames
from onerack.kv.server.http2.connection import Connection
from onerack.kv.server.http2.frames import CANCEL, DATA, END_HEADERS, END_STREAM, HEADERS, PING, frame, rst_stream
from onerack.kv.server.http2.limits import Limits
from onerack.kv.server.http2.receiving import ServerBudget
from onerack.rpc.link import Buffer, Peer
from onerack.rpc.transports.wire import Reader
from tests.kv.server.http2.raw import HELLO, Methods, asking, body_of, frames_in, message, opening, stand, status_of
from tests.rpc.links import run

LIMITS = Limits(
    header_list_bytes_max=2000, noise_max=50, unfinished_bytes_max=50_000, waiting_bytes_max=300_000, resets_max=20
)
CONFIG = KvConfig(request_bytes_max=1000, streams_max=10)


class PaperWire:
    """Keeps what is written; says no now and then."""

    hint = ""

    def __init__(self, dice: random.Random) -> None:
        self.written = bytearray()
        self.is_blocked = False
        self.is_finished = False
        self.is_aborted = False
        self._dice = dice

    def start(self, reader: Reader) -> None: ...

    def write(self, parts: Sequence[Buffer]) -> bool:
        assert not self.is_blocked
        self.written += b"".join(parts)
        self.is_blocked = self._dice.random() < 0.1
        return not self.is_blocked

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def look(self) -> None: ...

    def finish(self) -> None:
        assert not self.is_finished
        self.is_finished = True

    def abort(self) -> None:
        self.is_aborted = True


class Table:
    """Connections to one service."""

    def __init__(self, dice: random.Random) -> None:
        self.methods = Methods()
        self.budget = ServerBudget()
        self.dice = dice
        self._service = service_of(self.methods.handlers(), CONFIG.request_bytes_max + OVERHEAD_BYTES)

    def connection(self, limits: Limits = LIMITS) -> tuple[Connection, PaperWire]:
        wire = PaperWire(self.dice)
        connection = Connection(
            wire,
            Peer("paper"),
            self._service,
            limits=limits,
            streams_max=CONFIG.streams_max,
            budget=self.budget,
            forget_me=lambda _connection: None,
        )
        connection.start()
        return connection, wire


def feed(connection: Connection, content: bytes) -> None:
    connection.space()[: len(content)] = content
    connection.arrived(len(content))


def conversation(dice: random.Random) -> list[bytes]:
    """Frames of an ordinary client, with a header table."""
    encoder = Encoder()
    said = [HELLO, frames.window_update(0, 1 << 20)]
    for number in range(dice.randrange(1, 8)):
        stream = 1 + 2 * number
        path = dice.choice(["/t/Echo", "/t/Later", "/t/Chat", "/t/Big", "/t/Fail", "/t/Nope", "/t/Twice"])
        fields = [
            (":method", "POST"), (":scheme", "http"), (":path", path), ("content-type", "application/grpc"),
            ("te", "trailers"), ("grpc-timeout", f"{dice.randrange(10_000)}m"), ("x-bin", "AAAA"),
        ]  # fmt: skip
        block = bytes(encoder.encode(fields))
        cut = dice.randrange(len(block))
        if dice.random() < 0.3:
            said.append(frame(HEADERS, 0, stream, block[:cut]) + frame(9, END_HEADERS, stream, block[cut:]))
        else:
            said.append(frame(HEADERS, END_HEADERS, stream, block))
        body = b"%d" % dice.choice([0, 10, 1000, 100_000])
        content = message(body) * (dice.randrange(1, 4) if path == "/t/Chat" else 1)
        cut = dice.randrange(len(content))
        said += [frame(DATA, 0, stream, content[:cut]), frame(DATA, END_STREAM, stream, content[cut:])]
        said.append(dice.choice([b"", frame(PING, 0, 0, bytes(8)), rst_stream(stream, CANCEL), frames.settings({4: 99}),
                                 frames.window_update(stream, 50_000), frames.goaway(0, 0)]))  # fmt: skip
    return said


def damaged(dice: random.Random, said: list[bytes]) -> bytes:
    """Anything but what was meant. The hello mostly stays, else nothing else is tried."""
    first = 0 if dice.random() < 0.05 else 1
    pieces = list(said)
    for _ in range(dice.randrange(1, 4)):
        place = dice.randrange(first, len(pieces)) if len(pieces) > first else 0
        piece = bytearray(pieces[place])
        match dice.randrange(7):
            case 0 if piece:
                piece[dice.randrange(len(piece))] = dice.randrange(256)
            case 1 if piece:
                piece[dice.randrange(len(piece))] ^= 1 << dice.randrange(8)
            case 2:
                del piece[dice.randrange(len(piece) + 1) :]
            case 3:
                piece *= dice.choice([2, 100])
            case 4:
                pieces.insert(place, dice.choice(said))
            case 5:
                kind, flags, stream = dice.randrange(11), dice.randrange(256), dice.randrange(12)
                piece += frame(kind, flags, stream, dice.randbytes(dice.randrange(20)))
            case _:
                other = dice.randrange(first, len(pieces))
                pieces[place], pieces[other] = pieces[other], pieces[place]
                continue
        pieces[place] = bytes(piece)
    return b"".join(pieces)


async def converse(table: Table, content: bytes) -> None:
    """From beginning to end, in reads of any size."""
    dice = table.dice
    connection, wire = table.connection()
    largest = dice.choice([1, 20, 1000, 100_000])
    now = asyncio.get_running_loop().time()
    for start in range(0, len(content), largest):
        feed(connection, content[start : start + largest])
        assert connection.unfinished_bytes <= LIMITS.unfinished_bytes_max + frames.FRAME_BYTES_MAX
        assert connection.waiting_bytes <= LIMITS.waiting_bytes_max + 200_000
        if wire.is_blocked and dice.random() < 0.5:
            wire.is_blocked = False
            connection.writable()
        if dice.random() < 0.1:
            now += 0.2
            connection.tick(now)
    for call in table.methods.calls:
        dice.choice([call.reply, call.send])(b"late")
    table.methods.calls.clear()
    await asyncio.sleep(0)
    while wire.is_blocked:
        wire.is_blocked = False
        connection.writable()
    frames_in(bytes(wire.written) if wire.written[:4] != b"HTTP" else b"")
    connection.ended(None)
    await asyncio.sleep(0)
    assert (connection.streams, connection.timed, connection.waiting_bytes) == ({}, {}, 0)
    assert connection.unfinished_bytes == table.budget.unfinished_bytes == 0


async def many(seed: int, count: int) -> None:
    dice = random.Random(seed)
    table = Table(dice)
    honest, wire = table.connection(Limits())
    feed(honest, HELLO + frames.window_update(0, 1 << 30))
    for number in range(count):
        await converse(table, damaged(dice, conversation(dice)))
        if number % 10 == 0:
            wire.is_blocked = False
            honest.writable()
            wire.written.clear()
            stream = 1 + 2 * number
            feed(honest, asking(stream, "/t/Echo", b"%d" % number))
            wire.is_blocked = False
            honest.writable()
            found = frames_in(bytes(wire.written))
            assert body_of(found, stream) == message(b"%d" % number)
            assert status_of(found, stream) == ("0", "")


def test_a_conversation_without_damage_is_answered() -> None:
    async def main() -> None:
        table = Table(random.Random(1))
        for _ in range(50):
            connection, wire = table.connection()
            said = [HELLO, opening(1, "/t/Chat"), frame(DATA, END_STREAM, 1, message(b"a") + message(b"b"))]
            feed(connection, b"".join(said))
            while wire.is_blocked:
                wire.is_blocked = False
                connection.writable()
            found = frames_in(bytes(wire.written))
            assert (body_of(found, 1), status_of(found, 1)) == (message(b"a") + message(b"b"), ("0", ""))

    run(main())


@pytest.mark.parametrize("seed", range(8))
def test_damaged_conversations_do_no_harm(seed: int) -> None:
    run(many(seed, 400))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 140))
def test_many_damaged_conversations_do_no_harm_and_leave_nothing(seed: int) -> None:
    run(many(seed, 500))
    tracemalloc.start()
    try:
        run(many(seed, 200))
        before = tracemalloc.get_traced_memory()[0]
        for part in range(10):  # Each has the time that a test has, on whatever machine.
            run(many(10 * seed + part, 150))
        assert tracemalloc.get_traced_memory()[0] < before + 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(200, 210))
def test_an_honest_client_is_served_beside_damaged_ones_on_sockets(seed: int) -> None:
    async def main() -> None:
        dice = random.Random(seed)
        async with stand(Limits(tick_s=0.02, linger_s=0.05, preface_timeout_s=0.2), CONFIG) as server:

            async def offend() -> None:
                async with server.client(b"") as offender:
                    with contextlib.suppress(ConnectionError):
                        await offender.say(damaged(dice, conversation(dice)))
                    if dice.random() < 0.5:
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(0.1):
                                await offender.hear_bytes()

            for _ in range(50):
                await asyncio.gather(*(offend() for _ in range(10)), server.serves())
                server.methods.calls.clear()
            await server.until(lambda: not server.listener.connections)

    run(main())


def test_a_process_that_stood_still_asks_before_it_drops_anybody() -> None:
    async def main() -> None:
        table = Table(random.Random(1))
        connection, wire = table.connection()
        feed(connection, HELLO)
        now = asyncio.get_running_loop().time()
        aborted: list[bool] = []
        for later in (0, 3600, 3600 + LIMITS.keepalive_timeout_s, 3601 + LIMITS.keepalive_timeout_s):
            connection.tick(now + later)
            aborted.append(wire.is_aborted)
        assert aborted == [False, False, False, True]
        connection.ended(None)

    run(main())
