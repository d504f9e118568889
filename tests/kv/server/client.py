"""A client of etcd's API in a few lines, over hand-made frames: calls, streams, and a client that does not read.

The idea: tests need no client library, and may do what no library does: hold back, go away, say nonsense. It speaks to
us and to etcd alike.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

from hpack import Decoder

from onerack.kv import messages
from onerack.kv.messages import METHODS
from onerack.kv.server.http2 import frames
from onerack.kv.server.http2.frames import (
    ACK,
    DATA,
    END_STREAM,
    FRAME_BYTES_MAX,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
)
from tests.kv.server.http2.raw import message, opening

_WINDOW = 1 << 30
_PATHS = {path.rpartition("/")[2]: path for path in METHODS}


class StatusError(Exception):
    """How a call went that did not go well."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text


class ClientStream:
    """One call."""

    def __init__(self, client: Client, number: int, method: messages.Method) -> None:
        self._client = client
        self.number = number
        self._method = method
        self._buffer = b""
        self._arrived: asyncio.Queue[Any] = asyncio.Queue()

    def send(self, **fields: Any) -> None:
        body = self._method.request_class(**fields).SerializeToString()
        content = message(body)
        for begin in range(0, len(content), FRAME_BYTES_MAX):
            self._client.write(frame(DATA, 0, self.number, content[begin : begin + FRAME_BYTES_MAX]))

    def half_close(self) -> None:
        self._client.write(frame(DATA, END_STREAM, self.number, b""))

    def cancel(self) -> None:
        self._client.write(frames.rst_stream(self.number, frames.CANCEL))

    async def receive(self, timeout_s: float = 20.0) -> Any:
        """The next response. Raises: StatusError: there will be none; code 0: all went well."""
        arrived = await asyncio.wait_for(self._arrived.get(), timeout_s)
        if isinstance(arrived, StatusError):
            self._arrived.put_nowait(arrived)
            raise arrived
        return self._method.response_class.FromString(arrived)

    @property
    def has_news(self) -> bool:
        return not self._arrived.empty()

    def data(self, payload: bytes) -> None:
        self._buffer += payload
        while len(self._buffer) >= 5:
            (size,) = struct.unpack_from(">I", self._buffer, 1)
            if len(self._buffer) < 5 + size:
                return
            self._arrived.put_nowait(self._buffer[5 : 5 + size])
            self._buffer = self._buffer[5 + size :]

    def end(self, error: StatusError) -> None:
        self._arrived.put_nowait(error)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reads: bool = True) -> None:
        self._reader = reader
        self._writer = writer
        self._streams: dict[int, ClientStream] = {}
        self._number = -1
        self._decoder = Decoder()
        self._reads = asyncio.Event()
        if reads:
            self._reads.set()
        self.metadata: tuple[tuple[bytes, bytes], ...] = ()
        settings = frames.settings({4: _WINDOW})
        self.write(PREFACE + settings + frame(8, 0, 0, struct.pack(">I", _WINDOW)))
        self._task = asyncio.get_running_loop().create_task(self._read())

    def write(self, content: bytes) -> None:
        self._writer.write(content)

    def go_on_reading(self) -> None:
        self._reads.set()

    async def call(self, method: str, /, **fields: Any) -> Any:
        """A unary call by the method's name. Raises: StatusError."""
        stream = self.open(method)
        stream.send(**fields)
        stream.half_close()
        return await stream.receive()

    def open(self, name: str) -> ClientStream:
        """A call that goes on; names that two services have are given with the service."""
        method = METHODS[name if name in METHODS else _PATHS[name]]
        self._number += 2
        stream = self._streams[self._number] = ClientStream(self, self._number, method)
        self.write(opening(self._number, method.path, (b"te", b"trailers"), *self.metadata))
        return stream

    async def close(self) -> None:
        self._writer.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while True:
                await self._reads.wait()
                word, flags, number = frames.HEAD.unpack(await self._reader.readexactly(9))
                payload = await self._reader.readexactly(word >> 8)
                self._take(word & 0xFF, flags, number, payload)
        except (asyncio.IncompleteReadError, OSError):
            self._writer.close()
            for stream in self._streams.values():
                stream.end(StatusError(-1, "the connection is lost"))

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self.write(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self.write(frame(PING, ACK, 0, payload))
        elif number in self._streams:
            self._take_of(self._streams[number], kind, payload)

    def _take_of(self, stream: ClientStream, kind: int, payload: bytes) -> None:
        if kind == DATA:
            stream.data(payload)
        elif kind == RST_STREAM:
            stream.end(StatusError(-1, "reset"))
        elif kind == HEADERS:
            fields = {bytes(name): bytes(value) for name, value in self._decoder.decode(payload, raw=True)}
            if b"grpc-status" in fields:
                text = unquote(fields.get(b"grpc-message", b"").decode())
                stream.end(StatusError(int(fields[b"grpc-status"]), text))


@asynccontextmanager
async def connected(
    address: str, reads: bool = True, tls: ssl.SSLContext | None = None, **metadata: str
) -> AsyncIterator[Client]:
    """A client of `tcp://host:port`, or with `tls` of `tls://host:port`; `metadata` goes with every call."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    client = Client(*await asyncio.open_connection(host, int(port), ssl=tls), reads)
    client.metadata = tuple((name.encode(), value.encode()) for name, value in metadata.items())
    try:
        yield client
    finally:
        await client.close()


async def refused(call: Any) -> tuple[int, str]:
    """How it was refused. Raises: AssertionError: it was not."""
    try:
        answer = await call
    except StatusError as error:
        return error.code, error.text
    raise AssertionError(f"it was answered: {answer}")
