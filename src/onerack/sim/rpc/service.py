"""The service: what simulated handlers do, and how a call is known by its reply.

The idea: arguments name the logical call; the reply names it again, with how many times it had been run by then. So a
reply that belongs to another call, or to another run of the same call, is told from the right one. Exactly-once methods
change `state`, which lives and dies with the server's process and is made again from snapshot and log.

The rule: what a handler gives depends on nothing but its arguments and how often it has run.
"""

from __future__ import annotations

from typing import Final

import msgspec

from onerack.rpc.core.replies import fault_reply
from onerack.rpc.core.runs import MethodFacts
from onerack.rpc.core.sessions import Reply
from onerack.rpc.messages import Buffer, Mode, Status
from onerack.sim.rpc.options import LONG_REPLY_BYTES

METHODS: Final = (
    MethodFacts("Service.read", Mode.READONLY, inline=True),
    MethodFacts("Service.read_slowly", Mode.READONLY, inline=False),
    MethodFacts("Service.set", Mode.AT_LEAST_ONCE, inline=True),
    MethodFacts("Service.set_slowly", Mode.AT_LEAST_ONCE, inline=False),
    MethodFacts("Service.charge", Mode.AT_MOST_ONCE, inline=True),
    MethodFacts("Service.charge_slowly", Mode.AT_MOST_ONCE, inline=False),
    MethodFacts("Service.transfer", Mode.EXACTLY_ONCE, inline=True),
)


class Arguments(msgspec.Struct, frozen=True, array_like=True):
    call: int
    """The logical call's number, unique in the world."""
    raises: bool
    long: bool
    attached: bool
    padding: bytes = b""


class Result(msgspec.Struct, frozen=True, array_like=True):
    call: int
    run: int
    """How many times the call had been run when this was its result, this time included."""
    padding: bytes = b""


_ENCODE = msgspec.msgpack.Encoder().encode
_ARGUMENTS = msgspec.msgpack.Decoder(Arguments)
_RESULT = msgspec.msgpack.Decoder(Result)


def encode_arguments(arguments: Arguments) -> bytes:
    return _ENCODE(arguments)


def decode_arguments(content: bytes) -> Arguments:
    return _ARGUMENTS.decode(content)


def decode_result(content: bytes) -> Result:
    return _RESULT.decode(content)


def attachment_of(call: int) -> bytes:
    return b"attachment of %d" % call


def answer(arguments: Arguments, run: int, attachment: Buffer | None) -> Reply:
    """What the handler gives on its `run`th run."""
    if arguments.raises:
        return fault_reply(Status.FAILED, "error", f"{arguments.call}/{run}")
    padding = bytes(LONG_REPLY_BYTES) if arguments.long else b""
    return Reply(Status.OK, _ENCODE(Result(arguments.call, run, padding)), attachment)


class State:
    """What exactly-once calls have made of a server's process."""

    def __init__(self) -> None:
        self.runs: dict[int, int] = {}
        """Call -> how often it has been run."""

    def run(self, call: int) -> int:
        times = self.runs[call] = self.runs.get(call, 0) + 1
        return times

    def pack(self) -> bytes:
        return _ENCODE(self.runs)

    def unpack(self, content: bytes) -> None:
        self.runs = msgspec.msgpack.decode(content, type=dict[int, int])
