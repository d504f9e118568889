"""TLS on a socket: what is read is decrypted straight into its place, what is written is encrypted piece by piece.

The idea: the socket belongs to us, as in wire.py, and OpenSSL works between two buffers in memory. So the same code
runs in every event loop, an attachment is decrypted where it will lie, and no more than a piece of it is encrypted
before the socket has taken it. And when a handshake fails the peer is told why: a client without a certificate hears
that it needs one.

The rule: what was decrypted and not yet asked for waits in OpenSSL, not in the socket. So whoever stops reading before
all of it was given out looks again by itself, since the socket will not call.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from onerack.config import KIB
from onerack.rpc.link import Buffer
from onerack.rpc.transports.wire import TURN_BYTES, SocketWire

_ENCRYPTED_BYTES: Final = 128 * KIB
"""So much is encrypted at once: it stays in the processor's cache until the kernel has it."""
_RECORD_BYTES: Final = 32 * KIB
"""More than the longest record: so much of what a frame needs may be here already, not yet decrypted."""


class _Buffer(threading.local):
    """The thread's own, for what comes from a socket."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(128 * KIB))


_BUFFER: Final = _Buffer()


class TlsWire(SocketWire):
    """A connected stream socket, and TLS on it. Before `start` comes `shake_hands`."""

    # With TLS 1.3 a client thinks that it is connected before the server has looked at its certificate.
    hint = "; it may want a certificate of ours, or not accept the one it got"

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connected: socket.socket,
        context: ssl.SSLContext,
        server_hostname: str | None,
    ) -> None:
        super().__init__(loop, connected)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )
        self._plain: deque[memoryview] = deque()
        """What is to be encrypted."""
        self._socket_is_empty = False
        self._is_at_end = False
        self._failure: OSError | None = None
        """Why it is at its end; None: the peer has closed."""
        self._is_finished = False

    async def shake_hands(self) -> None:
        """Raises: ssl.SSLError: they do not trust or understand each other. ConnectionError: the peer has gone."""
        is_done = False
        while not is_done:
            try:
                self._tls.do_handshake()
                is_done = True
            except ssl.SSLWantReadError:
                pass
            finally:
                # Also when it has failed: then this says why.
                if self._outgoing.pending:
                    await self._loop.sock_sendall(self._socket, self._outgoing.read())
            if not is_done:
                received = await self._loop.sock_recv(self._socket, _ENCRYPTED_BYTES)
                if not received:
                    raise ConnectionResetError
                self._incoming.write(received)

    @property
    def certificate(self) -> dict[str, Any] | None:
        """The peer's, verified, as `SSLSocket.getpeercert` gives it."""
        return self._tls.getpeercert()

    # ------------------------------------------------------------------------------------------------ reading

    def resume_reading(self) -> None:
        super().resume_reading()
        self._read_soon()

    def _read_soon(self) -> None:
        self._loop.call_soon(self._read, context=self._context)

    def _read(self) -> None:
        assert self._reader is not None
        room, worth = TURN_BYTES, 1
        self._socket_is_empty = False
        while self._is_reading and not self._is_at_end:
            space = self._reader.space()
            size = self._discard() if self._is_finished else self._fill(space)
            if size:
                worth = self._reader.arrived(size)
            room -= size
            if size < len(space):
                break
            if room <= 0:
                self._read_soon()
                break
        if self._is_at_end and self._is_reading:
            self._say_why()
            self._end(self._failure)
        self._wake_for(max(1, worth - _RECORD_BYTES))
        if self._outgoing.pending:
            self._send_more()

    def _fill(self, space: memoryview) -> int:
        """Decrypts what has come, as far as it fits."""
        size = 0
        while size < len(space):
            try:
                taken = int(self._tls.read(len(space) - size, space[size:]))
            except ssl.SSLWantReadError:
                if not self._receive():
                    break
                continue
            except ssl.SSLZeroReturnError:
                taken = 0
            except ssl.SSLError as error:
                self._failure = error
                taken = 0
            if not taken:
                self._is_at_end = True
                break
            size += taken
        return size

    def _receive(self) -> bool:
        """Takes what the socket has. False: nothing for now, or for ever."""
        if self._socket_is_empty:
            return False
        try:
            size = self._socket.recv_into(_BUFFER.view)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._failure = error
            size = 0
        if not size:
            self._is_at_end = True
            return False
        self._socket_is_empty = size < len(_BUFFER.view)
        self._incoming.write(_BUFFER.view[:size])
        return True

    def _discard(self) -> int:
        """After our end nothing is decrypted any more; only the peer's end is waited for."""
        while self._receive():
            self._incoming.read()
        return 0

    # ------------------------------------------------------------------------------------------------ writing

    def write(self, parts: Sequence[Buffer]) -> bool:
        self._plain.extend(memoryview(part) for part in parts)
        return self._send_more()

    def _send_more(self) -> bool:
        while not self._unsent and not self._is_over:
            try:
                self._encrypt()
            except ssl.SSLError as error:
                self._loop.call_soon(self._end_after_last_words, error, context=self._context)
                return False
            if not self._outgoing.pending:
                return True
            super().write((self._outgoing.read(),))
        return False

    def _encrypt(self) -> None:
        while self._plain and self._outgoing.pending < _ENCRYPTED_BYTES:
            part = self._plain.popleft()
            written = self._tls.write(part[:_ENCRYPTED_BYTES])
            if written < len(part):
                self._plain.appendleft(part[written:])

    def _say_why(self) -> None:
        """The alert with which OpenSSL answers what it does not accept."""
        if self._outgoing.pending and not self._unsent:
            with contextlib.suppress(OSError):
                self._socket.send(self._outgoing.read())

    def finish(self) -> None:
        self._is_finished = True
        with contextlib.suppress(ssl.SSLError):  # It says that it waits for the peer's end, as we do.
            self._tls.unwrap()
        if self._send_more():
            super().finish()

    def _close(self) -> None:
        super()._close()
        self._plain.clear()
