"""Members: raft's own state machine, the address book of the group.

The idea: the configuration in the log says who votes; where a node is and what else is to be known of it is ordinary
replicated state, mounted beside the others. So whoever joins learns it with the log, and a snapshot carries it.

The rule: an address is in the book before its node is in the configuration, and leaves it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from onerack.errors import NotExecuted
from onerack.runtime.seam import NodeId


class Member(msgspec.Struct, frozen=True):
    """What is known of a node."""

    name: NodeId
    address: str
    """Where other nodes reach it."""
    endpoints: tuple[str, ...] = ()
    """Where clients reach it, as it said itself."""
    witness: bool = False


class Write(msgspec.Struct, frozen=True, tag="write"):
    """This is so from now on."""

    member: Member


class Erase(msgspec.Struct, frozen=True, tag="erase"):
    """Nobody is called so any more."""

    name: NodeId


_COMMAND: Final = msgspec.msgpack.Decoder(Write | Erase)
_BOOK: Final = msgspec.msgpack.Decoder(list[Member])


class Members:
    """The book."""

    def __init__(self, first: Mapping[NodeId, str]) -> None:
        """`first`: whom this node was told of when it was started; the log knows better."""
        self._first = dict(first)
        self._members: dict[NodeId, Member] = {}

    def get(self, name: NodeId) -> Member | None:
        return self._members.get(name)

    def address_of(self, name: NodeId) -> str | None:
        member = self._members.get(name)
        return self._first.get(name) if member is None else member.address

    def learn(self, members: Iterable[Member]) -> None:
        """Of a node that applies nothing: what another one's book says. Else the log would be contradicted."""
        self._members = {member.name: member for member in members}

    def all(self) -> list[Member]:
        return [self._members[name] for name in sorted(self._members)]

    def apply(self, command: bytes, wanted: bool) -> NotExecuted | None:
        """Nonsense is refused, by every node alike: it must not halt them all."""
        try:
            order = _COMMAND.decode(command)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return NotExecuted(f"this is no order about a member: {error}", cause="invalid")
        match order:
            case Write(member):
                self._members[member.name] = member
            case Erase(name):
                self._members.pop(name, None)
        return None

    def snapshot(self) -> Iterator[bytes]:
        return iter([msgspec.msgpack.encode(self.all())])

    def restore(self, pieces: Iterator[bytes]) -> None:
        self._members = {member.name: member for member in _BOOK.decode(b"".join(pieces))}
