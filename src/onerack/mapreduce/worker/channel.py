"""A channel: typed messages over a blocking socket, for the processes that have no event loop.

The idea: frames (codec.py) of msgpack (msgspec), decoded into one tagged union, so that bytes of any other shape are
refused before a line of the protocol sees them. File descriptors may ride along (SCM_RIGHTS), which is how the
nursery gets the sockets of its workers.

The rule: messages are sent whole, one at a time, whichever thread sends them; nothing is ever unpickled here.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from onerack.codec import FrameDecoder, encode_frame
from onerack.errors import ProtocolError

Received = TypeVar("Received")

_READ_BYTES = 256 * 1024
_DESCRIPTORS_MAX = 16


class Channel(Generic[Received]):
    """One end of a connection. `receives` is the union of messages that may come in."""

    def __init__(self, connection: socket.socket, receives: Any) -> None:
        self.connection = connection
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Received] = msgspec.msgpack.Decoder(receives)
        self._frames = FrameDecoder()
        self._messages: deque[Received] = deque()
        self._descriptors: deque[int] = deque()
        self._sending = threading.Lock()

    def send(self, message: msgspec.Struct, descriptors: Sequence[int] = ()) -> None:
        """Blocks until the peer's buffer has taken all of it. Raises OSError when the peer is gone."""
        frame = encode_frame(self._encoder.encode(message))
        with self._sending:
            sent = 0
            if descriptors:
                # The kernel may take a part of the frame; the descriptors then went with that part.
                sent = socket.send_fds(self.connection, [frame], list(descriptors))
            if sent < len(frame):
                self.connection.sendall(frame[sent:])

    def receive(self) -> Received | None:
        """The next message; None when the peer has closed. Blocks.

        Raises: ProtocolError: the peer sent what is no frame or no message of the union.
        """
        while not self._messages:
            if not self.read():
                return None
        return self._messages.popleft()

    def read(self, flags: int = 0) -> bool:
        """Takes in what has arrived, once; False at the end of the stream."""
        try:
            received, descriptors, _, _ = socket.recv_fds(self.connection, _READ_BYTES, _DESCRIPTORS_MAX, flags)
        except (ConnectionResetError, BrokenPipeError):
            return False
        self._descriptors.extend(descriptors)
        if not received:
            return False
        for payload in self._frames.feed(received):
            try:
                self._messages.append(self._decoder.decode(payload))
            except msgspec.DecodeError as error:
                raise ProtocolError(f"a message that is none of ours: {error}") from error
        return True

    def arrived(self) -> list[Received]:
        """The messages that `read` has completed so far."""
        messages = list(self._messages)
        self._messages.clear()
        return messages

    def take_descriptor(self) -> int:
        """The oldest descriptor that came with a message."""
        if not self._descriptors:
            raise ProtocolError("a message that must carry a file descriptor came without one")
        return self._descriptors.popleft()

    def close(self) -> None:
        self.connection.close()
