"""The story of one schedule, for people: what arrived where, and what fate did.

The rule: told in the order in which it happened, one line each, the same lines for the same seed in any process.
"""

from __future__ import annotations

from typing import Any

from onerack.rpc.core.client import Abandon, Answered, Invoke, Linked
from onerack.rpc.core.commands import decode_command
from onerack.rpc.core.runs import Attached, Committed, Dropped, Executed
from onerack.rpc.messages import (
    Cancel,
    CloseSession,
    KeepSession,
    Mode,
    OpenSession,
    Request,
    Response,
    SessionOpened,
    SessionState,
    Status,
)
from onerack.sim.rpc.options import Options
from onerack.sim.rpc.service import METHODS, decode_arguments


class Story:
    def __init__(self, options: Options) -> None:
        self._lines = [f"{name} = {getattr(options, name)}" for name in options.__struct_fields__]

    def __str__(self) -> str:
        return "\n".join(self._lines)

    def message(self, at: float, sender: str, to: str, message: Any) -> None:
        self._lines.append(f"{at:9.4f} {sender} -> {to}: {describe(message)}")

    def fate(self, at: float, who: str, words: str) -> None:
        self._lines.append(f"{at:9.4f} FATE {who} {words}".rstrip())


def describe(message: Any) -> str:
    """A message in a few words. Sessions are long random numbers; their last digits tell them apart."""
    match message:
        case Invoke():
            what = f"call={message.call} {_call(message.method, message.mode, message.arguments)}"
            if message.deadline_at is not None:
                what += f" until={message.deadline_at:.4f}"
        case Request():
            what = _request(message)
        case Attached(request):
            what = f"{_request(request)} attached"
        case Response():
            what = f"call={message.call} session={_short(message.session)} {Status(message.status).name}"
        case Answered(response):
            return describe(response) + " attached"
        case Executed(execution, reply):
            what = f"ticket={execution.ticket} {_request(execution.request)} {Status(reply.status).name}"
        case OpenSession(call, durable):
            what = f"call={_short(call)} durable={durable}"
        case SessionOpened(call, session):
            what = f"call={_short(call)} session={_short(session)}"
        case KeepSession(session, ack):
            what = f"session={_short(session)} ack={ack}"
        case CloseSession(session):
            what = f"session={_short(session)}"
        case SessionState(session, alive):
            what = f"session={_short(session)} alive={alive}"
        case Committed(index, command):
            what = f"index={index} {_command(command)}"
        case Dropped(command, definite):
            what = f"definite={definite} {_command(command)}"
        case Abandon(call) | Cancel(call):
            what = f"call={call}"
        case Linked():
            what = f"{message.link} epoch={_short(message.epoch)} reliable={message.reliable}"
        case _:
            what = ""
    return f"{type(message).__name__} {what}".rstrip()


def _request(request: Request) -> str:
    what = f"call={request.call} {_call(request.method, request.mode, request.arguments)}"
    return f"{what} session={_short(request.session)} seq={request.seq} ack={request.ack}"


def _call(method: int, mode: int, arguments: bytes) -> str:
    """`#17 charge AT_MOST_ONCE`: the logical call first."""
    return f"#{decode_arguments(arguments).call} {METHODS[method].name.partition('.')[2]} {Mode(mode).name}"


def _command(content: bytes) -> str:
    command = decode_command(content)
    fields = {name: getattr(command, name) for name in command.__struct_fields__ if name not in ("arguments", "json")}
    fields["at"] = round(fields["at"], 4)
    if "session" in fields:
        fields["session"] = _short(fields["session"])
    return " ".join([type(command).__name__, *(f"{name}={value}" for name, value in fields.items())])


def _short(number: int) -> int:
    return number % 10_000
