"""The sender: from messages with their attachments to parts that can be written at once. Knows no socket.

The idea: small messages are joined, and leave together in one write. Large attachments are never joined: they are parts
of their own, written from where they lie. Each batch holds all small messages that wait and about one piece of what is
large, taken round robin, so that a message that is sent now waits for at most the batch that is on its way.

The rule: nothing is taken that the peer could not take: a message or attachment over the limits is the caller's error,
and leaves no trace. What is begun keeps to the bounds in frames.py; the rest waits its turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from onerack.config import MIB, RpcConfig
from onerack.errors import UsageError
from onerack.rpc.link import Buffer
from onerack.rpc.transports.frames import (
    BEGIN,
    BEGIN_FRAME,
    BEGINNING,
    KIND_SHIFT,
    LARGE_BYTES,
    PIECE,
    TOGETHER_BYTES_MAX,
    TRANSFERS_MAX,
    TWO_WORDS,
    WHOLE,
    WORD,
    encode,
)

_BATCH_BYTES: Final = MIB
_NUMBERS: Final = 1 << 32
_WORD_BYTES: Final = WORD.size
_pack_word: Final = WORD.pack
LARGE_WAITING_MAX: Final = 4096
"""Large attachments that may wait. They lie in their owners' memory, so only their number is bounded here."""


class _Large:
    """A large attachment on its way: in one frame, or as a transfer in pieces."""

    __slots__ = ("attachment", "begin", "number", "sent")

    def __init__(self, begin: bytes, attachment: memoryview, number: int) -> None:
        self.begin = begin
        """The frame that comes before the attachment or its first piece."""
        self.attachment = attachment
        self.number = number
        """Of the transfer; -1 when the attachment is in one frame with its message."""
        self.sent = 0

    def next_parts(self, piece_bytes_max: int) -> tuple[bytes, memoryview]:
        """What is to be written next."""
        if self.number < 0:
            self.sent = len(self.attachment)
            return self.begin, self.attachment
        piece = self.attachment[self.sent : self.sent + piece_bytes_max]
        begin = self.begin if self.sent == 0 else b""
        self.sent += len(piece)
        return begin + TWO_WORDS.pack(PIECE << KIND_SHIFT | WORD.size + len(piece), self.number), piece

    @property
    def is_sent(self) -> bool:
        return self.sent == len(self.attachment)


class Sender:
    """The sending half of one connection."""

    __slots__ = (
        "_append", "_config", "_head_bytes_max", "_large", "_number", "_small", "_transfers", "_transfers_bytes",
        "_waiting", "large_bytes", "small_bytes",
    )  # fmt: skip

    def __init__(self, config: RpcConfig) -> None:
        self._config = config
        self._head_bytes_max = config.head_bytes_max
        self._small: list[Buffer] = []
        self._append = self._small.append
        self.small_bytes = 0
        """What waits, large attachments apart."""
        self.large_bytes = 0
        """What waits of large attachments."""
        self._large: deque[_Large] = deque()
        self._waiting: deque[_Large] = deque()
        """Transfers that may not begin yet."""
        self._transfers = 0
        self._transfers_bytes = 0
        """What is begun and not finished."""
        self._number = 0

    @property
    def has_output(self) -> bool:
        return bool(self._small or self._large)

    @property
    def large_waiting(self) -> int:
        return len(self._large) + len(self._waiting)

    def drop(self) -> None:
        """Forgets everything that waits."""
        self._small.clear()
        self._large.clear()
        self._waiting.clear()
        self.small_bytes = self.large_bytes = 0

    def add(self, message: Any, attachment: Buffer | None) -> None:
        """Raises: UsageError: the message or its attachment is too large, or has no bytes in one piece."""
        head = encode(message)
        size = len(head)
        if size > self._head_bytes_max:
            raise UsageError(
                f"a {type(message).__name__} of {size} bytes; at most {self._head_bytes_max} are allowed. "
                "Send large contents as an attachment or as a stream"
            )
        if attachment is None:
            append = self._append
            append(_pack_word(size))
            append(head)
            self.small_bytes += size + _WORD_BYTES
        else:
            self._add_with_attachment(head, flat(attachment))

    def add_all(self, messages: Sequence[Any]) -> None:
        """As `add` for each, without attachments. Raises: UsageError."""
        append, size_max = self._append, self._head_bytes_max
        added = 0
        try:
            for message in messages:
                head = encode(message)
                size = len(head)
                if size > size_max:
                    self.add(message, None)  # Says what is wrong.
                append(_pack_word(size))
                append(head)
                added += size + _WORD_BYTES
        finally:
            self.small_bytes += added

    def _add_with_attachment(self, head: bytes, attachment: memoryview) -> None:
        size = len(attachment)
        if size > self._config.attachment_bytes_max:
            raise UsageError(
                f"an attachment of {size} bytes; at most {self._config.attachment_bytes_max} are allowed. "
                "Send more as a stream"
            )
        if size > self._config.piece_bytes_max:
            number = self._number = (self._number + 1) % _NUMBERS
            self.large_bytes += size
            word = BEGIN << KIND_SHIFT | BEGINNING.size + len(head)
            self._waiting.append(_Large(BEGIN_FRAME.pack(word, number, size) + head, attachment, number))
            self._begin_transfers()
            return
        begin = TWO_WORDS.pack(WHOLE << KIND_SHIFT | WORD.size + len(head) + size, len(head)) + head
        if size < LARGE_BYTES:
            self._small += (begin, attachment)
            self.small_bytes += len(begin) + size
        else:
            self.large_bytes += size
            self._large.append(_Large(begin, attachment, -1))

    def _begin_transfers(self) -> None:
        while self._waiting:
            size = len(self._waiting[0].attachment)
            if self._transfers and (
                self._transfers == TRANSFERS_MAX or self._transfers_bytes + size > TOGETHER_BYTES_MAX
            ):
                return
            self._transfers += 1
            self._transfers_bytes += size
            self._large.append(self._waiting.popleft())

    def batch(self) -> list[Buffer]:
        """What to write next, all of it, in this order; empty when nothing waits."""
        parts: list[Buffer] = []
        if self._small:
            parts.append(b"".join(self._small))
            self._small.clear()
            self.small_bytes = 0
        room = _BATCH_BYTES
        while self._large and room > 0:
            large = self._large.popleft()
            begin, piece = large.next_parts(self._config.piece_bytes_max)
            parts += (begin, piece)
            room -= len(piece)
            self.large_bytes -= len(piece)
            if not large.is_sent:
                self._large.append(large)
            elif large.number >= 0:
                self._transfers -= 1
                self._transfers_bytes -= len(large.attachment)
                self._begin_transfers()
        return parts


def flat(attachment: Buffer) -> memoryview:
    """Its bytes, without a copy. Raises: UsageError: they do not lie in one piece."""
    view = memoryview(attachment)
    if not view.nbytes:
        return memoryview(b"")
    if not view.c_contiguous:
        raise UsageError("the attachment is a view with gaps in it; copy it first, e.g. by bytes(...)")
    return view.cast("B")
