"""Tests of flow control: the server sends no more than the peer's windows allow, and gives back what it has taken."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from onerack.kv.server.http2 import frames
from onerack.kv.server.http2.frames import (
    ACK,
    DATA,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    window_update,
)
from onerack.kv.server.http2.limits import Limits
from tests.kv.server.http2.raw import (
    HELLO,
    Frame,
    RawClient,
    asking,
    body_of,
    code_of,
    message,
    opening,
    stand,
    status_of,
)
from tests.rpc.links import run

TINY = frames.PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: 10})
WIDE = HELLO + window_update(0, 1 << 30)


async def heard_so_far(client: RawClient) -> list[Frame]:
    """Everything that the server says to what it has got."""
    await client.say(frame(PING, 0, 0, b"so far.."))
    return await client.hear(lambda found: Frame(PING, ACK, 0, b"so far..") in found)


def sizes(found: list[Frame]) -> Counter[int]:
    """Bytes of DATA by stream."""
    count: Counter[int] = Counter()
    for one in found:
        if one.kind == DATA:
            count[one.stream] += len(one.payload)
    return count


def test_a_stream_window_is_respected_and_the_rest_follows() -> None:
    async def main() -> None:
        async with stand() as server, server.client(TINY) as client:
            await client.say(asking(1, "/t/Big", b"100") + asking(3, "/t/Big", b"5"))
            found = await heard_so_far(client)
            assert sizes(found) == {1: 10, 3: 10}
            assert status_of(found, 3) == ("0", "")
            await client.say(window_update(1, 94))
            found += await heard_so_far(client)
            assert sizes(found) == {1: 104, 3: 10}
            await client.say(window_update(1, 1))
            found += await client.hear_answer(1)
            assert body_of(found, 1) == message(bytes(100))
            assert status_of(found, 1) == ("0", "")

    run(main())


def test_the_connection_window_is_shared_and_streams_take_turns() -> None:
    async def main() -> None:
        wide_streams = frames.PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 20})
        async with stand() as server, server.client(wide_streams) as client:
            await client.say(b"".join(asking(stream, "/t/Big", b"200000") for stream in (1, 3, 5)))
            found = await heard_so_far(client)
            assert sum(sizes(found).values()) == 65_535
            await client.say(window_update(0, 4 * 65_536))
            found += await heard_so_far(client)
            assert sum(sizes(found).values()) == 65_535 + 4 * 65_536
            assert all(size > 60_000 for size in sizes(found).values())
            # A small answer does not wait for ever behind the large ones.
            await client.say(asking(7, "/t/Echo", b"small") + window_update(0, 1 << 20))
            found += await client.hear_answer(1, 3, 5, 7)
            assert sizes(found) == {1: 200_005, 3: 200_005, 5: 200_005, 7: 10}

    run(main())


def test_a_new_initial_window_holds_for_open_streams() -> None:
    async def main() -> None:
        async with stand() as server, server.client(TINY) as client:
            await client.say(asking(1, "/t/Big", b"100"))
            assert sizes(await heard_so_far(client)) == {1: 10}
            # It may even become negative: 10 were used, 4 are allowed.
            await client.say(frames.settings({frames.INITIAL_WINDOW_SIZE: 4}) + window_update(1, 5))
            assert not sizes(await heard_so_far(client))
            await client.say(frames.settings({frames.INITIAL_WINDOW_SIZE: 20}))
            assert sizes(await heard_so_far(client)) == {1: 15}
            await client.say(frames.settings({frames.INITIAL_WINDOW_SIZE: 1000}))
            assert sizes(await client.hear_answer(1)) == {1: 80}

    run(main())


def test_a_call_knows_what_waits_and_when_it_has_left() -> None:
    async def main() -> None:
        async with stand() as server, server.client(TINY) as client:
            await client.say(opening(1, "/t/Chat"))
            await server.until(lambda: len(server.methods.calls) == 1)
            [call] = server.methods.calls
            drained: list[int] = []

            def on_drained() -> None:
                drained.append(call.waiting_bytes)
                if len(drained) == 1:
                    call.send(b"more")

            call.on_drained = on_drained
            call.send(b"12345")
            assert (call.waiting_bytes, drained) == (0, [])
            call.send(b"1234567890")
            call.send(b"")
            assert call.waiting_bytes == 20
            await client.say(window_update(1, 19))
            await heard_so_far(client)
            assert (call.waiting_bytes, drained) == (1, [])
            await client.say(window_update(1, 1 + 4))
            await heard_so_far(client)
            assert (call.waiting_bytes, drained) == (5, [0])
            await client.say(window_update(1, 100))
            await heard_so_far(client)
            assert (call.waiting_bytes, drained) == (0, [0, 0])
            call.finish()
            assert status_of(await client.hear_answer(1), 1) == ("0", "")

    run(main())


def test_trailers_wait_for_the_data_before_them() -> None:
    async def main() -> None:
        async with stand() as server, server.client(TINY) as client:
            await client.say(opening(1, "/t/Chat"))
            await server.until(lambda: len(server.methods.calls) == 1)
            [call] = server.methods.calls
            call.send(b"1234567890")
            call.finish(5, "over")
            call.send(b"nothing more")
            assert not call.is_open
            found = await heard_so_far(client)
            assert [one for one in found if one.kind == HEADERS and one.flags & END_STREAM] == []
            await client.say(window_update(1, 5))
            found += await client.hear_answer(1)
            assert (body_of(found, 1), status_of(found, 1)) == (message(b"1234567890"), ("5", "over"))

    run(main())


def test_a_stream_that_is_given_up_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with stand() as server, server.client(TINY) as client:
            await client.say(asking(1, "/t/Big", b"100000") + asking(3, "/t/Big", b"100000"))
            await heard_so_far(client)
            [connection] = server.listener.connections
            assert connection.waiting_bytes == 2 * (100_005 - 10)
            await client.say(frames.rst_stream(1, frames.CANCEL) + window_update(0, 1000))
            await heard_so_far(client)
            assert connection.waiting_bytes == 100_005 - 10
            await client.say(frames.rst_stream(3, frames.CANCEL))
            await heard_so_far(client)
            assert (connection.waiting_bytes, connection.streams) == (0, {})

    run(main())


def test_a_whole_answer_that_is_not_taken_is_given_up() -> None:
    async def main() -> None:
        async with stand(Limits(tick_s=0.01, stall_timeout_s=0.05)) as server, server.client(TINY) as client:
            await client.say(asking(1, "/t/Big", b"100"))
            found = await client.hear_answer(1)
            assert code_of(found, RST_STREAM) == ENHANCE_YOUR_CALM
            await client.say(asking(3, "/t/Echo", b"small"))
            await client.hear_answer(3)

    run(main())


def test_more_answers_than_may_wait_end_the_connection() -> None:
    async def main() -> None:
        async with stand(Limits(waiting_bytes_max=100_000)) as server:
            async with server.client(TINY) as client:
                await client.say(b"".join(asking(1 + 2 * number, "/t/Big", b"20000") for number in range(6)))
                assert code_of(await client.hear_all()) == ENHANCE_YOUR_CALM
            await server.serves()

    run(main())


def test_a_client_that_takes_nothing_is_not_heard_until_it_does() -> None:
    async def main() -> None:
        async with stand(Limits(deaf_bytes=100_000)) as server:
            wide = frames.PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 30}) + window_update(0, 1 << 30)
            async with server.client(wide, receive_buffer=4096) as client:
                await heard_so_far(client)
                [connection] = server.listener.connections
                count = 0
                while connection.waiting_bytes < 100_000:
                    await client.say(asking(1 + 2 * count, "/t/Big", b"500000"))
                    count += 1
                    while connection.last_stream < 2 * count - 1:
                        await asyncio.sleep(0.001)
                await client.say(asking(1 + 2 * count, "/t/Echo", b"the last"))
                assert connection.last_stream == 2 * count - 1
                found = await client.hear_answer(*range(1, 2 * count + 2, 2))
                assert body_of(found, 2 * count + 1) == message(b"the last")
                assert sizes(found)[1] == 500_005
                assert connection.waiting_bytes == 0

    run(main())


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 16_384, 65_535, 1_000_000])
def test_answers_of_any_size_come_whole(size: int) -> None:
    async def main() -> None:
        async with stand() as server:
            wide = frames.PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 30}) + window_update(0, 1 << 30)
            async with server.client(wide) as client:
                await client.say(asking(1, "/t/Big", b"%d" % size))
                found = await client.hear_answer(1)
                assert body_of(found, 1) == message(bytes(size))
                assert max(len(one.payload) for one in found) <= 16_384

    run(main())


def test_a_long_stream_of_requests_is_given_its_windows_back() -> None:
    async def main() -> None:
        limits = Limits(stream_window_bytes=100_000, connection_window_bytes=100_000)
        async with stand(limits) as server, server.client(WIDE) as client:
            await client.say(opening(1, "/t/Chat"))
            rooms = {0: 100_000, 1: 100_000}
            for _ in range(100):
                while min(rooms.values()) < 10_005:
                    for one in await client.hear(lambda found: any(one.kind == WINDOW_UPDATE for one in found)):
                        if one.kind == WINDOW_UPDATE:
                            rooms[one.stream] += int.from_bytes(one.payload, "big")
                await client.say(frame(DATA, 0, 1, message(bytes(10_000))))
                rooms = {stream: room - 10_005 for stream, room in rooms.items()}
            await server.until(lambda: len(server.methods.bodies) == 100)

    run(main())


def test_a_smaller_header_table_is_confirmed_once() -> None:
    async def main() -> None:
        async with stand() as server, server.client(frames.PREFACE + frames.settings({1: 0})) as client:
            await client.hear(lambda found: Frame(SETTINGS, ACK, 0, b"") in found)
            await client.say(asking(1, "/t/Echo", b"a") + asking(3, "/t/Echo", b"b"))
            found = await client.hear_answer(1, 3)
            blocks = [one.payload for one in found if one.kind == HEADERS]
            assert [block[:1] == b"\x20" for block in blocks] == [True, False, False, False]
            assert status_of(found, 1) == status_of(found, 3) == ("0", "")

    run(main())
