"""What tests of the gRPC server share: a server with a few methods, and a client that makes its frames by hand.

The idea: a client library would not let us say what must not be said, nor show every frame that comes back.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from hpack import Decoder

from onerack.config import KvConfig
from onerack.kv.server.grpc import Call, Listener, Stream, Unary, serve
from onerack.kv.server.http2 import frames
from onerack.kv.server.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEAD,
    HEADERS,
    PREFACE,
    RST_STREAM,
    frame,
)
from onerack.kv.server.http2.headers import literal
from onerack.kv.server.http2.limits import Limits

HELLO = PREFACE + frames.settings({})
POST = b"\x83\x86"
"""`:method POST`, `:scheme http`."""


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


def block(path: str, *fields: tuple[bytes, bytes]) -> bytes:
    """A request's header block, which changes no table."""
    head = POST + literal(b":path", path.encode()) + literal(b"content-type", b"application/grpc")
    return head + b"".join(literal(name, value) for name, value in fields)


def opening(stream: int, path: str, *fields: tuple[bytes, bytes]) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, block(path, *fields))


def message(body: bytes, flag: int = 0) -> bytes:
    return bytes((flag,)) + len(body).to_bytes(4, "big") + body


def asking(stream: int, path: str, body: bytes, *fields: tuple[bytes, bytes]) -> bytes:
    """A whole unary call."""
    return opening(stream, path, *fields) + frame(DATA, END_STREAM, stream, message(body))


def frames_in(content: bytes) -> list[Frame]:
    found: list[Frame] = []
    position = 0
    while position < len(content):
        word, flags, stream = HEAD.unpack_from(content, position)
        stop = position + 9 + (word >> 8)
        assert stop <= len(content), "the last frame is not whole"
        found.append(Frame(word & 0xFF, flags, stream, content[position + 9 : stop]))
        position = stop
    return found


def fields_of(blocks: bytes) -> dict[str, str]:
    return {bytes(name).decode(): bytes(value).decode() for name, value in Decoder().decode(blocks, raw=True)}


def body_of(found: list[Frame], stream: int) -> bytes:
    """All DATA of a stream."""
    return b"".join(one.payload for one in found if one.kind == DATA and one.stream == stream)


def status_of(found: list[Frame], stream: int) -> tuple[str, str]:
    """What the trailers say, in their percent encoding."""
    last = [one for one in found if one.kind == HEADERS and one.stream == stream and one.flags & END_STREAM]
    assert len(last) == 1, found
    fields = fields_of(last[0].payload)
    return fields.get("grpc-status", "none"), fields.get("grpc-message", "")


def code_of(found: list[Frame], kind: int = GOAWAY) -> int:
    """Of the GOAWAY or RST_STREAM there."""
    [one] = [one for one in found if one.kind == kind]
    return int.from_bytes(one.payload[4:8] if kind == GOAWAY else one.payload, "big")


