"""Replica: a user's own machine; what it raises is an answer, on every node alike."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest

from onerack.errors import ApplicationError
from onerack.raft import Replica
from tests.raft.server.group import CONFIG, run


class Account:
    def __init__(self) -> None:
        self.balance = 0

    def apply(self, command: bytes) -> int:
        amount = int(command)
        if self.balance + amount < 0:
            raise ValueError(f"only {self.balance} there")
        self.balance += amount
        return self.balance

    def snapshot(self) -> bytes:
        return b"%d" % self.balance

    def restore(self, snapshot: bytes) -> None:
        self.balance = int(snapshot)


def test_what_apply_raises_is_the_answer_and_halts_nobody(tmp_path: Path) -> None:
    async def story(sockets: str) -> None:
        members = {name: f"unix://{sockets}/{name}" for name in ("n1", "n2", "n3")}
        replicas: list[Replica[Any]] = [
            Replica(Account(), name, tmp_path / name, members=members, config=CONFIG) for name in members
        ]
        for replica in replicas:
            await replica.__aenter__()
        assert await replicas[0].execute(b"5") == 5
        for replica in replicas:
            with pytest.raises(ApplicationError, match="only 5 there") as raised:
                await replica.execute(b"-9")
            assert raised.value.type == "ValueError"
        assert await replicas[1].execute(b"-5") == 0
        assert [await replica.read(lambda account: account.balance) for replica in replicas] == [0, 0, 0]
        await asyncio.gather(*(replica.node.take_snapshot() for replica in replicas))
        assert replicas[0].status().snapshot_index > 0
        for replica in replicas:
            await replica.__aexit__()

    with tempfile.TemporaryDirectory(prefix="raft") as sockets:
        run(story(sockets))
