"""Many commands at once leave in several entries, the next gathering while one is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from onerack.raft.server import RaftNode
from onerack.raft.server.proposals import BATCH, Proposals

MOUNT = 40


class Batches:
    """Notes what was applied."""

    def __init__(self) -> None:
        self.applied: list[bytes] = []

    def apply(self, command: bytes, wanted: bool) -> bytes:
        self.applied.append(command)
        return command

    def snapshot(self) -> Iterator[bytes]:
        yield b"".join(self.applied)

    def restore(self, pieces: Iterator[bytes]) -> None:
        self.applied = [b"".join(pieces)]


def add(proposals: Proposals, count: int) -> bool:
    """Whether they are a batch now."""
    for _ in range(count):
        proposals.add(MOUNT, b"x", lambda _result: None, 0.0)
    return proposals.is_batch


def test_a_batch_is_many_and_at_least_as_many_as_are_awaited() -> None:
    proposals = Proposals(Random(1), 5.0)
    assert not add(proposals, BATCH - 1)
    assert add(proposals, 1)
    proposals.take(1 << 20)
    assert not add(proposals, BATCH - 1)
    assert add(proposals, 1), "as many as are on their way"
    proposals.take(1 << 20)
    assert not add(proposals, BATCH), "more are on their way"


def entries_for(directory: Path, *, eager: bool) -> tuple[int, list[Any], list[bytes]]:
    """How many entries 128 commands of one moment become; what their callers heard; what the machine saw."""

    async def main() -> tuple[int, list[Any], list[bytes]]:
        machine = Batches()
        members = {"n1": "tcp://127.0.0.1:0"}
        async with RaftNode("n1", directory, members=members, machines={MOUNT: machine}) as node:
            await node.execute(MOUNT, b"first")
            before = node.status().last_index
            heard: list[Any] = []
            for number in range(128):
                node.propose(MOUNT, b"%d" % number, heard.append, eager=eager)
            await node.execute(MOUNT, b"last")
            return node.status().last_index - before, heard, machine.applied

    return asyncio.run(main())


def test_eager_commands_of_one_moment_leave_in_several_entries_and_stay_in_order(tmp_path: Path) -> None:
    entries, heard, applied = entries_for(tmp_path, eager=True)
    assert entries > 1
    assert heard == [b"%d" % number for number in range(128)]
    assert applied == [b"first", *heard, b"last"]


def test_others_wait_for_the_turn_and_are_one_entry(tmp_path: Path) -> None:
    entries, heard, applied = entries_for(tmp_path, eager=False)
    assert entries == 1
    assert applied == [b"first", *heard, b"last"]
