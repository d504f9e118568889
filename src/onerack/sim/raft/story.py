"""The story of one schedule, for people: what arrived where, what nodes became, what fate did.

The rule: told in the order in which it happened, one line each, the same lines for the same seed in any process.
"""

from __future__ import annotations

from typing import Any

import msgspec

from onerack.raft.messages import Append, Entry, Kind, Propose
from onerack.runtime.seam import Event, Tick
from onerack.sim.raft.machine import Command
from onerack.sim.raft.options import Options
from onerack.sim.raft.requests import Reply, Request, SnapshotPiece

_COMMAND = msgspec.msgpack.Decoder(Command)


class Story:
    def __init__(self, options: Options, *, ticks: bool = False) -> None:
        self._lines = [f"{name} = {getattr(options, name)}" for name in options.__struct_fields__]
        self._ticks = ticks

    def __str__(self) -> str:
        return "\n".join(self._lines)

    def message(self, at: float, sender: str, to: str, message: Any) -> None:
        if isinstance(message, Tick) and not self._ticks:
            return
        arrow = f"{sender} -> {to}" if sender != to else f"{to}"
        self._lines.append(f"{at:9.4f} {arrow}: {describe(message)}")

    def event(self, at: float, who: str, event: Event) -> None:
        self._lines.append(f"{at:9.4f} {who} ** {event}")

    def fate(self, at: float, who: str, words: str) -> None:
        self._lines.append(f"{at:9.4f} FATE {who} {words}".rstrip())


def describe(message: Any) -> str:
    """A message in a few words, entries as index/term."""
    match message:
        case Append():
            entries = " ".join(map(describe_entry, message.entries)) or "nothing"
            behind = f"{message.prev_index}/{message.prev_term}"
            return f"Append term={message.term} behind {behind}: {entries}; commit={message.commit}"
        case Propose(number, payload):
            return f"Propose number={number} {_command(payload)}"
        case Request():
            what = f"{message.kind} {message.key} {_or_nothing(message.argument)}".rstrip()
            return f"Request {message.session}#{message.number} attempt={message.attempt} {what}"
        case Reply():
            what = f"{message.status} {_or_nothing(message.result)} {message.leader}".rstrip()
            return f"Reply {message.session}#{message.number} {what}"
        case SnapshotPiece():
            return f"SnapshotPiece {message.stream} up to {message.mark.index}: {message.place + 1} of {message.of}"
        case _:
            fields = " ".join(f"{name}={getattr(message, name)}" for name in message.__struct_fields__)
            return f"{type(message).__name__} {fields}".rstrip()


def describe_entry(entry: Entry) -> str:
    what = _command(entry.payload) if entry.kind == Kind.COMMANDS else Kind(entry.kind).name.lower()
    return f"[{entry.index}/{entry.term} {what}]"


def _command(payload: bytes) -> str:
    if not payload:
        return "without payload"
    command = _COMMAND.decode(payload)
    return f"{command.session}#{command.number} {command.kind} {command.key} {_or_nothing(command.argument)}".rstrip()


def _or_nothing(argument: Any) -> str:
    return "" if argument is None else str(argument)
