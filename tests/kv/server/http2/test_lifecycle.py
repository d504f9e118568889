"""Tests of the life of a connection: how it begins, how long anybody may be silent, and how it ends on both sides."""

from __future__ import annotations

import asyncio
import socket

import pytest

from onerack.config import KvConfig
from onerack.errors import UsageError
from onerack.kv.server.grpc import serve
from onerack.kv.server.http2 import frames
from onerack.kv.server.http2.frames import (
    ACK,
    DATA,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    NO_ERROR,
    PING,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_MAX,
    WINDOW_UPDATE,
    frame,
    goaway,
)
from onerack.kv.server.http2.limits import Limits
from tests.kv.server.http2.raw import (
    QUICK,
    Frame,
    RawClient,
    Stand,
    asking,
    body_of,
    code_of,
    message,
    opening,
    stand,
    status_of,
)
from tests.rpc.links import run


def test_the_server_says_its_settings_at_once_and_acknowledges_ours() -> None:
    async def main() -> None:
        async with stand(config=KvConfig(streams_max=123)) as server, server.client() as client:
            found = await client.hear(lambda found: Frame(SETTINGS, ACK, 0, b"") in found)
            assert [one.kind for one in found] == [SETTINGS, WINDOW_UPDATE, SETTINGS]
            assert dict(frames.settings_in(found[0].payload))[frames.MAX_CONCURRENT_STREAMS] == 123

    run(main())


def test_a_ping_is_answered_with_its_content() -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.say(frame(PING, 0, 0, b"12345678"))
            await client.hear(lambda found: Frame(PING, ACK, 0, b"12345678") in found)

    run(main())


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", b"POST /v3/kv/range HTTP/1.0\r\n"])
def test_http_1_gets_a_short_answer(start: bytes) -> None:
    async def main() -> None:
        async with stand() as server:
            async with server.client(start[:3]) as client:
                await client.say(start[3:])
                answer = await client.hear_bytes()
                assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
                head, _, words = answer.partition(b"\r\n\r\n")
                assert b"Content-Length: %d" % len(words) in head
                assert b"gRPC" in words
            await server.serves()

    run(main())


@pytest.mark.parametrize("hello", [b"", b"PRI * HTTP/2.0\r\n"])
def test_a_stranger_who_says_nothing_is_not_waited_for(hello: bytes) -> None:
    async def main() -> None:
        async with stand(Limits(tick_s=0.01, preface_timeout_s=0.05)) as server, server.client(hello) as client:
            assert code_of(await client.hear_all()) == PROTOCOL_ERROR

    run(main())


def test_a_silent_peer_is_asked_and_then_dropped() -> None:
    async def main() -> None:
        async with stand(Limits(tick_s=0.01, keepalive_s=0.05, keepalive_timeout_s=0.05)) as server:
            async with server.client() as client:
                await client.say(asking(1, "/t/Later", b""))
                assert [one.kind for one in await client.hear_all()].count(PING) == 1
                await server.until(lambda: server.methods.ended == ["cancelled"])
                assert not server.listener.connections

    run(main())


def test_a_peer_that_answers_pings_stays() -> None:
    async def main() -> None:
        async with stand(Limits(tick_s=0.01, keepalive_s=0.03, keepalive_timeout_s=0.5)) as server:
            async with server.client() as client:
                for _ in range(5):
                    found = await client.hear(lambda found: any(one.kind == PING for one in found))
                    await client.say(frame(PING, ACK, 0, found[-1].payload))
                await client.say(asking(1, "/t/Echo", b"x"))
                await client.hear_answer(1)

    run(main())


def test_a_request_that_does_not_go_on_ends_the_connection() -> None:
    async def main() -> None:
        async with stand(Limits(tick_s=0.01, stall_timeout_s=0.1)) as server, server.client() as client:
            await client.say(opening(1, "/t/Echo") + frame(DATA, 0, 1, message(bytes(1000))[:500]))
            assert code_of(await client.hear_all()) == ENHANCE_YOUR_CALM

    run(main())


def test_a_stream_may_be_silent_between_messages() -> None:
    async def main() -> None:
        async with stand(Limits(tick_s=0.01, stall_timeout_s=0.05)) as server, server.client() as client:
            await client.say(opening(1, "/t/Chat") + frame(DATA, 0, 1, message(b"a")))
            await client.hear(lambda found: body_of(found, 1) == message(b"a"))
            before = asyncio.get_running_loop().time()
            await server.until(lambda: asyncio.get_running_loop().time() > before + 0.2)
            await client.say(frame(DATA, END_STREAM, 1, message(b"b")))
            assert status_of(await client.hear_answer(1), 1) == ("0", "")

    run(main())


