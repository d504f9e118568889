"""Machines: what is mounted on a node, and how far it has come.

The idea: entries are taken apart here, and each command goes to the machine of its mount. Whoever proposed a command on
this node waits by its tag, and is told there and then what the machine has said.

The rules: a machine sees the commands in the order of the log, each once. Whoever is told, is told before the entry
counts as applied, so that nobody who reads afterwards sees less.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onerack.errors import NotExecuted
from onerack.raft.commands import commands_of
from onerack.raft.machine import StateMachine
from onerack.raft.messages import Entry, Kind, SnapshotMark

Done = Callable[[Any], None]


class Machines:
    """Of one node."""

    def __init__(self, machines: Mapping[int, StateMachine]) -> None:
        self.by_mount = dict(machines)
        self.applied = 0
        """The last index that the machines have seen."""
        self.applied_term = 0
        self.bytes_since_snapshot = 0

    def apply(self, entry: Entry, waiting: dict[int, Done]) -> None:
        """`waiting`: by tag; whoever is told is taken out.

        Requires: the payload is of commands; else this node was told a lie, and it halts.
        """
        if entry.kind == Kind.COMMANDS:
            self._apply_commands(entry.payload, waiting)
            self.bytes_since_snapshot += len(entry.payload)
        self.applied, self.applied_term = entry.index, entry.term

    def _apply_commands(self, payload: bytes, waiting: dict[int, Done]) -> None:
        by_mount = self.by_mount
        for mount, tag, body in commands_of(payload):
            machine, wanted = by_mount.get(mount), tag in waiting
            if machine is not None:
                result = machine.apply(body, wanted)
            else:
                result = NotExecuted(f"nothing is mounted at {mount}", cause="no_machine")
            if wanted:  # Only now: if the machine fails, they still wait to hear of it.
                waiting.pop(tag)(result)

    def restored(self, mark: SnapshotMark) -> None:
        """They are what the snapshot of this mark says."""
        self.applied, self.applied_term = mark.index, mark.term
        self.bytes_since_snapshot = 0
