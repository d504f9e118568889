"""The production store as the state machine of a simulated node, behind sessions, and with its watch hub.

The idea: what applies commands here is `KvMachine`, as in a server, and what watches read is `WatchHub`. Around them is
only what a schedule needs: a command that comes twice takes effect once, as the log of exactly-once calls has it.

The rule: a snapshot holds the sessions, too; and who restores one within a life keeps its hub, as a server does.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from onerack.config import KvConfig
from onerack.kv.core import KvError, KvMachine
from onerack.kv.core.watch import WatchHub
from onerack.kv.invariants import check_state, moment_of
from onerack.sim.kv.wishes import Item
from onerack.sim.raft.machine import OLD, decode_command

_ENCODE: Final = msgspec.msgpack.Encoder().encode
PIECE_BYTES: Final = 1 << 20


class _Image(msgspec.Struct, frozen=True, array_like=True):
    sessions: dict[str, tuple[int, Any]]
    pieces: list[bytes]


_DECODE_IMAGE: Final = msgspec.msgpack.Decoder(_Image).decode


class SimKvMachine:
    """One node's, in one life."""

    store_class = KvMachine
    hub_class = WatchHub

    def __init__(self) -> None:
        self.kv = self.store_class(KvConfig())
        self.hub = self.hub_class(self.kv)
        self.sessions: dict[str, tuple[int, Any]] = {}
        """Number and answer of the last request of each: bytes, or the text of a refusal."""

    def apply(self, payload: bytes) -> Any:
        """The encoded response, or the text of a refusal."""
        command = decode_command(payload)
        last, answer = self.sessions.get(command.session, (0, None))
        if command.number < last:
            return OLD
        if command.number > last:
            answer = _plain(self.kv.apply(command.argument, True))
            self.sessions[command.session] = (command.number, answer)
        return answer

    def read(self, key: str, argument: Any = None) -> Any:
        return _plain(self.kv.range("", argument))

    def snapshot(self) -> bytes:
        return bytes(_ENCODE(_Image(dict(sorted(self.sessions.items())), list(self.kv.snapshot()))))

    def restore(self, snapshot: bytes) -> None:
        image = _DECODE_IMAGE(snapshot)
        self.sessions = image.sessions
        self.kv.restore(iter(image.pieces))
        self.check()

    def image(self) -> Any:
        return (moment_of(self.kv), self.held(), sorted(self.sessions.items()))

    def held(self) -> dict[str, Item]:
        """What is there now."""
        return {
            version.key.decode(): Item(
                version.value.decode(), version.create, version.mod, version.version, version.lease
            )
            for version in self.kv.store.current.values()
            if version.version
        }

    def check(self) -> None:
        """The invariants of the store itself. Slow."""
        check_state(self.kv)


def _plain(result: bytes | KvError | None) -> bytes | str | None:
    return result.text if isinstance(result, KvError) else result
