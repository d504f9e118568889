"""The tiny HTTP door: what visitors may say, and what they get."""

from __future__ import annotations

import asyncio
import ssl
import urllib.request
from pathlib import Path

import pytest

from onerack.cluster import http
from onerack.cluster.http import HttpDoor
from onerack.errors import UsageError
from tests.rpc.certificates import Authority


async def page() -> tuple[int, str, bytes]:
    return 200, "text/plain", b"hello\n"


async def said(door: HttpDoor, request: bytes) -> bytes:
    host, _, port = door.address.partition("://")[2].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    if writer.can_write_eof():
        writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    ("request_bytes", "first", "last"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK", b"hello\n"),
        (b"GET /?a=b HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK", b"hello\n"),
        (b"HEAD / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK", b"\r\n\r\n"),
        (b"POST / HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed", b"there is only GET\n"),
        (b"GET /x HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 Not Found", b"there is /\n"),
        (b"PRI * HTTP/2.0\r\n\r\n", b"HTTP/1.1 400 Bad Request", b"this is no HTTP request\n"),
        (b"\xff\xfe\r\n\r\n", b"HTTP/1.1 400 Bad Request", b"this is no HTTP request\n"),
        (b"GET / HT", b"HTTP/1.1 400 Bad Request", b"this is no HTTP request\n"),
        (b"", b"HTTP/1.1 400 Bad Request", b"this is no HTTP request\n"),
    ],
)
def test_every_visitor_gets_an_answer(request_bytes: bytes, first: bytes, last: bytes) -> None:
    async def test() -> None:
        door = HttpDoor("tcp://127.0.0.1:0", {"/": page})
        await door.start()
        answer = await said(door, request_bytes)
        assert answer.startswith(first + b"\r\n")
        assert answer.endswith(last)
        await door.close()
        await door.close()

    asyncio.run(test())


def test_a_head_without_end_and_a_crowd_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "VISITORS_MAX", 1)

    async def test() -> None:
        door = HttpDoor("tcp://127.0.0.1:0", {"/": page})
        await door.start()
        host, _, port = door.address.partition("://")[2].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nA: " + b"x" * 3 * http.HEAD_BYTES_MAX)
        assert (await reader.readline()) == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
        writer.close()
        waiting = await asyncio.open_connection(host, int(port))
        assert (await said(door, b"")).startswith(b"HTTP/1.1 503")
        await door.close()  # whoever waits is sent away
        assert await waiting[0].read() == b""
        waiting[1].close()

    asyncio.run(test())


def test_a_silent_visitor_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_PATIENCE_S", 0.05)

    async def test() -> None:
        door = HttpDoor("tcp://127.0.0.1:0", {"/": page})
        await door.start()
        host, _, port = door.address.partition("://")[2].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        assert await reader.read() == b""
        writer.close()
        await door.close()

    asyncio.run(test())


def test_an_address_that_is_none_or_taken_is_named() -> None:
    async def test() -> None:
        for address, named in (
            ("unix:///run/x", "only"), ("tls://127.0.0.1:0", "certificate"), ("tcp://0.0.0.0:0", "insecure"),
        ):  # fmt: skip
            with pytest.raises(UsageError, match=named):
                HttpDoor(address, {})
        first = HttpDoor("tcp://127.0.0.1:0", {})
        await first.start()
        taken = first.address.replace("http", "tcp")
        with pytest.raises(UsageError, match=taken):
            await HttpDoor(taken, {}).start()
        await first.close()

    asyncio.run(test())


def test_other_machines_may_read_it_by_tls_or_where_that_was_said(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    node, monitor = authority.issue("node", addresses=["127.0.0.1"]), authority.issue("monitor")

    def fetched(url: str, context: ssl.SSLContext) -> bytes:
        with urllib.request.urlopen(url, timeout=10, context=context) as response:
            content: bytes = response.read()
            return content

    async def test() -> None:
        door = HttpDoor("tcp://0.0.0.0:0", {"/": page}, insecure=True)
        await door.start()
        await door.close()
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_verify_locations(authority.path)
        server.load_cert_chain(node)
        door = HttpDoor("tls://127.0.0.1:0", {"/": page}, tls=server)
        await door.start()
        assert door.address.startswith("https://127.0.0.1:")
        client = ssl.create_default_context(cafile=str(authority.path))
        client.load_cert_chain(monitor)
        assert await asyncio.to_thread(fetched, door.address + "/", client) == b"hello\n"
        await door.close()

    asyncio.run(test())
