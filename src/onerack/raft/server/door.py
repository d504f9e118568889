"""The door: what a node does when another one calls.

The idea: `deliver` only steps; the turn that follows answers. `forward` and `install` are procedures, which wait.

The rule: whoever calls is a node of this cluster (the greeting saw to that), and still nothing that it says is taken
without being checked: names, sizes, the form of commands and of pieces.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Protocol

import msgspec

from onerack import rpc
from onerack.errors import Corruption, ProtocolError, UsageError
from onerack.raft.commands import tags_of
from onerack.raft.messages import PeerMessage, SnapshotMark
from onerack.raft.server.peers import Forwarded, decode_messages
from onerack.runtime.seam import NodeId


class House(Protocol):
    """The node behind the door."""

    name: NodeId

    def receive(self, sender: NodeId, messages: list[PeerMessage]) -> None: ...

    def take(self, payload: bytes) -> Awaitable[Forwarded]: ...

    async def install(self, sender: NodeId, term: int, mark: SnapshotMark, pieces: AsyncIterator[bytes]) -> None: ...

    async def manage(self, order: str, node: NodeId) -> None: ...


class Door:
    """Implements RaftPeer."""

    def __init__(self, house: House) -> None:
        self._house = house

    def deliver(self, sender: str, to: str, messages: rpc.Attachment) -> None:
        house = self._house
        if to != house.name:
            raise UsageError(f"this is {house.name!r}, not {to!r}: somebody has a wrong address")
        try:
            decoded = decode_messages(messages)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"{sender!r} sent what are no messages of raft: {error}") from error
        house.receive(sender, decoded)

    async def forward(self, commands: rpc.Attachment) -> Forwarded:
        payload = bytes(commands)
        try:
            tags_of(payload)
        except Corruption as error:
            raise ProtocolError(f"these are no commands: {error}") from error
        return await self._house.take(payload)

    async def install(
        self, sender: str, term: int, mark: SnapshotMark, pieces: AsyncIterator[bytes]
    ) -> AsyncIterator[int]:
        await self._house.install(sender, term, mark, pieces)
        yield mark.index

    async def manage(self, order: str, node: str) -> None:
        await self._house.manage(order, node)
