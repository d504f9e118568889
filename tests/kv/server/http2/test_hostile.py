"""Tests of peers that break HTTP/2: each ends with the code that RFC 9113 names, and honest ones do not notice."""

from __future__ import annotations

import pytest

from onerack.config import KvConfig
from onerack.kv.server.http2 import frames
from onerack.kv.server.http2.frames import (
    ACK,
    CANCEL,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    frame,
    rst_stream,
    window_update,
)
from onerack.kv.server.http2.headers import literal
from onerack.kv.server.http2.limits import Limits
from tests.kv.server.http2.raw import (
    HELLO,
    POST,
    QUICK,
    Frame,
    asking,
    block,
    body_of,
    code_of,
    message,
    opening,
    stand,
    status_of,
)
from tests.rpc.links import run

CHAT = opening(1, "/t/Chat")
ECHO = block("/t/Echo")

BROKEN: dict[str, tuple[int, bytes]] = {
    "DATA on stream 0": (PROTOCOL_ERROR, frame(DATA, 0, 0, b"x")),
    "DATA on an idle stream": (PROTOCOL_ERROR, frame(DATA, 0, 1, b"x")),
    "HEADERS on stream 0": (PROTOCOL_ERROR, frame(HEADERS, END_HEADERS, 0, ECHO)),
    "HEADERS on stream 0 that go on": (PROTOCOL_ERROR, frame(HEADERS, 0, 0, ECHO)),
    "HEADERS on an even stream": (PROTOCOL_ERROR, frame(HEADERS, END_HEADERS, 2, ECHO)),
    "CONTINUATION of nothing": (PROTOCOL_ERROR, frame(CONTINUATION, END_HEADERS, 1, ECHO)),
    "a PING inside a header block": (PROTOCOL_ERROR, frame(HEADERS, 0, 1, POST) + frame(PING, 0, 0, bytes(8))),
    "an unknown frame inside a header block": (PROTOCOL_ERROR, frame(HEADERS, 0, 1, POST) + frame(99, 0, 1)),
    "CONTINUATION of another stream": (
        PROTOCOL_ERROR,
        frame(HEADERS, 0, 1, POST) + frame(CONTINUATION, END_HEADERS, 3, ECHO),
    ),
    "more padding than DATA": (PROTOCOL_ERROR, CHAT + frame(DATA, PADDED, 1, b"\x04abc")),
    "more padding than HEADERS": (PROTOCOL_ERROR, frame(HEADERS, PADDED | END_HEADERS, 1, b"\xff" + ECHO)),
    "a request behind a later one": (PROTOCOL_ERROR, asking(5, "/t/Echo", b"") + asking(3, "/t/Echo", b"")),
    "a second request on a closed stream": (PROTOCOL_ERROR, CHAT + rst_stream(1, CANCEL) + CHAT),
    "RST_STREAM of stream 0": (PROTOCOL_ERROR, rst_stream(0, CANCEL)),
    "RST_STREAM of an idle stream": (PROTOCOL_ERROR, rst_stream(5, CANCEL)),
    "WINDOW_UPDATE of an idle stream": (PROTOCOL_ERROR, window_update(5, 1)),
    "WINDOW_UPDATE of 0": (PROTOCOL_ERROR, window_update(0, 0)),
    "SETTINGS on a stream": (PROTOCOL_ERROR, frame(SETTINGS, 0, 1)),
    "ENABLE_PUSH=2": (PROTOCOL_ERROR, frames.settings({frames.ENABLE_PUSH: 2})),
    "MAX_FRAME_SIZE=1": (PROTOCOL_ERROR, frames.settings({frames.MAX_FRAME_SIZE: 1})),
    "MAX_FRAME_SIZE=2^24": (PROTOCOL_ERROR, frames.settings({frames.MAX_FRAME_SIZE: 1 << 24})),
    "PUSH_PROMISE": (PROTOCOL_ERROR, frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + ECHO)),
    "PING on a stream": (PROTOCOL_ERROR, frame(PING, 0, 1, bytes(8))),
    "GOAWAY on a stream": (PROTOCOL_ERROR, frame(GOAWAY, 0, 1, bytes(8))),
    "PRIORITY on stream 0": (PROTOCOL_ERROR, frame(PRIORITY, 0, 0, bytes(5))),
    "SETTINGS of 5 bytes": (FRAME_SIZE_ERROR, frame(SETTINGS, 0, 0, bytes(5))),
    "SETTINGS with ACK and content": (FRAME_SIZE_ERROR, frame(SETTINGS, ACK, 0, bytes(6))),
    "PING of 7 bytes": (FRAME_SIZE_ERROR, frame(PING, 0, 0, bytes(7))),
    "RST_STREAM of 3 bytes": (FRAME_SIZE_ERROR, CHAT + frame(RST_STREAM, 0, 1, bytes(3))),
    "WINDOW_UPDATE of 3 bytes": (FRAME_SIZE_ERROR, frame(WINDOW_UPDATE, 0, 0, bytes(3))),
    "PRIORITY of 4 bytes": (FRAME_SIZE_ERROR, frame(PRIORITY, 0, 1, bytes(4))),
    "GOAWAY of 7 bytes": (FRAME_SIZE_ERROR, frame(GOAWAY, 0, 0, bytes(7))),
    "a frame of 16385 bytes": (FRAME_SIZE_ERROR, frame(DATA, 0, 1, bytes(16385))),
    "only the head of a frame of 16 MiB": (FRAME_SIZE_ERROR, b"\xff\xff\xff\x00\x00\0\0\0\1"),
    "DATA padded by nothing": (FRAME_SIZE_ERROR, CHAT + frame(DATA, PADDED, 1)),
    "HEADERS too short for their priority": (FRAME_SIZE_ERROR, frame(HEADERS, WITH_PRIORITY | END_HEADERS, 1, b"abc")),
    "a connection window of 2^31": (FLOW_CONTROL_ERROR, window_update(0, 2**31 - 1)),
    "INITIAL_WINDOW_SIZE=2^31": (FLOW_CONTROL_ERROR, frames.settings({frames.INITIAL_WINDOW_SIZE: 2**31})),
    "a stream window of 2^31 by SETTINGS": (
        FLOW_CONTROL_ERROR,
        CHAT + window_update(1, 2**30) + frames.settings({frames.INITIAL_WINDOW_SIZE: 2**31 - 2}),
    ),
    "an index of 0": (COMPRESSION_ERROR, frame(HEADERS, END_HEADERS, 1, b"\x80")),
    "an index of nothing": (COMPRESSION_ERROR, frame(HEADERS, END_HEADERS, 1, b"\xbe")),
    "a number without end": (COMPRESSION_ERROR, frame(HEADERS, END_HEADERS, 1, b"\xff" * 20)),
    "half a string": (COMPRESSION_ERROR, frame(HEADERS, END_HEADERS, 1, ECHO[:-1])),
    "bad Huffman code": (COMPRESSION_ERROR, frame(HEADERS, END_HEADERS, 1, b"\x00\x84\xff\xff\xff\xff\x00")),
    "a table of 5000 bytes": (COMPRESSION_ERROR, frame(HEADERS, END_HEADERS, 1, b"\x3f\xe9\x26" + ECHO)),
    "a table that changes in the middle": (COMPRESSION_ERROR, frame(HEADERS, END_HEADERS, 1, ECHO + b"\x20")),
    "bad HPACK in trailers": (COMPRESSION_ERROR, CHAT + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x80")),
    "bad HPACK for a closed stream": (
        COMPRESSION_ERROR,
        CHAT + rst_stream(1, CANCEL) + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x80"),
    ),
    "a header list of 17 KiB": (
        ENHANCE_YOUR_CALM,
        frame(HEADERS, 0, 1, ECHO + literal(b"a", b"b" * 9000))
        + frame(CONTINUATION, END_HEADERS, 1, literal(b"a", b"b" * 9000)),
    ),
    "one entry of the table, over and over": (
        ENHANCE_YOUR_CALM,
        frame(HEADERS, END_HEADERS, 1, b"\x40\x01a\x7f\x81\x1e" + b"b" * 3968 + b"\xbe" * 100),
    ),
    "a header block of 33 KiB": (
        ENHANCE_YOUR_CALM,
        frame(HEADERS, 0, 1, bytes(16384)) + frame(CONTINUATION, 0, 1, bytes(16384)) + frame(CONTINUATION, 0, 1, b"x"),
    ),
    "empty CONTINUATION without end": (ENHANCE_YOUR_CALM, frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1) * 33),
    "a flood of PING": (ENHANCE_YOUR_CALM, frame(PING, 0, 0, bytes(8)) * 2100),
    "a flood of SETTINGS": (ENHANCE_YOUR_CALM, frames.settings({}) * 210),
    "a flood of SETTINGS with ACK": (ENHANCE_YOUR_CALM, frame(SETTINGS, ACK, 0) * 210),
    "a flood of PRIORITY": (ENHANCE_YOUR_CALM, frame(PRIORITY, 0, 1, bytes(5)) * 2100),
    "a flood of WINDOW_UPDATE": (ENHANCE_YOUR_CALM, window_update(0, 1) * 2100),
    "a flood of unknown frames": (ENHANCE_YOUR_CALM, frame(99, 0, 1) * 2100),
    "a flood of empty DATA": (ENHANCE_YOUR_CALM, CHAT + frame(DATA, 0, 1) * 2100),
    "a flood of empty DATA for a closed stream": (
        ENHANCE_YOUR_CALM,
        CHAT + rst_stream(1, CANCEL) + frame(DATA, 0, 1) * 2100,
    ),
    "a flood of malformed requests": (
        ENHANCE_YOUR_CALM,
        b"".join(frame(HEADERS, END_HEADERS, 1 + 2 * number, POST) for number in range(2100)),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_connection_that_breaks_the_protocol_ends_with_its_code(name: str) -> None:
    code, content = BROKEN[name]

    async def main() -> None:
        async with stand() as server:
            async with server.client() as offender:
                await offender.say(content)
                assert code_of(await offender.hear_all()) == code
            await server.serves()

    run(main())


def test_beginning_and_giving_up_requests_without_end_ends_the_connection() -> None:
    async def main() -> None:
        async with stand(Limits(tick_s=5, resets_max=100)) as server:
            async with server.client() as offender:
                pairs = [
                    opening(1 + 2 * number, "/t/Later") + rst_stream(1 + 2 * number, CANCEL) for number in range(101)
                ]
                await offender.say(b"".join(pairs))
                assert code_of(await offender.hear_all()) == ENHANCE_YOUR_CALM
            await server.serves()

    run(main())


def test_what_a_closed_stream_is_sent_is_given_back_to_the_connection() -> None:
    async def main() -> None:
        async with stand(Limits(connection_window_bytes=65_535)) as server, server.client() as client:
            await client.say(CHAT + rst_stream(1, CANCEL) + frame(DATA, 0, 1, bytes(16384)) * 20)
            await client.say(frame(PING, 0, 0, b"a mark.."))
            found = await client.hear(lambda found: any(one.kind == PING for one in found))
            given = [int.from_bytes(one.payload, "big") for one in found if one.kind == WINDOW_UPDATE]
            assert all(one.stream == 0 for one in found if one.kind == WINDOW_UPDATE)
            assert min(given) > 0
            assert 20 * 16384 - 32_768 <= sum(given) <= 20 * 16384

    run(main())


MALFORMED: dict[str, bytes] = {
    "no :path": POST + literal(b"content-type", b"application/grpc"),
    "an empty :path": block(""),
    "no :method": b"\x86" + block("/t/Echo")[2:],
    "two :path": POST + literal(b":path", b"/a") + block("/t/Echo")[2:],
    "an unknown pseudo field": POST + literal(b":status", b"200") + block("/t/Echo")[2:],
    "a pseudo field behind another": literal(b"a", b"b") + block("/t/Echo"),
    "a name with capitals": block("/t/Echo", (b"Name", b"value")),
    "a name with a space": block("/t/Echo", (b"na me", b"value")),
    "an empty name": block("/t/Echo", (b"", b"value")),
    "a value of two lines": block("/t/Echo", (b"name", b"a\r\nb: c")),
    "Connection": block("/t/Echo", (b"connection", b"close")),
    "Transfer-Encoding": block("/t/Echo", (b"transfer-encoding", b"chunked")),
    "te: gzip": block("/t/Echo", (b"te", b"gzip")),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_reset_and_the_connection_goes_on(name: str) -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.say(frame(HEADERS, END_HEADERS, 1, MALFORMED[name]) + frame(DATA, END_STREAM, 1, message(b"")))
            found = await client.hear_answer(1)
            assert code_of(found, RST_STREAM) == PROTOCOL_ERROR
            await client.say(asking(3, "/t/Echo", b"on"))
            assert body_of(await client.hear_answer(3), 3) == message(b"on")

    run(main())


BROKEN_STREAMS: dict[str, tuple[int, bytes]] = {
    "DATA behind the end": (STREAM_CLOSED, asking(1, "/t/Later", b"") + frame(DATA, 0, 1, b"x")),
    "HEADERS behind the end": (STREAM_CLOSED, asking(1, "/t/Later", b"") + frame(HEADERS, END_HEADERS | 1, 1, ECHO)),
    "trailers that do not end it": (PROTOCOL_ERROR, CHAT + frame(HEADERS, END_HEADERS, 1, literal(b"a", b"b"))),
    "trailers that are a request": (PROTOCOL_ERROR, CHAT + frame(HEADERS, END_HEADERS | END_STREAM, 1, ECHO)),
    "WINDOW_UPDATE of 0": (PROTOCOL_ERROR, CHAT + window_update(1, 0)),
    "a window of 2^31": (FLOW_CONTROL_ERROR, CHAT + window_update(1, 2**31 - 1)),
}


@pytest.mark.parametrize("name", BROKEN_STREAMS)
def test_a_stream_that_breaks_the_protocol_is_reset_and_the_connection_goes_on(name: str) -> None:
    code, content = BROKEN_STREAMS[name]

    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.say(content)
            found = await client.hear(lambda found: any(one.kind == RST_STREAM for one in found))
            assert code_of(found, RST_STREAM) == code
            await server.until(lambda: server.methods.ended == ["cancelled"])
            await client.say(asking(3, "/t/Echo", b"on"))
            assert body_of(await client.hear_answer(3), 3) == message(b"on")

    run(main())


def test_a_stream_that_exceeds_its_window_is_reset() -> None:
    async def main() -> None:
        # The window is given back when half of it is used, so one frame must be larger than the whole.
        async with stand(Limits(stream_window_bytes=1000)) as server, server.client() as client:
            await client.say(opening(1, "/t/Later") + frame(DATA, 0, 1, message(bytes(2000))[:1001]))
            assert code_of(await client.hear_answer(1), RST_STREAM) == FLOW_CONTROL_ERROR
            await client.say(opening(3, "/t/Later") + frame(DATA, END_STREAM, 3, message(bytes(2000))))
            assert code_of(await client.hear_answer(3), RST_STREAM) == FLOW_CONTROL_ERROR
            assert server.methods.bodies == []

    run(main())


def test_more_streams_than_allowed_are_refused_and_may_be_tried_again() -> None:
    async def main() -> None:
        async with stand(config=KvConfig(streams_max=2)) as server, server.client() as client:
            await client.say(b"".join(asking(stream, "/t/Later", b"") for stream in (1, 3, 5)))
            found = await client.hear_answer(5)
            assert code_of(found, RST_STREAM) == REFUSED_STREAM
            server.methods.calls[0].reply(b"first")
            await client.hear_answer(1)
            await client.say(asking(7, "/t/Echo", b"now"))
            assert body_of(await client.hear_answer(7), 7) == message(b"now")

    run(main())


def test_a_refused_request_still_changes_the_header_table() -> None:
    async def main() -> None:
        async with stand(config=KvConfig(streams_max=1)) as server, server.client() as client:
            indexed = b"\x40\x05name1\x05value"
            await client.say(asking(1, "/t/Later", b""))
            await client.say(frame(HEADERS, END_HEADERS | END_STREAM, 3, ECHO + indexed))
            await client.hear_answer(3)
            server.methods.calls[0].reply(b"")
            await client.hear_answer(1)
            await client.say(
                frame(HEADERS, END_HEADERS, 5, block("/t/Later") + b"\xbe") + frame(DATA, 1, 5, message(b""))
            )
            await server.until(lambda: len(server.methods.calls) == 2)
            assert server.methods.calls[1].metadata == {"name1": "value"}

    run(main())


def test_long_header_lists_of_open_requests_are_counted() -> None:
    async def main() -> None:
        async with stand(Limits(unfinished_bytes_max=30_000)) as server, server.client() as client:
            long = (b"name", b"v" * 10_000)
            for stream in (1, 3, 5):
                await client.say(opening(stream, "/t/Chat", long, (b"number", b"%d" % stream)))
            assert code_of(await client.hear_answer(5), RST_STREAM) == REFUSED_STREAM
            await client.say(rst_stream(1, CANCEL) + opening(7, "/t/Chat", long, (b"number", b"7")))
            await server.until(lambda: len(server.methods.calls) == 3)

    run(main())


def test_unknown_frames_settings_and_flags_are_ignored() -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.say(frame(42, 0xFF, 7, b"?") + frames.settings({0x99: 7, 0x10: 0}))
            await client.say(frame(HEADERS, END_HEADERS | 0x50, 1, ECHO))
            await client.say(frame(DATA, END_STREAM | 0x70, 1, message(b"x")))
            assert body_of(await client.hear_answer(1), 1) == message(b"x")

    run(main())


def test_the_reserved_bit_of_a_stream_is_ignored() -> None:
    async def main() -> None:
        async with stand() as server, server.client() as client:
            await client.say(asking(1 | 1 << 31, "/t/Echo", b"x"))
            assert body_of(await client.hear_answer(1), 1) == message(b"x")

    run(main())


def test_frames_on_their_way_when_a_call_was_refused_do_no_harm() -> None:
    async def main() -> None:
        async with stand(QUICK) as server, server.client() as client:
            await client.say(opening(1, "/t/Nothing") + frame(DATA, 0, 1, message(bytes(10_000))) + window_update(1, 9))
            await client.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, literal(b"a", b"b")) + rst_stream(1, CANCEL))
            await client.say(asking(3, "/t/Echo", b"on"))
            found = await client.hear_answer(1, 3)
            assert status_of(found, 1)[0] == "12"
            assert [one for one in found if one.kind == RST_STREAM] == [Frame(RST_STREAM, 0, 1, bytes(4))]
            assert status_of(found, 3) == ("0", "")

    run(main())


@pytest.mark.parametrize("content", [PREFACE + frame(PING, 0, 0, bytes(8)), PREFACE + frame(SETTINGS, ACK, 0)])
def test_behind_the_preface_come_settings(content: bytes) -> None:
    async def main() -> None:
        async with stand() as server:
            async with server.client(content) as offender:
                assert code_of(await offender.hear_all()) == PROTOCOL_ERROR
            async with server.client(b"\x16\x03\x01\x02\x00") as offender:  # A TLS ClientHello.
                assert code_of(await offender.hear_all()) == PROTOCOL_ERROR
            await server.serves()

    run(main())


def test_a_hello_in_single_bytes_is_a_hello() -> None:
    async def main() -> None:
        async with stand() as server, server.client(b"") as client:
            for place in range(len(HELLO)):
                await client.say(HELLO[place : place + 1])
            for byte in asking(1, "/t/Echo", b"slow"):
                await client.say(bytes((byte,)))
            assert body_of(await client.hear_answer(1), 1) == message(b"slow")

    run(main())
