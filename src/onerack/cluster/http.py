"""A tiny HTTP/1.1 door: GET of a few pages, one for each connection.

The idea: monitors and people with a browser or curl want to look, and nothing else; for that no web server is needed.
The rule: nothing that comes is kept but one head of bounded size, for a bounded time, of a bounded number of visitors;
and nothing can be changed by it.

Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from onerack.errors import UsageError
from onerack.rpc.transports.address import Address, host_and_port

HEAD_BYTES_MAX: Final = 8192
VISITORS_MAX: Final = 64
_PATIENCE_S: Final = 5.0

Page = Callable[[], Awaitable[tuple[int, str, bytes]]]
"""Gives (status, content type, body)."""


class HttpDoor:
    """Open with `start`, end with `close`."""

    def __init__(
        self, address: str, pages: Mapping[str, Page], *, tls: ssl.SSLContext | None = None, insecure: bool = False
    ) -> None:
        """`address`: tcp://host:port, or tls://host:port, which needs `tls`; port 0: any. `insecure`: plain TCP also
        where others can listen. Raises: UsageError: it is none, or not allowed.
        """
        self._wanted = wanted = Address.parse(address)
        if wanted.scheme not in ("tcp", "tls"):
            raise UsageError(f"{address}: pages are served at tcp://host:port or tls://host:port only")
        if wanted.scheme == "tls" and tls is None:
            raise UsageError(f"{address}: TLS needs a certificate, and its authority")
        if wanted.scheme == "tcp" and not wanted.is_loopback and not insecure:
            raise UsageError(
                f"{address}: pages that other machines can read need tls://, or insecure=True (`--insecure`)"
            )
        self._tls = tls if wanted.scheme == "tls" else None
        self._pages = dict(pages)
        self._server: asyncio.Server | None = None
        self._visitors: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises: UsageError: the address cannot be listened at."""
        host, port = self._wanted.host, self._wanted.port
        try:
            self._server = await asyncio.start_server(self._visit, host, port, limit=HEAD_BYTES_MAX, ssl=self._tls)
        except OSError as error:
            raise UsageError(f"{self._wanted}: cannot listen there: {error.strerror or error}") from error

    @property
    def address(self) -> str:
        """As `http://host:port` or `https://`; a port that was asked for as 0 is filled in."""
        port = self._server.sockets[0].getsockname()[1] if self._server is not None else self._wanted.port
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{host_and_port(self._wanted.host, port)}"

    async def close(self) -> None:
        """May be called again."""
        server, self._server = self._server, None
        if server is None:
            return
        self._wanted = msgspec.structs.replace(self._wanted, port=server.sockets[0].getsockname()[1])
        server.close()
        for visitor in self._visitors:
            visitor.cancel()
        await asyncio.gather(*self._visitors, return_exceptions=True)

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._visitors.add(task)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                writer.write(await self._answer(reader))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # Nobody waits for an answer any more, or the node ends.
        finally:
            self._visitors.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        if len(self._visitors) > VISITORS_MAX:
            return _response(503, "text/plain", b"too many visitors\n")
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _response(431, "text/plain", b"the head is too long\n")
        except asyncio.IncompleteReadError:
            return _response(400, "text/plain", b"this is no HTTP request\n")
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response(400, "text/plain", b"this is no HTTP request\n")
        if words[0] not in (b"GET", b"HEAD"):
            return _response(405, "text/plain", b"there is only GET\n")
        page = self._pages.get(words[1].partition(b"?")[0].decode("latin-1"))
        if page is None:
            return _response(404, "text/plain", f"there is {', '.join(sorted(self._pages))}\n".encode())
        status, kind, body = await page()
        return _response(status, kind, body, bare=words[0] == b"HEAD")


def _response(status: int, kind: str, body: bytes, *, bare: bool = False) -> bytes:
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (b"" if bare else body)