def test_more_connections_than_allowed_are_told_so() -> None:
    async def main() -> None:
        async with stand(config=KvConfig(connections_max=1)) as server, server.client() as first:
            await first.say(asking(1, "/t/Echo", b"x"))
            await first.hear_answer(1)
            async with server.client(b"") as second:
                assert code_of(await second.hear_all()) == ENHANCE_YOUR_CALM
            await first.say(asking(3, "/t/Echo", b"x"))
            await first.hear_answer(3)

    run(main())


def test_a_client_that_goes_away_gets_its_answers_first() -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.say(asking(1, "/t/Later", b"") + goaway(0, NO_ERROR) + asking(3, "/t/Echo", b""))
            found = await client.hear_answer(3)
            assert code_of(found, RST_STREAM) == REFUSED_STREAM
            server.methods.calls[0].reply(b"late")
            assert body_of(await client.hear_all(), 1) == message(b"late")

    run(main())


def test_a_client_that_is_lost_cancels_its_calls() -> None:
    async def main() -> None:
        async with stand() as server:
            async with server.client() as client:
                await client.say(opening(1, "/t/Chat") + asking(3, "/t/Later", b""))
                await server.until(lambda: len(server.methods.calls) == 2)
            await server.until(lambda: server.methods.ended == ["cancelled"] * 2)
            for call in server.methods.calls:
                call.reply(b"nobody hears this")
                call.fail(1, "nor this")

    run(main())


# ---------------------------------------------------------------------------------------------- the server's end


async def drained(server: Stand, client: RawClient, drain_s: float) -> asyncio.Task[None]:
    """The server is closing, and the client has seen it say so."""
    await client.hear(lambda found: len(found) >= 3)
    closing = asyncio.get_running_loop().create_task(server.listener.close(drain_s))
    found = await client.hear(lambda found: any(one.kind == PING for one in found))
    [warning] = [one for one in found if one.kind == GOAWAY]
    assert warning.payload[:8] == STREAM_MAX.to_bytes(4, "big") + bytes(4)
    return closing


def test_a_server_that_closes_serves_what_was_begun() -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.say(asking(1, "/t/Later", b""))
            await server.until(lambda: len(server.methods.calls) == 1)
            closing = await drained(server, client, 20)
            # This was on its way when the client did not know yet.
            await client.say(asking(3, "/t/Later", b"") + frame(PING, ACK, 0, b"goodbye!") + asking(5, "/t/Later", b""))
            found = await client.hear_answer(5)
            assert code_of(found, RST_STREAM) == REFUSED_STREAM
            [last] = [one for one in found if one.kind == GOAWAY]
            assert last.payload == (3).to_bytes(4, "big") + bytes(4)
            for call in server.methods.calls:
                call.reply(b"done")
            found = await client.hear_all()
            assert [status_of(found, stream) for stream in (1, 3)] == [("0", "")] * 2
            await closing
            host, _, port = server.address.rpartition(":")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, int(port)))

    run(main())


def test_a_peer_that_does_not_answer_the_last_ping_is_not_waited_for() -> None:
    async def main() -> None:
        async with stand(QUICK) as server, server.client() as client:
            closing = await drained(server, client, 20)
            await client.hear_all()
            await closing

    run(main())


def test_what_is_not_done_when_the_drain_is_over_is_cancelled() -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.say(opening(1, "/t/Chat"))
            await server.until(lambda: len(server.methods.calls) == 1)
            closing = await drained(server, client, 0.05)
            assert [one.kind for one in await client.hear_all()].count(HEADERS) == 0
            await closing
            assert server.methods.ended == ["cancelled"]

    run(main())


def test_a_peer_that_does_not_close_is_closed() -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.hear(lambda found: len(found) == 3)
            await server.listener.close()
            await server.listener.close()
            assert not server.listener.connections

    run(main())


def test_only_loopback_is_plain() -> None:
    async def main() -> None:
        for address, complaint in [
            ("tcp://0.0.0.0:0", "leaves this machine"),
            ("tls://127.0.0.1:0", "needs tls="),
            ("unix:///tmp/x", "tcp://host:port or tls://host:port"),
        ]:
            with pytest.raises(UsageError, match=complaint):
                await serve({}, address, config=KvConfig())
        listener = await serve({}, "tcp://0.0.0.0:0", config=KvConfig(), insecure=True)
        with pytest.raises(UsageError, match="cannot listen there"):
            await serve({}, listener.address, config=KvConfig(), insecure=True)
        await listener.close()

    run(main())
