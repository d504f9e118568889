"""Tests with the client that most Python programs use: whatever it does with a server works with ours.

The idea: hand-made frames show that we do what we think is right; this shows that somebody else thinks so, too.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from onerack.config import KvConfig
from onerack.kv.server.grpc import serve
from onerack.kv.server.http2.limits import Limits
from tests.kv.server.http2.raw import QUICK, Methods, Stand, stand
from tests.rpc.certificates import Authority
from tests.rpc.links import LOOPS, run

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc.aio")

# grpcio leaves its own poller's sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@asynccontextmanager
async def channel_to(server: Stand, *options: tuple[str, Any]) -> AsyncIterator[Any]:
    wide = ("grpc.max_receive_message_length", -1)
    async with grpc.aio.insecure_channel(server.address, options=[wide, *options]) as channel:
        yield channel


async def failure_of(call: Any) -> tuple[str, str]:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details()
    raise AssertionError("it has not failed")


@pytest.mark.parametrize("loop", LOOPS)
def test_unary_calls_of_all_sizes(loop: str) -> None:
    async def main() -> None:
        async with stand() as server, channel_to(server) as channel:
            echo = channel.unary_unary("/t/Echo")
            for size in (0, 1, 100, 16_000, 16_384, 100_000, 2_000_000):
                assert await echo(bytes(size)) == bytes(size)
            # Together they are more than the windows of either side.
            answers = await asyncio.gather(*(echo(b"%d" % number * 100_000) for number in range(40)))
            assert [answer[:2] for answer in answers] == [(b"%d" % number * 2)[:2] for number in range(40)]

    run(main(), loop)


def test_many_calls_at_once() -> None:
    async def main() -> None:
        async with stand() as server, channel_to(server) as channel:
            echo = channel.unary_unary("/t/Echo")
            assert await asyncio.gather(*(echo(b"%d" % number) for number in range(500))) == [
                b"%d" % number for number in range(500)
            ]

    run(main())


def test_metadata_and_deadlines() -> None:
    async def main() -> None:
        async with stand() as server, channel_to(server) as channel:
            later = channel.unary_unary("/t/Later")(
                b"body", metadata=[("token", "secret"), ("x-bin", b"\0\xff"), ("a", "1"), ("a", "2")], timeout=60
            )
            asked = asyncio.ensure_future(later)
            await server.until(lambda: len(server.methods.calls) == 1)
            [call] = server.methods.calls
            assert (call.token, call.metadata["a"], call.binary_metadata["x-bin"]) == ("secret", "1,2", b"\0\xff")
            assert call.deadline_at is not None
            assert 50 < call.deadline_at - asyncio.get_running_loop().time() <= 60
            call.reply(b"done")
            assert await asked == b"done"
            # The timeout differs from call to call, and each goes into the header table.
            for number in range(100):
                assert await channel.unary_unary("/t/Echo")(b"x", timeout=10 + number / 7) == b"x"

    run(main())


def test_failures_arrive_with_code_and_text() -> None:
    async def main() -> None:
        async with stand() as server, channel_to(server) as channel:
            text = "etcdserver: näh, 100 %"
            assert await failure_of(channel.unary_unary("/t/Fail")(text.encode())) == ("FAILED_PRECONDITION", text)
            assert await failure_of(channel.unary_unary("/t/No")(b"")) == (
                "UNIMPLEMENTED",
                "unknown method No for service t",
            )
            code, words = await failure_of(channel.unary_unary("/t/Echo")(bytes(3_000_000)))
            assert code == "RESOURCE_EXHAUSTED"
            assert re.fullmatch(r"grpc: received message larger than max \(3000000 vs\. \d+\)", words)
            assert (await failure_of(channel.unary_unary("/t/Later")(b"", timeout=0.05)))[0] == "DEADLINE_EXCEEDED"
            await server.until(lambda: server.methods.ended == ["cancelled"])

    run(main())


def test_compression_is_refused() -> None:
    async def main() -> None:
        async with stand() as server, channel_to(server) as channel:
            echo = channel.unary_unary("/t/Echo")
            assert await echo(bytes(10_000), compression=grpc.Compression.NoCompression) == bytes(10_000)
            code, words = await failure_of(echo(bytes(10_000), compression=grpc.Compression.Gzip))
            assert (code, words) == (
                "UNIMPLEMENTED",
                'grpc: Decompressor is not installed for grpc-encoding "gzip"',
            )

    run(main())


def test_streams_both_ways() -> None:
    async def main() -> None:
        async with stand() as server, channel_to(server) as channel:
            bodies = [b"a", b"", bytes(300_000), b"c" * 1_000_000]
            chat = channel.stream_stream("/t/Chat")(iter(bodies))
            assert [body async for body in chat] == bodies
            assert await chat.code() == grpc.StatusCode.OK
            chat = channel.stream_stream("/t/Chat")()
            for number in range(20):
                await chat.write(b"%d" % number)
                assert await chat.read() == b"%d" % number
            await chat.write(b"end")
            assert await chat.read() is grpc.aio.EOF
            assert await chat.code() == grpc.StatusCode.OK

    run(main())


def test_a_stream_that_is_cancelled_hears_it() -> None:
    async def main() -> None:
        async with stand() as server, channel_to(server) as channel:
            chat = channel.stream_stream("/t/Chat")()
            await chat.write(b"x")
            await chat.read()
            chat.cancel()
            await server.until(lambda: server.methods.ended == ["cancelled"])
            assert await channel.unary_unary("/t/Echo")(b"on") == b"on"

    run(main())


def test_a_reader_who_is_slow_gets_everything() -> None:
    async def main() -> None:
        async with stand() as server, channel_to(server, ("grpc.http2.bdp_probe", 0)) as channel:
            watch = channel.stream_stream("/t/Chat")()
            await watch.write(b"go")
            await watch.read()
            [call] = server.methods.calls
            sent = 0
            while call.waiting_bytes < 1_000_000:
                call.send(sent.to_bytes(4, "big") * 25_000)
                sent += 1
                await asyncio.sleep(0)
            drained = asyncio.Event()
            call.on_drained = drained.set
            for number in range(sent):
                assert (await watch.read())[:4] == number.to_bytes(4, "big")
            await drained.wait()
            call.finish()
            assert await watch.read() is grpc.aio.EOF

    run(main())


def test_keepalive_pings_are_answered() -> None:
    async def main() -> None:
        options = [("grpc.keepalive_time_ms", 10), ("grpc.keepalive_timeout_ms", 10_000)]
        async with stand() as server, channel_to(server, *options, ("grpc.http2.max_pings_without_data", 0)) as channel:
            asked = asyncio.ensure_future(channel.unary_unary("/t/Later")(b""))
            await server.until(lambda: len(server.methods.calls) == 1)
            before = asyncio.get_running_loop().time()
            await server.until(lambda: asyncio.get_running_loop().time() > before + 0.1)
            server.methods.calls[0].reply(b"done")
            assert await asked == b"done"

    run(main())


def test_a_server_that_closes_is_left_without_an_error() -> None:
    async def main() -> None:
        async with stand(Limits(tick_s=0.02)) as server, channel_to(server) as channel:
            asked = asyncio.ensure_future(channel.unary_unary("/t/Later")(b""))
            await server.until(lambda: len(server.methods.calls) == 1)
            closing = asyncio.get_running_loop().create_task(server.listener.close(20))
            await server.until(lambda: all(one.is_draining for one in server.listener.connections))
            server.methods.calls[0].reply(b"done")
            assert await asked == b"done"
            await closing
            assert (await failure_of(channel.unary_unary("/t/Echo")(b"", timeout=5)))[0] == "UNAVAILABLE"

    run(main())


def test_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server_file = authority.issue("server", hosts=["localhost"], addresses=["127.0.0.1"])
    client_file = authority.issue("client", uris=["spiffe://rack/client"])

    async def main() -> None:
        methods = Methods()
        listener = await serve(
            methods.handlers(), "tls://127.0.0.1:0", tls=authority.server(server_file), config=KvConfig(), limits=QUICK
        )
        pem = client_file.read_bytes()
        credentials = grpc.ssl_channel_credentials(authority.path.read_bytes(), pem, pem)
        async with grpc.aio.secure_channel(listener.address[6:], credentials) as channel:
            assert await channel.unary_unary("/t/Echo")(bytes(1_000_000)) == bytes(1_000_000)
            asked = asyncio.ensure_future(channel.unary_unary("/t/Later")(b""))
            while not methods.calls:
                await asyncio.sleep(0.001)
            assert methods.calls[0].peer.identity == "spiffe://rack/client"
            methods.calls[0].reply(b"done")
            assert await asked == b"done"
        strange = grpc.ssl_channel_credentials(authority.path.read_bytes())
        async with grpc.aio.secure_channel(listener.address[6:], strange) as channel:
            assert (await failure_of(channel.unary_unary("/t/Echo")(b"", timeout=10)))[0] == "UNAVAILABLE"
        await listener.close()

    run(main())
