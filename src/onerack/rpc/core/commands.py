"""Commands: what the log of exactly-once calls holds. Each is applied on every replica, in the order of the log.

The idea: the log holds the calls, not their effects. A command is applied once it is durable; applying it runs the
handler, which depends on nothing but its arguments and the state, so that replaying the log gives the same state and
the same replies. The completion record and the effect are one entry, and cannot be torn apart.

The rule: everything that decides about a call is in the log, also who lives: leases are measured in log time, which the
commands carry and which stands still while nobody serves.

Source: Lee et al., RIFL, SOSP 2015, section 3; Ongaro's dissertation, section 6.3.
"""

from __future__ import annotations

import msgspec


class Invoke(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """Run a call, unless its session has seen it. The log may hold it twice: the second finds the first."""

    at: float
    """Log time, seconds."""
    session: int
    """0: no session; run as often as it stands in the log (an exactly-once method, called at least once)."""
    seq: int
    """Without a session: a random number, by which the server that proposed the command knows it again."""
    ack: int
    method: str
    """By name: numbers change with the interface, and logs are kept."""
    arguments: bytes
    json: bool = False


class Open(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A session. Its number is made of the token and of the command's place in the log, so it never comes again."""

    at: float
    token: int
    """Drawn at random, so that nobody can guess the number of another's session."""


class Keep(msgspec.Struct, frozen=True, array_like=True, tag=2):
    at: float
    session: int
    ack: int


class Close(msgspec.Struct, frozen=True, array_like=True, tag=3):
    at: float
    session: int


class Advance(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Nothing but that time has passed, so that silent sessions expire."""

    at: float


Command = Invoke | Open | Keep | Close | Advance

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)


def encode_command(command: Command) -> bytes:
    return _ENCODER.encode(command)


def decode_command(content: bytes) -> Command:
    """Raises: msgspec.DecodeError: the log holds what no version of ours wrote."""
    return _DECODER.decode(content)
