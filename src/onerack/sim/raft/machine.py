"""The state machine that the simulated cluster replicates: registers, lists, and client sessions.

The idea: small enough to be obviously right, and with what a real one needs: a request that comes twice takes effect
once, because the machine remembers, per session, the last request and its answer, and the snapshot holds that, too.

The rule: its state is a function of the commands that were applied, nothing else; `==` of two states is equality of
replicas.

Source: Ongaro's dissertation, 2014, section 6.3.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

_ENCODE = msgspec.msgpack.Encoder().encode


class Command(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a client wants changed. Kinds: write, cas ((expected, value)), append."""

    session: str
    number: int
    """1, 2, 3 ... of the session."""
    kind: str
    key: str
    argument: Any


class Image(msgspec.Struct, frozen=True, array_like=True):
    """All there is, as a snapshot holds it."""

    values: dict[str, Any]
    sessions: dict[str, tuple[int, Any]]


decode_command = msgspec.msgpack.Decoder(Command).decode
_DECODE_IMAGE = msgspec.msgpack.Decoder(Image).decode


def encode_image(image: Image) -> bytes:
    return _ENCODE(image)


OLD = "old"
"""The answer to a request after which its session has sent another one: nobody waits for it."""


def encode_command(command: Command) -> bytes:
    return _ENCODE(command)


class Replicated(Protocol):
    """What a simulated cluster can replicate."""

    def apply(self, payload: bytes) -> Any: ...
    def read(self, key: str, argument: Any = None) -> Any: ...
    def snapshot(self) -> bytes: ...
    def restore(self, snapshot: bytes) -> None: ...
    def image(self) -> Any: ...


class Machine:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.sessions: dict[str, tuple[int, Any]] = {}

    def restore(self, snapshot: bytes) -> None:
        image = _DECODE_IMAGE(snapshot)
        self.values, self.sessions = image.values, image.sessions

    def apply(self, payload: bytes) -> Any:
        """The answer to the command."""
        command = decode_command(payload)
        last, answer = self.sessions.get(command.session, (0, None))
        if command.number < last:
            return OLD
        if command.number > last:
            answer = self._execute(command)
            self.sessions[command.session] = (command.number, answer)
        return answer

    def _execute(self, command: Command) -> Any:
        key, argument = command.key, command.argument
        if command.kind == "write":
            self.values[key] = argument
            return None
        if command.kind == "append":
            self.values[key] = [*self.values.get(key, ()), argument]
            return None
        assert command.kind == "cas", command.kind
        expected, value = argument
        if self.values.get(key) != expected:
            return False
        self.values[key] = value
        return True

    def read(self, key: str, argument: Any = None) -> Any:
        return tuple(self.values.get(key, ())) if key.startswith("l") else self.values.get(key)

    def snapshot(self) -> bytes:
        """The same bytes for the same state, in whichever order it came about."""
        return encode_image(Image(dict(sorted(self.values.items())), dict(sorted(self.sessions.items()))))

    def image(self) -> Any:
        """What must be equal where all is equal."""
        return self.snapshot()
