"""A server on a durable log, end to end: restarts, a full disk, and a log that halts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

import pytest

from onerack import rpc
from onerack.errors import CallError, NotExecuted, Unknown
from onerack.runtime.real import RealDisk
from tests.rpc.services import run


class Counter(Protocol):
    @rpc.exactly_once
    async def add(self, amount: int) -> int: ...
    @rpc.exactly_once
    async def refuse(self, word: str) -> None: ...
    @rpc.readonly
    async def total(self) -> int: ...


class CounterServer:
    def __init__(self) -> None:
        self.sum = 0
        self.refused: list[str] = []

    def add(self, amount: int) -> int:
        self.sum += amount
        return self.sum

    def refuse(self, word: str) -> None:
        self.refused.append(word)
        raise ValueError(word)

    def total(self) -> int:
        return self.sum

    def snapshot(self) -> bytes:
        return b"%d" % self.sum

    def restore(self, snapshot: bytes) -> None:
        self.sum = int(snapshot)


class Failing(RealDisk):
    """Appends fail when told to."""

    def __init__(self) -> None:
        self.error: OSError | None = None

    def open_append(self, path: str):  # type: ignore[no-untyped-def]
        file = super().open_append(path)
        append = file.append

        def failing(content: bytes) -> None:
            if self.error is not None:
                raise self.error
            append(content)

        file.append = failing  # type: ignore[method-assign]
        return file


def test_calls_made_while_the_server_is_away_are_executed_once_when_it_is_back(tmp_path: Path) -> None:
    async def test() -> None:
        address = f"unix://{tmp_path}/s"
        server = await rpc.serve(Counter, CounterServer(), address, durable=rpc.LocalLog(tmp_path / "log"))
        async with await rpc.connect(Counter, address) as counter:
            assert await counter.add(1) == 1
            for life in range(3):
                await server.close(drain_s=0)
                calls = [asyncio.create_task(counter.add(1)) for _ in range(20)]
                await asyncio.sleep(0)
                server = await rpc.serve(Counter, CounterServer(), address, durable=rpc.LocalLog(tmp_path / "log"))
                assert sorted(await asyncio.gather(*calls)) == list(range(2 + 20 * life, 22 + 20 * life))
            assert await counter.total() == 61
        await server.close()

    run(test)


def test_an_error_is_an_outcome_and_is_not_run_again(tmp_path: Path) -> None:
    async def test() -> None:
        implementation = CounterServer()
        log = rpc.LocalLog(tmp_path / "log")
        async with await rpc.serve(Counter, implementation, "memory://counter", durable=log) as server:
            async with await rpc.connect(Counter, server.address) as counter:
                with pytest.raises(rpc.ApplicationError, match="ValueError: no"):
                    await counter.refuse("no")
                assert implementation.refused == ["no"]

    run(test)


def test_what_a_log_cannot_have_kept_is_unknown_and_its_clients_do_not_wait_for_ever(tmp_path: Path) -> None:
    async def test() -> None:
        disk = Failing()
        log = rpc.LocalLog(tmp_path / "log", disk=disk)
        server = await rpc.serve(Counter, CounterServer(), "memory://counter", durable=log)
        async with await rpc.connect(Counter, server.address) as counter:
            assert await counter.add(1) == 1
            disk.error = OSError(5, "Input/output error")
            with pytest.raises(Unknown) as lost:
                await counter.add(1)
            assert lost.value.executed is None
            with pytest.raises(NotExecuted, match="disk"):
                await counter.add(1)
            with pytest.raises(CallError):
                await server.wait()
        with pytest.raises((OSError, CallError)):
            await server.close(drain_s=0)

    run(test)
