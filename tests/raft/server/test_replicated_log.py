"""An exactly-once service on three nodes: each call is executed once, whichever server is lost on the way."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from onerack import rpc
from onerack.errors import ApplicationError, NotExecuted, Unknown, UsageError
from onerack.raft import ReplicatedLog
from tests.raft.server.group import CONFIG, Group, host_of, run, until


class Till(Protocol):
    @rpc.exactly_once
    async def pay(self, number: int) -> int:
        """How many payments there are now."""

    @rpc.exactly_once
    async def refuse(self, word: str) -> None: ...


class TillServer:
    def __init__(self) -> None:
        self.payments: list[int] = []
        self.runs = 0

    def pay(self, number: int) -> int:
        self.runs += 1
        self.payments.append(number)
        return len(self.payments)

    def refuse(self, word: str) -> None:
        raise ValueError(word)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.payments)

    def restore(self, snapshot: bytes) -> None:
        self.payments = msgspec.msgpack.decode(snapshot, type=list[int])


class Tills:
    """Servers on a replicated log each, and the services behind them."""

    def __init__(self, directory: Path, sockets: str) -> None:
        self.directory = directory
        self.peers = {name: f"unix://{sockets}/{name}" for name in ("n1", "n2", "n3")}
        self.addresses = {name: f"unix://{sockets}/{name}.till" for name in self.peers}
        self.logs: dict[str, ReplicatedLog] = {}
        self.tills: dict[str, TillServer] = {}
        self.servers: dict[str, rpc.Server] = {}

    async def start(self, name: str) -> None:
        self.tills[name] = TillServer()
        self.logs[name] = ReplicatedLog(name, self.directory / name, members=self.peers, config=CONFIG)
        self.servers[name] = await rpc.serve(
            Till, self.tills[name], self.addresses[name], durable=self.logs[name], show_tracebacks=True
        )

    async def stop(self, name: str) -> None:
        del self.logs[name]
        await self.servers.pop(name).close(drain_s=0)

    async def __aenter__(self) -> Tills:
        await asyncio.gather(*(self.start(name) for name in self.peers))
        return self

    async def __aexit__(self, *exception: object) -> None:
        await asyncio.gather(*(self.stop(name) for name in list(self.servers)))

    async def agree(self) -> list[int]:
        for log in self.logs.values():
            await log.node.catch_up()
        payments = [self.tills[name].payments for name in self.servers]
        assert all(each == payments[0] for each in payments)
        return payments[0]

    async def client(self, *names: str) -> rpc.Client[Till]:
        return await rpc.connect(Till, *(self.addresses[name] for name in names), connect_timeout=20)


@pytest.fixture
def sockets() -> Iterator[str]:
    directory = tempfile.mkdtemp(prefix="raft")
    yield directory
    shutil.rmtree(directory)


def test_calls_through_any_node_are_executed_once_on_every_node(tmp_path: Path, sockets: str) -> None:
    async def story() -> None:
        async with Tills(tmp_path, sockets) as tills:
            clients = [await tills.client(name) for name in tills.peers]
            calls = [client.stub.pay(number) for number in range(50) for client in clients]
            assert sorted(await asyncio.gather(*calls)) == list(range(1, 151))
            assert sorted(await tills.agree()) == sorted(list(range(50)) * 3)
            for client in clients:
                await client.close()

    run(story())


def test_the_server_that_holds_the_connection_is_lost_and_each_call_is_executed_once(
    tmp_path: Path, sockets: str
) -> None:
    async def story() -> None:
        async with Tills(tmp_path, sockets) as tills:
            client = await tills.client("n1", "n2", "n3")
            async with client as till:
                answers: list[int] = []

                async def payer(first: int) -> None:
                    for number in range(first, first + 15):
                        answer = await till.pay(number)
                        answers.append(answer)

                paying = [asyncio.create_task(payer(1000 * each)) for each in range(4)]
                for round in range(3):
                    await until(partial(lambda count: len(answers) > count, 12 * (round + 1)))
                    holder = next(name for name in tills.peers if client.server.endswith(f"/{name}.till"))
                    await tills.stop(holder)
                    await until(lambda: client.server)
                    await tills.start(holder)
                await asyncio.gather(*paying)
                assert sorted(answers) == list(range(1, 61)), "no call was executed twice, none was answered wrongly"
            payments = await tills.agree()
            assert sorted(payments) == sorted(1000 * each + number for each in range(4) for number in range(15))

    run(story())


def test_an_exception_is_a_reply_and_the_same_on_every_node(tmp_path: Path, sockets: str) -> None:
    async def story() -> None:
        async with Tills(tmp_path, sockets) as tills:
            async with await tills.client("n2") as till:
                with pytest.raises(ApplicationError, match="no change"):
                    await till.refuse("no change")
                assert await till.pay(1) == 1
            assert await tills.agree() == [1]

    run(story())


def test_calls_wait_while_nobody_leads(tmp_path: Path, sockets: str) -> None:
    async def story() -> None:
        async with Tills(tmp_path, sockets) as tills:
            async with await tills.client("n1") as till:
                assert await till.pay(1) == 1
                for name in ("n2", "n3"):
                    await tills.stop(name)
                waiting = asyncio.create_task(till.pay(2))
                await until(lambda: not tills.logs["n1"].node.is_leader)
                assert not waiting.done()
                await tills.start("n2")
                assert await waiting == 2
            assert await tills.agree() == [1, 2]

    run(story())


def test_replies_are_in_the_snapshot_from_which_a_node_starts_anew(tmp_path: Path, sockets: str) -> None:
    async def story() -> None:
        async with Tills(tmp_path, sockets) as tills:
            async with await tills.client("n1", "n2") as till:
                await tills.stop("n3")
                for number in range(20):
                    await till.pay(number)
                for log in tills.logs.values():
                    await log.node.take_snapshot()
                await tills.start("n3")
                assert await till.pay(20) == 21
                assert await tills.agree() == list(range(21))
                assert tills.tills["n3"].runs <= 1, "the rest came as state"

    run(story())


def test_a_log_that_was_closed_or_gets_too_long_a_command_refuses_it_before_it_is_proposed(
    tmp_path: Path, sockets: str
) -> None:
    async def story() -> None:
        async with Tills(tmp_path, sockets) as tills:
            log = tills.logs["n1"]
            with pytest.raises(UsageError, match="at most"):
                log.propose(bytes(log.node.command_bytes_max + 1))
            with pytest.raises(UsageError, match="one log serves one server"):
                await log.start(tills.servers["n1"])
            await tills.stop("n1")
            with pytest.raises(NotExecuted):
                log.propose(b"x")

    run(story())


def test_a_command_whose_answer_is_lost_on_its_way_back_is_unknown_and_never_executed_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was passed on to the leader, which took it; then the two lost sight of each other."""

    async def story() -> None:
        async with Group(tmp_path, request_timeout_s=1.0) as group:
            follower = (await group.followers())[0]
            leader = await group.led()
            host = host_of(leader)
            take = host.take
            taken: list[bytes] = []

            def take_and_fall_silent(payload: bytes) -> asyncio.Future[object]:
                taken.append(payload)
                take(payload)
                return asyncio.get_running_loop().create_future()

            with monkeypatch.context() as silence:
                silence.setattr(host, "take", take_and_fall_silent)
                # The follower hears nothing from the log either.
                silence.setattr(host_of(follower), "receive", lambda sender, messages: None)
                with pytest.raises(Unknown):
                    await group.append(follower.name, "a", 1)
            assert await group.read(follower.name, "a") == [1]
            assert len(taken) == 1
            await group.agree()

    run(story())
