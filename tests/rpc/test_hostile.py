"""Tests of peers that break the rules, by raw sockets: each is told so and closed, and honest ones do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from onerack.config import MIB, RpcConfig
from onerack.rpc.link import Link, Listener
from onerack.rpc.messages import Cancel, Hello, Notice, Ping, Pong, Request, Response
from onerack.rpc.transports import dial, listen
from onerack.rpc.transports.budget import Budget
from onerack.rpc.transports.receiver import Receiver
from tests.rpc.links import LOOPS, QUICK, Recorder, run
from tests.rpc.mutations import feed, frames_of, hammer

CONFIG = RpcConfig()
REQUEST = Request(7, 3, 2, 2000, 1 << 60, 42, 41, b"arguments")
HELLO = b"".join(frames_of([(Hello(1, "", ""), None)], CONFIG))

both_loops = pytest.mark.parametrize("loop", LOOPS)


class Stranger:
    """A raw socket at a server."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._loop = asyncio.get_running_loop()

    async def say(self, content: bytes) -> None:
        await self._loop.sock_sendall(self._socket, content)

    async def hear(self) -> list[Any]:
        """Every message until the server says that it is done; then closes too."""
        stream = b""
        while heard := await self._loop.sock_recv(self._socket, 65536):
            stream += heard
        self._socket.close()
        receiver = Receiver("client", CONFIG, Budget(CONFIG))
        messages = [message for message, _ in feed(receiver, stream, itertools.repeat(65536))]
        return [*(Ping(number) for number in receiver.pings), *messages]


@asynccontextmanager
async def stranger(at_server: Recorder, config: RpcConfig = CONFIG) -> AsyncIterator[tuple[Stranger, Listener]]:
    listener = await listen("tcp://127.0.0.1:0", at_server.accept, config=config)
    with socket.socket() as connected:
        connected.setblocking(False)
        where = ("127.0.0.1", int(listener.address.rpartition(":")[2]))
        await asyncio.get_running_loop().sock_connect(connected, where)
        yield Stranger(connected), listener
    await listener.close()
    assert len(at_server.lost_reasons) == len(at_server.links)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: rack\r\n\r\n", "the peer seems to speak HTTP"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "the peer seems to speak HTTP/2"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the peer seems to speak SSH"),
        (b"\x00\x01\x02\x03" * 8, "a message of 50462976 bytes; expected 1 to 4194304"),
        (b"\xff" * 100, "a piece of 1073741823 bytes"),
        (struct.pack("<I", 3) + b"\x92\x05\xc1", "bytes that are no message"),
    ],
)
@both_loops
def test_whoever_says_what_is_no_frame_is_told_so_and_closed(loop: str, said: bytes, reason: str) -> None:
    async def main() -> None:
        at_server = Recorder()
        async with stranger(at_server) as (raw, _):
            await raw.say(said)
            (notice,) = await raw.hear()
            assert isinstance(notice, Notice)
            assert notice.cause == "malformed"
            assert reason in notice.message
            assert await at_server.until_lost() == f"the peer broke the protocol: {notice.message}"
            assert at_server.arrivals == []

    run(main(), loop)


@both_loops
def test_what_was_said_before_the_breach_is_heard(loop: str) -> None:
    async def main() -> None:
        at_server = Recorder()
        async with stranger(at_server) as (raw, _):
            await raw.say(HELLO + b"\xff" * 100)
            await raw.hear()
            assert at_server.messages == [Hello(1, "", "")]
            await at_server.until_lost()

    run(main(), loop)


@both_loops
def test_one_that_never_says_anything_is_closed(loop: str) -> None:
    async def main() -> None:
        at_server = Recorder()
        async with stranger(at_server, QUICK) as (raw, _):
            assert Notice("timeout", "the peer has not introduced itself within 0.2 s") in await raw.hear()

    run(main(), loop)


def test_one_that_only_pings_has_not_introduced_itself() -> None:
    async def main() -> None:
        at_server = Recorder()
        async with stranger(at_server, QUICK) as (raw, _):
            hearing = asyncio.create_task(raw.hear())
            while not hearing.done():
                await raw.say(b"".join(frames_of([(Ping(3), None)], CONFIG)))
                await asyncio.sleep(0.03)
            heard = await hearing
            assert heard[0] != Ping(1), "it was not silent"
            assert heard[-1] == Notice("timeout", "the peer has not introduced itself within 0.2 s")

    run(main())


