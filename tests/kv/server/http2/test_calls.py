"""Tests of gRPC calls by hand-made frames: messages cut anyhow, statuses, what is refused, and handlers that fail."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from onerack.config import KvConfig
from onerack.kv.server.grpc import OVERHEAD_BYTES
from onerack.kv.server.http2 import frames
from onerack.kv.server.http2.frames import (
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    RST_STREAM,
    WITH_PRIORITY,
    frame,
    rst_stream,
)
from onerack.kv.server.http2.headers import literal
from onerack.kv.server.http2.limits import Limits
from tests.kv.server.http2.raw import (
    QUICK,
    Frame,
    asking,
    block,
    body_of,
    fields_of,
    frames_in,
    message,
    opening,
    stand,
    status_of,
)
from tests.rpc.links import run

SMALL = KvConfig(request_bytes_max=1000)
MESSAGE_BYTES_MAX = 1000 + OVERHEAD_BYTES


def test_an_answer_is_headers_a_message_and_trailers() -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.say(asking(1, "/t/Echo", b"body"))
            found = [one for one in await client.hear_answer(1) if one.stream == 1]
            assert [(one.kind, one.flags) for one in found] == [
                (HEADERS, END_HEADERS), (DATA, 0), (HEADERS, END_HEADERS | END_STREAM),
            ]  # fmt: skip
            assert fields_of(found[0].payload) == {":status": "200", "content-type": "application/grpc"}
            assert fields_of(found[2].payload) == {"grpc-status": "0"}

    run(main())


def test_a_failure_is_one_header_list_with_a_percent_encoded_message() -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.say(asking(1, "/t/Fail", "50% è\n".encode()))
            found = [one for one in await client.hear_answer(1) if one.stream == 1]
            assert [(one.kind, one.flags) for one in found] == [(HEADERS, END_HEADERS | END_STREAM)]
            assert fields_of(found[0].payload) == {
                ":status": "200",
                "content-type": "application/grpc",
                "grpc-status": "9",
                "grpc-message": "50%25 %C3%A8%0A",
            }

    run(main())


def test_a_request_padded_with_priority_and_cut_everywhere_is_the_same_request() -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            whole = block("/t/Echo", (b"name", b"value"))
            pieces = [bytes((3,)) + bytes(5) + whole[:10] + bytes(3), whole[10:20], b"", whole[20:]]
            await client.say(frame(HEADERS, PADDED | WITH_PRIORITY, 1, pieces[0]))
            await client.say(frame(CONTINUATION, 0, 1, pieces[1]) + frame(CONTINUATION, 0, 1, pieces[2]))
            await client.say(frame(CONTINUATION, END_HEADERS, 1, pieces[3]))
            content = message(b"abcdefgh")
            for place in range(len(content)):
                await client.say(frame(DATA, PADDED, 1, b"\x02" + content[place : place + 1] + bytes(2)))
            await client.say(frame(DATA, END_STREAM, 1))
            assert body_of(await client.hear_answer(1), 1) == content

    run(main())


def test_trailers_of_the_client_end_a_request() -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.say(opening(1, "/t/Echo") + frame(DATA, 0, 1, message(b"x")))
            await client.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, literal(b"a", b"b")))
            assert body_of(await client.hear_answer(1), 1) == message(b"x")

    run(main())


@pytest.mark.parametrize("seed", range(5))
def test_messages_of_a_stream_are_the_same_however_they_are_cut(seed: int) -> None:
    async def main() -> None:
        dice = random.Random(seed)
        async with stand() as server, server.client() as client:
            bodies = [dice.randbytes(dice.choice([0, 1, 4, 5, 100, 20_000])) for _ in range(50)]
            content = b"".join(message(body) for body in bodies)
            await client.say(opening(1, "/t/Chat"))
            while content:
                size = dice.choice([0, 1, 2, 5, 6, 1000, 16_384])
                await client.say(frame(DATA, 0, 1, content[:size]))
                content = content[size:]
            await client.say(frame(DATA, END_STREAM, 1))
            await server.until(lambda: server.methods.ended == ["half closed"])
            assert server.methods.bodies == bodies
            [connection] = server.listener.connections
            assert connection.unfinished_bytes == 0

    run(main())


REFUSED: dict[str, tuple[str, str, bytes]] = {
    "an unknown service": ("12", "unknown service no.Such", asking(1, "/no.Such/Method", b"")),
    "an unknown method": ("12", "unknown method Nope for service t", asking(1, "/t/Nope", b"")),
    "a path that is none": ("12", "malformed method name: 'nonsense'", asking(1, "nonsense", b"")),
    "a timeout that is none": (
        "13",
        "malformed grpc-timeout: '5 s'",
        asking(1, "/t/Echo", b"", (b"grpc-timeout", b"5 s")),
    ),
    "binary metadata that are none": (
        "13",
        "malformed binary metadata 'a-bin'",
        asking(1, "/t/Echo", b"", (b"a-bin", b"!")),
    ),
    "a compressed message": (
        "12",
        'grpc: Decompressor is not installed for grpc-encoding "gzip"',
        opening(1, "/t/Echo", (b"grpc-encoding", b"gzip")) + frame(DATA, END_STREAM, 1, message(b"", 1)),
    ),
    "a compressed message of a stream": (
        "12",
        'grpc: Decompressor is not installed for grpc-encoding "gzip"',
        opening(1, "/t/Chat", (b"grpc-encoding", b"gzip")) + frame(DATA, END_STREAM, 1, message(b"", 1)),
    ),
    "a message compressed by nothing": (
        "13",
        "grpc: compressed flag set with identity or empty encoding",
        opening(1, "/t/Echo") + frame(DATA, END_STREAM, 1, message(b"", 1)),
    ),
    "a message with flag 2": (
        "13",
        "grpc: received unexpected payload format 2",
        opening(1, "/t/Echo") + frame(DATA, END_STREAM, 1, message(b"", 2)),
    ),
    "no message": ("13", "/t/Echo takes one message, whole", opening(1, "/t/Echo") + frame(DATA, END_STREAM, 1)),
    "no message at all": (
        "13",
        "/t/Echo takes one message, whole",
        frame(HEADERS, END_HEADERS | END_STREAM, 1, block("/t/Echo")),
    ),
    "two messages": (
        "13",
        "/t/Echo takes one message, whole",
        opening(1, "/t/Echo") + frame(DATA, 0, 1, message(b"a")) + frame(DATA, END_STREAM, 1, message(b"b")),
    ),
    "half a message": (
        "13",
        "/t/Echo takes one message, whole",
        opening(1, "/t/Echo") + frame(DATA, END_STREAM, 1, message(b"abcd")[:-1]),
    ),
    "a stream that ends inside a message": (
        "13",
        "the stream has ended inside a message",
        opening(1, "/t/Chat") + frame(DATA, END_STREAM, 1, message(b"abcd")[:-1]),
    ),
    "a message of 4 GiB": (
        "8",
        f"grpc: received message larger than max (4294967295 vs. {MESSAGE_BYTES_MAX})",
        opening(1, "/t/Echo") + frame(DATA, 0, 1, b"\0\xff\xff\xff\xff"),
    ),
    "a message of 4 GiB on a stream": (
        "8",
        f"grpc: received message larger than max (4294967295 vs. {MESSAGE_BYTES_MAX})",
        opening(1, "/t/Chat") + frame(DATA, 0, 1, b"\0\xff\xff\xff\xff"),
    ),
    "a handler that refuses": ("7", "nobody may", asking(1, "/t/Deaf", b"")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why_and_the_connection_goes_on(name: str) -> None:
    code, text, content = REFUSED[name]

    async def main() -> None:
        async with stand(config=SMALL) as server, server.client() as client:
            await client.say(content)
            assert status_of(await client.hear_answer(1), 1) == (code, text)
            await client.say(asking(3, "/t/Echo", b"on"))
            assert body_of(await client.hear_answer(3), 3) == message(b"on")
            [connection] = server.listener.connections
            assert connection.unfinished_bytes == 0
            assert connection.streams == {}

    run(main())


def test_the_largest_message_is_taken_and_one_byte_more_is_not() -> None:
    async def main() -> None:
        async with stand(config=SMALL) as server, server.client() as client:
            for stream, size, status in [(1, MESSAGE_BYTES_MAX, "0"), (3, MESSAGE_BYTES_MAX + 1, "8")]:
                content = message(bytes(size))
                await client.say(opening(stream, "/t/Later"))
                for start in range(0, len(content), 16_384):
                    await client.say(frame(DATA, 0, stream, content[start : start + 16_384]))
                await client.say(frame(DATA, END_STREAM, stream))
                if status == "0":
                    await server.until(lambda: len(server.methods.bodies) == 1)
                    server.methods.calls[0].reply(b"")
                assert status_of(await client.hear_answer(stream), stream)[0] == status
            assert [len(body) for body in server.methods.bodies] == [MESSAGE_BYTES_MAX]

    run(main())


@pytest.mark.parametrize(("path", "fields"), [("405", b"\x82"), ("415", b"\x83")])
def test_what_is_no_grpc_is_answered_by_http(path: str, fields: bytes) -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            plain = fields + b"\x86" + literal(b":path", b"/t/Echo") + literal(b"content-type", b"text/plain")
            await client.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, plain))
            [answer] = [one for one in await client.hear_answer(1) if one.kind == HEADERS]
            assert fields_of(answer.payload)[":status"] == path

    run(main())


def test_unfinished_messages_have_a_limit_for_all_connections_together() -> None:
    async def main() -> None:
        async with stand(Limits(tick_s=0.02, unfinished_server_bytes_max=25_000)) as server:
            half = message(bytes(20_000))[:10_000]
            async with server.client() as first, server.client() as second:
                await first.say(
                    b"".join(opening(stream, "/t/Echo") + frame(DATA, 0, stream, half) for stream in (1, 3))
                )
                await server.until(lambda: sum(one.unfinished_bytes for one in server.listener.connections) == 20_000)
                await second.say(opening(1, "/t/Echo") + frame(DATA, 0, 1, half))
                found = await second.hear_answer(1)
                assert status_of(found, 1) == ("8", "grpc: too many messages have not come whole")
                await first.say(rst_stream(1, CANCEL))
                await server.until(lambda: sum(one.unfinished_bytes for one in server.listener.connections) == 10_000)
                await second.say(opening(3, "/t/Echo") + frame(DATA, 0, 3, half) + frame(DATA, 1, 3, bytes(10_005)))
                assert status_of(await second.hear_answer(3), 3)[0] == "0"

    run(main())


# ---------------------------------------------------------------------------------------------- handlers


def test_metadata_are_there_by_name() -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.say(
                asking(1, "/t/Later", b"body", (b"token", b"secret"), (b"a", b"1"), (b"a", b"2"), (b"x-bin", b"AAH/"),
                       (b"te", b"trailers"), (b"hasleader", b"true"), (b"grpc-timeout", b"1H"))
            )  # fmt: skip
            await server.until(lambda: len(server.methods.calls) == 1)
            [call] = server.methods.calls
            assert call.path == "/t/Later"
            assert call.metadata == {"token": "secret", "a": "1,2", "hasleader": "true"}
            assert call.binary_metadata == {"x-bin": b"\x00\x01\xff"}
            assert call.token == "secret"
            assert call.peer.address.startswith("127.0.0.1:")
            assert call.deadline_at is not None
            assert 3590 < call.deadline_at - asyncio.get_running_loop().time() <= 3600

    run(main())


def test_a_call_ends_by_itself_at_its_deadline() -> None:
    async def main() -> None:
        async with stand(Limits(tick_s=0.01)) as server, server.client() as client:
            await client.say(asking(1, "/t/Later", b"", (b"grpc-timeout", b"30m")))
            await client.say(opening(3, "/t/Chat", (b"grpc-timeout", b"30000u")))
            found = await client.hear_answer(1, 3)
            assert {status_of(found, stream) for stream in (1, 3)} == {("4", "context deadline exceeded")}
            assert server.methods.ended == ["cancelled"] * 2
            for call in server.methods.calls:
                call.reply(b"too late")
            await client.say(asking(5, "/t/Echo", b"", (b"grpc-timeout", b"30m")))
            assert {one.stream for one in await client.hear_answer(5)} == {5}
            [connection] = server.listener.connections
            assert connection.timed == {}

    run(main())


def test_a_call_that_is_given_up_is_cancelled_and_its_answer_goes_nowhere() -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.say(asking(1, "/t/Later", b"") + opening(3, "/t/Chat") + rst_stream(1, CANCEL))
            await client.say(rst_stream(3, CANCEL))
            await server.until(lambda: server.methods.ended == ["cancelled"] * 2)
            for call in server.methods.calls:
                assert not call.is_open
                call.send(b"x")
                call.reply(b"x")
                call.finish()
            await client.say(asking(5, "/t/Echo", b""))
            assert {one.stream for one in await client.hear_answer(5) if one.kind in (DATA, HEADERS)} == {5}

    run(main())


def test_a_call_is_answered_once() -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.say(asking(1, "/t/Twice", b"once") + asking(3, "/t/Echo", b""))
            found = await client.hear_answer(1, 3)
            assert body_of(found, 1) == message(b"once")
            assert status_of(found, 1) == ("0", "")

    run(main())


def test_an_ended_stream_hears_no_more_messages() -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.say(opening(1, "/t/Chat") + frame(DATA, 0, 1, message(b"end") + message(b"more")))
            found = await client.hear(lambda found: any(one.kind == RST_STREAM for one in found))
            assert status_of(found, 1) == ("0", "")
            assert found[-1].payload == bytes(4), "NO_ERROR: the client need not go on"
            assert (server.methods.bodies, server.methods.ended) == ([b"end"], [])

    run(main())


def test_the_begin_of_an_answer_can_be_sent_before_there_is_one() -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.say(opening(1, "/t/Chat"))
            await server.until(lambda: len(server.methods.calls) == 1)
            server.methods.calls[0].begin_answer()
            found = await client.hear(lambda found: any(one.kind == HEADERS for one in found))
            assert fields_of(found[-1].payload)[":status"] == "200"
            server.methods.calls[0].finish(5, "no")
            found = await client.hear_answer(1)
            assert fields_of(found[-2].payload) == {"grpc-status": "5", "grpc-message": "no"}

    run(main())


@pytest.mark.parametrize(
    "content", [asking(1, "/t/Raise", b""), opening(1, "/t/Chat") + frame(DATA, 0, 1, message(b"raise"))]
)
def test_a_handler_that_raises_ends_its_call_and_is_reported(content: bytes) -> None:
    async def main() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        async with stand(QUICK) as server, server.client() as client:
            await client.say(content)
            found = await client.hear_answer(1)
            assert status_of(found, 1) == ("13", "internal error")
            [complaint] = complaints
            assert isinstance(complaint["exception"], ZeroDivisionError)
            assert server.methods.ended in ([], ["cancelled"])
            await client.say(asking(3, "/t/Echo", b"on"))
            await client.hear_answer(3)

    run(main())


def test_all_answers_of_a_batch_are_one_write() -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.say(asking(1, "/t/Echo", b""))
            await client.hear_answer(1)
            [connection] = server.listener.connections
            writes: list[int] = []
            write = connection.wire.write

            def counted(parts: Any) -> bool:
                writes.append(len(frames_of(parts)))
                return write(parts)

            connection.wire.write = counted  # type: ignore[method-assign]
            await client.say(b"".join(asking(3 + 2 * number, "/t/Echo", b"") for number in range(40)))
            await client.hear_answer(*range(3, 83, 2))
            assert sum(writes) == 120
            assert max(writes) == 96, "32 calls"
            await client.say(b"".join(asking(83 + 2 * number, "/t/Later", b"") for number in range(40)))
            await server.until(lambda: len(server.methods.calls) == 40)
            writes.clear()
            for call in server.methods.calls:
                call.reply(b"")
            await client.hear_answer(*range(83, 163, 2))
            assert writes == [120]

    run(main())


def frames_of(parts: Any) -> list[Frame]:
    return frames_in(b"".join(bytes(part) for part in parts))


def test_the_frame_constants_are_those_of_the_specification() -> None:
    assert frames.PREFACE.hex() == "505249202a20485454502f322e300d0a0d0a534d0d0a0d0a"
    assert frames.settings({4: 10}).hex() == "000006040000000000" + "00040000000a"
    assert frames.goaway(1, 11, "x").hex() == "000009070000000000" + "000000010000000b" + "78"
