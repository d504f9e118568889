"""What clients and hosts of the simulated cluster say to each other, beside the protocol: requests, and snapshots."""

from __future__ import annotations

from typing import Any

import msgspec

from onerack.raft.messages import SnapshotMark


class Request(msgspec.Struct, frozen=True):
    """A client's wish. The same `session` and `number` in every attempt of one operation."""

    client: str
    session: str
    number: int
    attempt: int
    kind: str
    key: str
    argument: Any = None


class Reply(msgspec.Struct, frozen=True):
    """`status`: done, or refused: it was not done by this attempt, and never will be; `leader` may know more."""

    session: str
    number: int
    attempt: int
    status: str
    result: Any = None
    leader: str = ""


class SnapshotPiece(msgspec.Struct, frozen=True):
    """A part of a snapshot on its way from the leader of `term`."""

    stream: str
    term: int
    mark: SnapshotMark
    place: int
    of: int
    content: bytes


class SnapshotDone(msgspec.Struct, frozen=True):
    """The receiver has it, durable and restored."""

    stream: str
    done: bool
