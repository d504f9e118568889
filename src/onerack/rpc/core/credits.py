"""Credits: how a stream's reader holds back its writer, so that memory stays flat when the reader stops.

The idea: the reader grants bytes; the writer may send while it has credit, and the reader grants again what it has
taken, in portions of half a window. The rule: what lies unread is at most the window and one item; a peer that sends
more breaks the contract.

Source: as HTTP/2's flow control (RFC 9113, section 5.2), in bytes of encoded items.
"""

from __future__ import annotations

from onerack.errors import ProtocolError

ITEM_BYTES = 32
"""What an item counts besides its bytes, so that empty ones are not free."""


class Outbound:
    """The writer's side."""

    __slots__ = ("credit",)

    def __init__(self, window_bytes: int) -> None:
        self.credit = window_bytes

    @property
    def may_send(self) -> bool:
        return self.credit > 0

    def sent(self, item: bytes) -> None:
        """Requires: `may_send`. One item may overdraw, else one larger than the window could never pass."""
        self.credit -= len(item) + ITEM_BYTES

    def granted(self, count: int) -> None:
        """Raises: ProtocolError: a credit that is none."""
        if not 0 < count < 1 << 40:
            raise ProtocolError(f"a stream was granted {count} bytes")
        self.credit += count


class Inbound:
    """The reader's side."""

    __slots__ = ("_taken", "_window", "unread")

    def __init__(self, window_bytes: int) -> None:
        self._window = window_bytes
        self.unread = 0
        self._taken = 0

    def arrived(self, item: bytes) -> None:
        """Raises: ProtocolError: the writer had no credit for it."""
        if self.unread >= self._window:
            raise ProtocolError(f"a stream's writer sent more than the {self._window} bytes it had credit for")
        self.unread += len(item) + ITEM_BYTES

    def taken(self, item: bytes) -> int:
        """The reader has taken the item. Returns what is to be granted now: 0 mostly."""
        size = len(item) + ITEM_BYTES
        self.unread -= size
        self._taken += size
        if self._taken * 2 < self._window:
            return 0
        grant, self._taken = self._taken, 0
        return grant