@both_loops
def test_one_that_falls_silent_is_asked_and_then_closed(loop: str) -> None:
    async def main() -> None:
        at_server = Recorder()
        async with stranger(at_server, QUICK) as (raw, _):
            await raw.say(HELLO)
            assert await raw.hear() == [Ping(1)]
            assert (await at_server.until_lost()).startswith("the peer has said nothing for 0.2")

    run(main(), loop)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (HELLO[:-1], "a message stands still halfway"),
        (HELLO[:3], "a message stands still halfway"),
        (struct.pack("<I", MIB) + bytes(100), "of an attachment less than 65536 bytes have come"),
        (
            b"".join(frames_of([(Cancel(1), bytes(2 * MIB))], CONFIG))[: MIB + 100],
            "of an attachment less than 65536 bytes have come",
        ),
    ],
)
def test_one_that_stops_halfway_is_closed_though_it_answers_pings(said: bytes, reason: str) -> None:
    config = RpcConfig(hello_timeout_s=0.2, keepalive_interval_s=9, keepalive_timeout_s=9)

    async def main() -> None:
        at_server = Recorder()
        async with stranger(at_server, config) as (raw, _):
            await raw.say(HELLO + said)
            (notice,) = await raw.hear()
            assert notice.cause == "timeout"
            assert reason in notice.message

    run(main())


@both_loops
def test_a_reset_is_an_end_like_any_other(loop: str) -> None:
    async def main() -> None:
        at_server = Recorder()
        async with stranger(at_server) as (raw, _):
            await raw.say(HELLO)
            await at_server.until(lambda: at_server.arrivals)
            raw._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw._socket.close()
            assert await at_server.until_lost() == "the peer reset the connection"

    run(main(), loop)


def test_an_end_in_the_middle_of_a_frame_is_called_so() -> None:
    async def main() -> None:
        at_server = Recorder()
        async with stranger(at_server) as (raw, _):
            await raw.say(HELLO[:-1])
            await asyncio.sleep(0)
            raw._socket.shutdown(socket.SHUT_WR)
            assert await raw.hear() == []
            assert await at_server.until_lost() == "the peer closed the connection in the middle of a frame"

    run(main())


def test_one_that_does_not_close_after_it_was_told_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onerack.rpc.transports.connection.LINGER_S", 0.1)

    async def main() -> None:
        at_server = Recorder()
        async with stranger(at_server) as (raw, _):
            await raw.say(b"\xff" * 100)
            with contextlib.suppress(ConnectionError):
                while not at_server.lost_reasons:
                    await raw.say(bytes(100))
                    await asyncio.sleep(0.01)
            assert "the peer broke the protocol" in await at_server.until_lost()

    run(main())


def test_a_client_is_told_what_a_broken_server_did() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as raw:
            raw.setblocking(False)
            at_client = Recorder()
            loop = asyncio.get_running_loop()
            await dial(f"tcp://127.0.0.1:{raw.getsockname()[1]}", at_client, config=CONFIG)
            accepted, _ = await loop.sock_accept(raw)
            with accepted:
                await loop.sock_sendall(accepted, b"HTTP/1.1 400 Bad Request\r\n\r\n")
                assert "the peer broke the protocol: " in await at_client.until_lost()

    run(main())


# ---------------------------------------------------------------------------------------------- the honest among them


class Echo(Recorder):
    """Answers each request with its arguments and attachment, or with `content`."""

    content: bytes | None = None

    def received(self, link: Link, arrivals: Any) -> None:
        super().received(link, arrivals)
        for message, attachment in arrivals:
            if isinstance(message, Request):
                answer = Response(message.call, message.session, 0, message.arguments)
                link.send(answer, attachment if self.content is None else self.content)