class Methods:
    """The server's methods, and what became of calls."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.bodies: list[bytes] = []
        self.ended: list[str] = []
        """What streams heard last."""

    def handlers(self) -> dict[str, Unary | Stream]:
        return {
            "/t/Echo": Unary(lambda call, body: call.reply(body)),
            "/t/Later": Unary(self.later),
            "/t/Big": Unary(
                lambda call, body: call.reply(bytes(min(1_000_000, int(b"0" + body)) if body.isdigit() else 0))
            ),
            "/t/Fail": Unary(lambda call, body: call.fail(9, body.decode(errors="replace"))),
            "/t/Raise": Unary(self.fall),
            "/t/Twice": Unary(self.twice),
            "/t/Chat": Stream(lambda call: Chat(self, call)),
            "/t/Deaf": Stream(self.refuse),
        }

    def later(self, call: Call, body: bytes) -> None:
        call.on_cancelled = lambda: self.ended.append("cancelled")
        self.calls.append(call)
        self.bodies.append(body)

    def fall(self, call: Call, body: bytes) -> None:
        raise ZeroDivisionError("planted")

    def twice(self, call: Call, body: bytes) -> None:
        call.reply(body)
        call.reply(b"again")
        call.fail(2, "and again")

    def refuse(self, call: Call) -> Chat:
        call.fail(7, "nobody may")
        return Chat(self, call)


class Chat:
    """Echoes each message; "end" ends it, "raise" raises."""

    def __init__(self, methods: Methods, call: Call) -> None:
        self.call = call
        self._methods = methods
        methods.calls.append(call)

    def message(self, body: bytes) -> None:
        self._methods.bodies.append(body)
        if body == b"raise":
            raise ZeroDivisionError("planted")
        if body == b"end":
            self.call.finish()
        else:
            self.call.send(body)

    def half_closed(self) -> None:
        self._methods.ended.append("half closed")
        self.call.finish()

    def cancelled(self) -> None:
        assert not self.call.is_open
        self._methods.ended.append("cancelled")


class RawClient:
    """A socket at the server."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._loop = asyncio.get_running_loop()
        self._rest = b""

    async def say(self, content: bytes) -> None:
        await self._loop.sock_sendall(self.socket, content)

    async def hear(self, until: Callable[[list[Frame]], bool]) -> list[Frame]:
        """Frames from the server, up to the read with which they are what is awaited."""
        found: list[Frame] = []
        while not until(found):
            heard = await self._loop.sock_recv(self.socket, 1 << 18)
            assert heard, f"the server has closed the connection after {found}"
            self._rest += heard
            found += self._whole()
        return found

    async def hear_answer(self, *streams: int) -> list[Frame]:
        """Until these are answered or reset."""

        def is_over(found: list[Frame]) -> bool:
            over = {one.stream for one in found if one.kind == RST_STREAM or one.flags & END_STREAM}
            return over.issuperset(streams)

        return await self.hear(is_over)

    async def hear_all(self) -> list[Frame]:
        """Until the server says that it is done."""
        content = await self.hear_bytes()
        return frames_in(content)

    async def hear_bytes(self) -> bytes:
        content = self._rest
        try:
            while heard := await self._loop.sock_recv(self.socket, 1 << 18):
                content += heard
        except ConnectionResetError:
            pass  # We had said more than it wanted to read.
        self.socket.close()
        return content

    def _whole(self) -> list[Frame]:
        size = 0
        while len(self._rest) - size >= 9:
            stop = size + 9 + int.from_bytes(self._rest[size : size + 3], "big")
            if stop > len(self._rest):
                break
            size = stop
        whole, self._rest = self._rest[:size], self._rest[size:]
        return frames_in(whole)


class Stand:
    """A server and its methods."""

    def __init__(self, listener: Listener, methods: Methods) -> None:
        self.listener = listener
        self.methods = methods
        self.address = listener.address.partition("://")[2]

    @asynccontextmanager
    async def client(self, hello: bytes = HELLO, receive_buffer: int = 0) -> AsyncIterator[RawClient]:
        host, _, port = self.address.rpartition(":")
        with socket.socket() as connected:
            connected.setblocking(False)
            if receive_buffer:
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await asyncio.get_running_loop().sock_connect(connected, (host, int(port)))
            client = RawClient(connected)
            await client.say(hello)
            yield client

    async def serves(self) -> None:
        """An honest client is answered."""
        async with self.client() as honest:
            await honest.say(asking(1, "/t/Echo", b"honest"))
            found = await honest.hear_answer(1)
            assert body_of(found, 1) == message(b"honest")
            assert status_of(found, 1) == ("0", "")

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def stand(limits: Limits | None = None, config: KvConfig | None = None) -> AsyncIterator[Stand]:
    methods = Methods()
    config = config or KvConfig()
    listener = await serve(methods.handlers(), "tcp://127.0.0.1:0", config=config, limits=limits or QUICK)
    try:
        yield Stand(listener, methods)
    finally:
        await listener.close()


QUICK = Limits(tick_s=0.02, linger_s=0.2)
