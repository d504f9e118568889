"""The budget: memory that half-arrived attachments may hold, over all connections of a server.

The idea: bytes are counted when they arrive, not when they are announced, so that a peer who announces much and sends
little takes room from nobody. When the room is used up, connections with something unfinished are not read any more:
the kernel's buffers fill, and an honest sender waits. One of them, the one whose turn it is, may always go on: it will
finish what it has begun and make room, so that all of them cannot wait for each other for ever.

The rule: the one that may go on adds at most what one connection may have unfinished at once (one attachment of the
greatest length, or several that come to TOGETHER_BYTES_MAX). The others stop so much earlier, so that the sum stays
within `unfinished_bytes_max`, but for the one read of each connection that was on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from onerack.config import RpcConfig
from onerack.rpc.transports.blocks import Blocks
from onerack.rpc.transports.frames import TOGETHER_BYTES_MAX


class Budget:
    """Shared by the connections of one server or client; for one event loop."""

    def __init__(self, config: RpcConfig) -> None:
        most_of_one = max(config.attachment_bytes_max, TOGETHER_BYTES_MAX)
        self._others_stop_at = max(0, config.unfinished_bytes_max - most_of_one)
        self.used_bytes = 0
        self.blocks = Blocks()
        self._held: dict[Hashable, int] = {}
        """Bytes by holder, in the order in which it is their turn."""
        self._resting: set[Hashable] = set()
        self._waiting: dict[Hashable, Callable[[], None]] = {}

    def take(self, holder: Hashable, size: int) -> None:
        """`holder` has taken in `size` bytes of something unfinished."""
        self._held[holder] = self._held.get(holder, 0) + size
        self.used_bytes += size

    def give_back(self, holder: Hashable, size: int) -> None:
        """Something of `holder` is finished. If it has more, its turn comes after the others'."""
        self.used_bytes -= size
        rest = self._held.pop(holder) - size
        if rest > 0:
            self._held[holder] = rest
        self._wake()

    def leave(self, holder: Hashable) -> None:
        """`holder` has ended, and holds nothing any more."""
        self.used_bytes -= self._held.pop(holder, 0)
        self._waiting.pop(holder, None)
        self._resting.discard(holder)
        self._wake()

    def rest(self, holder: Hashable, is_resting: bool) -> None:
        """One that does not read, because its owner does not want it to, does not hold up the others meanwhile."""
        if is_resting:
            self._resting.add(holder)
            self._wake()
        else:
            self._resting.discard(holder)

    def has_room_for(self, holder: Hashable) -> bool:
        """Whether `holder` may read more."""
        if self.used_bytes <= self._others_stop_at or holder not in self._held:
            return True
        return holder == next((each for each in self._held if each not in self._resting), None)

    def wait(self, holder: Hashable, call: Callable[[], None]) -> None:
        """`call` will be called, once, when there may be room for `holder`."""
        self._waiting[holder] = call

    def _wake(self) -> None:
        if self._waiting:
            for holder in [holder for holder in self._waiting if self.has_room_for(holder)]:
                self._waiting.pop(holder)()