class Honest:
    """A client that calls, one call after the other, for as long as something else runs."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.calls = 0

    async def calling(self, link: Link, until: asyncio.Future[Any]) -> None:
        while not until.done():
            self.calls += 1
            link.send(REQUEST, bytes(100))
            link.flush()
            await self.recorder.until(lambda: len(self.recorder.arrivals) == self.calls)


@pytest.mark.parametrize(("scheme", "loop"), [("tcp", "asyncio"), ("unix", "asyncio"), ("unix", "uvloop")])
def test_mutated_frames_over_sockets_while_an_honest_client_is_served(scheme: str, loop: str, tmp_path: Any) -> None:
    story = [(Hello(1, "", ""), None), (REQUEST, bytes(100)), (REQUEST, bytes(2 * MIB)), (Pong(1), None)]
    frames = frames_of(story, CONFIG)

    async def main() -> None:
        at_server, honest = Echo(), Honest()
        address = f"unix://{tmp_path}/s" if scheme == "unix" else "tcp://127.0.0.1:0"
        listener = await listen(address, at_server.accept, config=CONFIG)
        link = await dial(listener.address, honest.recorder, config=CONFIG)
        hammering = asyncio.create_task(hammer(listener.address, frames, seed=3, count=150))
        await honest.calling(link, hammering)
        assert await hammering > 0
        assert link.is_open
        assert honest.calls > 10
        await listener.close()
        await honest.recorder.until_lost()

    run(main(), loop)


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_two_hundred_slow_clients_cost_little_and_hold_nobody_up() -> None:
    """Each announces the longest attachment there may be, sends a byte of it, and a byte more from time to time."""
    head = msgspec.msgpack.encode(Cancel(1))
    begun = HELLO + struct.pack("<IIQ", 2 << 30 | 12 + len(head), 1, CONFIG.attachment_bytes_max) + head
    begun += struct.pack("<II", 3 << 30 | 4 + MIB, 1) + b"x"

    async def main() -> None:
        at_server, honest = Echo(), Honest()
        listener = await listen("tcp://127.0.0.1:0", at_server.accept, config=CONFIG)
        link = await dial(listener.address, honest.recorder, config=CONFIG)
        where = ("127.0.0.1", int(listener.address.rpartition(":")[2]))
        loop = asyncio.get_running_loop()
        before = resident_bytes()
        slow = []
        for _ in range(200):
            slow.append(socket.socket())
            slow[-1].setblocking(False)
            await loop.sock_connect(slow[-1], where)
            await loop.sock_sendall(slow[-1], begun)

        async def drip() -> None:
            for _ in range(20):
                for each in slow:
                    await loop.sock_sendall(each, b"y")
                await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        await honest.calling(link, dripping)
        honest.calls += 1
        link.send(REQUEST, bytes(8 * MIB))
        await honest.recorder.until(lambda: len(honest.recorder.arrivals) == honest.calls)
        assert len(at_server.links) == 201
        assert at_server.lost_reasons == []
        # Huge pages: the first byte of an attachment may cost two MiB.
        assert resident_bytes() - before < 200 * 2 * MIB + 64 * MIB
        for each in slow:
            each.close()
        await listener.close()
        await honest.recorder.until_lost()

    run(main())


@both_loops
def test_what_a_peer_said_before_it_died_is_heard_though_nothing_can_be_written_to_it(loop: str) -> None:
    """As when a server is killed: its last answers are here already, and so is the reset of the connection."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as raw:
            raw.setblocking(False)
            at_client = Recorder()
            running = asyncio.get_running_loop()
            link = await dial(f"tcp://127.0.0.1:{raw.getsockname()[1]}", at_client, config=CONFIG)
            link.pause()
            accepted, _ = await running.sock_accept(raw)
            answers = [(Response(number, 0, 0, b""), None) for number in range(3)]
            await running.sock_sendall(accepted, b"".join(frames_of(answers, CONFIG)))
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()
            link.resume()
            link.send(REQUEST)
            link.flush()
            assert await at_client.until_lost() == "the peer reset the connection"
            assert at_client.arrivals == answers

    run(main(), loop)


@both_loops
@pytest.mark.parametrize("size", [0, 100, MIB, 5 * MIB])
def test_a_client_that_asks_and_never_listens_is_not_listened_to_either(loop: str, size: int) -> None:
    """Memory stays flat, and in the end it is closed; with one that reads late nothing is lost."""

    async def main() -> None:
        at_server, answer = Echo(), bytes(size)
        at_server.content = answer
        config = RpcConfig(hello_timeout_s=0.4, keepalive_interval_s=0.4, keepalive_timeout_s=0.2)
        request = b"".join(frames_of([(Request(7, 3, 2, 0, 0, 0, 0, bytes(1000)), None)], CONFIG))
        async with stranger(at_server, config) as (raw, _):
            asked = 0
            with contextlib.suppress(TimeoutError, ConnectionError):
                while not at_server.lost_reasons:
                    async with asyncio.timeout(0.2):
                        await raw.say(HELLO + request * 100)
                    asked += 100
                    await asyncio.sleep(0)
            # What the kernel took for it, what may wait here, and the questions of one read.
            assert len(at_server.arrivals) < (16 * MIB // 1000 if size < MIB else 600)
            assert (await at_server.until_lost()).startswith("the peer has said nothing for ")

    run(main(), loop)


def test_a_client_that_listens_late_hears_everything() -> None:
    async def main() -> None:
        at_server, at_client = Echo(), Recorder()
        listener = await listen("tcp://127.0.0.1:0", at_server.accept, config=CONFIG)
        link = await dial(listener.address, at_client, config=CONFIG)
        link.pause()
        for number in range(20_000):
            link.send(Request(number, 3, 2, 0, 0, 0, 0, bytes(1000)), bytes(MIB) if number % 500 == 0 else None)
        before = -1
        while before < len(at_server.arrivals):
            before = len(at_server.arrivals)
            await asyncio.sleep(0.1)
        assert before < 20_000, "the server waits until its answers are taken"
        link.resume()
        await at_client.until(lambda: len(at_client.arrivals) == 20_000)
        assert sorted(message.call for message in at_client.messages) == list(range(20_000))
        await listener.close()
        await at_client.until_lost()

    run(main())
