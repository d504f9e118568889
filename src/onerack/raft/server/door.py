"""The door: what a node does when another one calls.

The idea: `deliver` only steps; the turn that follows answers. `forward`, `install` and `manage` are procedures, which
wait.

The rule: whoever calls is a node of this cluster (the greeting saw to that), and still nothing that it says is taken
without being checked: names, sizes, numbers, the form of commands and of pieces. The core checks what is protocol; what
could break a node before the core sees it, or what no disk record can hold, ends here.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable
from typing import Final, Protocol

import msgspec

from onerack import rpc
from onerack.errors import Corruption, ProtocolError, UsageError
from onerack.raft.commands import tags_of
from onerack.raft.messages import NUMBER_MAX, PeerMessage, SnapshotMark
from onerack.raft.server.members import Member
from onerack.raft.server.peers import Forwarded, decode_messages
from onerack.runtime.seam import NodeId

NAME_BYTES_MAX: Final = 1024
"""Of a node's name. A longer one could not be voted for: the log has no room for it."""
log = logging.getLogger(__name__)


class House(Protocol):
    """The node behind the door."""

    name: NodeId

    def receive(self, sender: NodeId, messages: list[PeerMessage]) -> None: ...

    def take(self, payload: bytes) -> Awaitable[Forwarded]: ...

    async def install(self, sender: NodeId, term: int, mark: SnapshotMark, pieces: AsyncIterator[bytes]) -> None: ...

    async def manage_here(self, order: str, node: NodeId) -> None: ...

    def known_members(self) -> list[Member]: ...


class Door:
    """Implements RaftPeer."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._complained: set[tuple[str, str]] = set()

    def deliver(self, sender: str, to: str, messages: rpc.Attachment) -> None:
        try:
            self._require_sender(sender, to)
            decoded = _decoded(messages)
        except (UsageError, ProtocolError) as error:
            self._complain(sender, error)
            raise
        self._house.receive(sender, decoded)

    def forward(self, commands: rpc.Attachment) -> Awaitable[Forwarded]:
        payload = bytes(commands)
        try:
            tags_of(payload)
        except Corruption as error:
            raise ProtocolError(f"these are no commands: {error}") from error
        return self._house.take(payload)

    async def install(
        self, sender: str, term: int, mark: SnapshotMark, pieces: AsyncIterator[bytes]
    ) -> AsyncIterator[int]:
        self._require_sender(sender, self._house.name)
        if not 0 < term < NUMBER_MAX or not 0 < mark.term <= term or not 0 < mark.index < NUMBER_MAX:
            raise ProtocolError(f"{sender} of term {term} sent a snapshot of index {mark.index}, term {mark.term}")
        await self._house.install(sender, term, mark, pieces)
        yield mark.index

    async def manage(self, order: str, node: str) -> None:
        await self._house.manage_here(order, node)

    def book(self) -> list[Member]:
        return self._house.known_members()

    def _require_sender(self, sender: str, to: str) -> None:
        own = self._house.name
        if to != own:
            raise UsageError(f"this is {own!r}, and {sender[:99]!r} wanted {to[:99]!r}: somebody has a wrong address")
        if not sender or sender == own or len(sender.encode()) > NAME_BYTES_MAX:
            raise ProtocolError(f"{sender[:99]!r} is nobody from whom {own!r} could hear")

    def _complain(self, sender: str, error: Exception) -> None:
        """Once for each kind of nonsense: nobody answers a message, so nobody else would hear of it."""
        kind = (sender[:99], type(error).__name__)
        if kind not in self._complained and len(self._complained) < 100:
            self._complained.add(kind)
            log.warning("%s refuses what it was sent: %s", self._house.name, error)


def _decoded(messages: rpc.Attachment) -> list[PeerMessage]:
    try:
        return decode_messages(messages)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProtocolError(f"these are no messages of raft: {error}") from error
