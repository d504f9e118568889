"""Wires: what moves bytes between a connection and the operating system. Here: a socket.

The idea: a wire knows nothing of frames. It asks the connection where to put what it reads and tells it how much that
was; it writes parts, and says when it can write no more for now.

It does not stand on an asyncio transport, because that one copies whatever the socket does not take at once, and goes
back to the event loop after each read. Here the kernel is given the message and its attachment in one `sendmsg`, what
is left over stays a view of the attachment, and the kernel is told how much of a large attachment must have come before
it is worth waking us: each wake-up costs both sides as much as copying a hundred KiB. What callbacks do belongs to
nobody's context (contextvars): not to that of the caller who happened to dial.

The rule: a wire calls `ended` exactly once, from the event loop and never from inside a call of the connection's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import sys
from collections.abc import Sequence
from contextvars import Context
from typing import Final, Protocol

from onerack.config import KIB, MIB
from onerack.rpc.link import Buffer

TURN_BYTES: Final = 2 * MIB
"""Read from one connection in a turn of the loop, before the others get theirs."""
_LAST_TURNS: Final = 8
_UNSENT_BYTES: Final = 256 * KIB
"""What may wait in the kernel without being on its way, for a small message cannot overtake it there."""


class Reader(Protocol):
    """The connection, as its wire sees it."""

    def space(self) -> memoryview:
        """Where to put what is read next."""

    def arrived(self, size: int) -> int:
        """So many bytes were put there. Returns how many more are worth a wake-up."""

    def writable(self) -> None:
        """More can be written, after `write` had said no."""

    def ended(self, error: Exception | None) -> None:
        """Nothing comes or goes any more. None: the peer has closed."""


class Wire(Protocol):
    hint: str
    """What may be wrong when the peer ends the connection before it has said anything."""

    def start(self, reader: Reader) -> None:
        """Begins to read."""

    def write(self, parts: Sequence[Buffer]) -> bool:
        """Takes all parts; they must not be changed afterwards. False: no more until `writable`.

        Requires: the call before said yes, or `writable` was called since.
        """

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def look(self) -> None:
        """Reads what is there, even if it is not worth a wake-up."""

    def finish(self) -> None:
        """Tells the peer that nothing more will come. Reading goes on until it says the same."""

    def abort(self) -> None:
        """Ends it now, whatever is on its way."""


class SocketWire:
    """A connected stream socket, which is ours from now on."""

    hint = ""

    def __init__(self, loop: asyncio.AbstractEventLoop, connected: socket.socket) -> None:
        connected.setblocking(False)
        with contextlib.suppress(OSError):  # Some systems refuse when the peer has gone already; reading will say so.
            if connected.family in (socket.AF_INET, socket.AF_INET6):
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if sys.platform == "linux":
                    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self._loop = loop
        self._socket = connected
        self._context = Context()
        self._reader: Reader | None = None
        self._is_reading = False
        self._worth = 1
        """So many bytes must have come before we are woken."""
        self._unsent: list[memoryview] = []
        self._error: OSError | None = None
        """Why nothing could be written."""
        self._is_over = False

    def start(self, reader: Reader) -> None:
        self._reader = reader
        self.resume_reading()

    def pause_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._socket)

    def resume_reading(self) -> None:
        if not self._is_reading and not self._is_over:
            self._is_reading = True
            self._context.run(self._loop.add_reader, self._socket, self._read)

    def _read(self) -> None:
        assert self._reader is not None
        room, worth = TURN_BYTES, self._worth
        while room > 0 and self._is_reading:
            space = self._reader.space()
            try:
                size = self._socket.recv_into(space)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._end(error)
                return
            if not size:
                self._end(None)
                return
            # A read that did not fill its space has emptied the socket.
            room = room - size if size == len(space) else 0
            worth = self._reader.arrived(size)
        if worth != self._worth:
            self._wake_for(worth)

    def look(self) -> None:
        self._wake_for(1)

    def _wake_for(self, worth: int) -> None:
        if worth != self._worth and not self._is_over:
            self._worth = worth
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, worth)

    def write(self, parts: Sequence[Buffer]) -> bool:
        if self._is_over:
            return False
        try:
            if len(parts) == 1:
                sent = self._socket.send(parts[0])
                if sent == len(parts[0]):
                    return True
            else:
                sent = self._socket.sendmsg(parts)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._loop.call_soon(self._end_after_last_words, error, context=self._context)
            return False
        self._unsent = _rest(parts, sent)
        if not self._unsent:
            return True
        self._context.run(self._loop.add_writer, self._socket, self._write_rest)
        return False

    def _write_rest(self) -> None:
        assert self._reader is not None
        if self._unsent:
            try:
                self._unsent = _rest(self._unsent, self._socket.sendmsg(self._unsent))
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._end_after_last_words(error)
                return
            if self._unsent:
                return
        if self._send_more():
            self._reader.writable()
        # Only now: mostly there is more to write, and the socket is full again.
        if not self._unsent and not self._is_over:
            self._loop.remove_writer(self._socket)

    def _send_more(self) -> bool:
        """For wires that write in steps: the next ones. False: the socket takes no more."""
        return True

    def finish(self) -> None:
        if not self._is_over:
            with contextlib.suppress(OSError):  # The peer is gone already, and reading will say so.
                self._socket.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        if not self._is_over:
            self._close()
            self._loop.call_soon(self._tell_end, None, context=self._context)

    def _end_after_last_words(self, error: OSError) -> None:
        """Nothing can be written any more; what the peer said before it went can still be read."""
        self._error = error
        for _ in range(_LAST_TURNS):
            if self._is_reading:
                self._read()
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        if not self._is_over:
            self._close()
            self._tell_end(error or self._error)

    def _tell_end(self, error: Exception | None) -> None:
        if self._reader is not None:
            self._reader.ended(error)

    def _close(self) -> None:
        self._is_over = True
        self._is_reading = False
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._unsent = []
        self._socket.close()


def _rest(parts: Sequence[Buffer], sent: int) -> list[memoryview]:
    """What is left of the parts when so many bytes of them were sent."""
    for position, part in enumerate(parts):
        if sent < len(part):
            return [memoryview(part)[sent:], *(memoryview(later) for later in parts[position + 1 :])]
        sent -= len(part)
    return []


_TLS_WORDS: Final = {
    "CERTIFICATE_REQUIRED": "the server wants a client certificate; load one: context.load_cert_chain(...)",
    "UNKNOWN_CA": "the peer does not trust the authority that signed our certificate",
    "BAD_CERTIFICATE": "the peer does not accept our certificate",
    "CERTIFICATE_EXPIRED": "our certificate has expired",
    "HANDSHAKE_FAILURE": "the peer finds no common way to speak TLS",
    "PROTOCOL_VERSION": "the peer does not speak TLS 1.3",
    "WRONG_VERSION_NUMBER": "the peer does not speak TLS (is the address there tcp:// and here tls://?)",
}


def words_of(error: BaseException | None) -> str:
    """Why a connection has ended, for people."""
    if error is None:
        return "the peer closed the connection"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the peer's certificate is not accepted: {error.verify_message or error}"
    if isinstance(error, ssl.SSLError):
        text = f"{error.reason or ''} {error}".upper().replace(" ", "_")
        return next((words for sign, words in _TLS_WORDS.items() if sign in text), f"TLS failed: {error}")
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "the peer reset the connection"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    if isinstance(error, socket.gaierror):
        return f"the host's name leads nowhere: {error.strerror}"
    return str(error) or type(error).__name__
