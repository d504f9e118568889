"""The link: finding the leader, and what is tried again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from onerack.errors import ApplicationError, CallError, NotExecuted, Overloaded, Unknown
from onerack.kv import client as kv
from onerack.kv.client import link as links
from onerack.kv.client.failures import KvRefused, may_be_tried_again, meaning_of
from onerack.kv.client.link import Link
from onerack.kv.client.values import Written
from tests.kv.client.nodes import Nodes, run


class Stub:
    """Fails as it was told to, then answers."""

    def __init__(self, *failures: CallError) -> None:
        self.failures = list(failures)
        self.calls = 0

    async def put(self, *arguments: Any) -> Any:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return Written(9)

    get = put


def client_of(stub: Any, timeout_s: float = 5.0) -> kv.KvClient:
    link = Link(["memory://x"], tls=None, insecure=False, cluster="", timeout_s=timeout_s)
    link.stub = stub
    return kv.KvClient(link)


def told(type: str, cause: str = "x") -> ApplicationError:
    """As it comes from the handler of a node."""
    return ApplicationError(f"onerack.Kv.put raised {type}: words", cause=cause, type=type)


def test_a_client_talks_to_the_leader_whomever_it_was_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_LOOK_S", 0.02)

    async def test() -> None:
        async with Nodes(tmp_path, 3) as nodes:
            follower = next(name for name in nodes.nodes if name != nodes.leader)
            store = await nodes.connect(follower)
            assert (await store.status()).name == nodes.leader
            await store.manage("transfer", follower)
            while (await store.status()).name != follower:
                await asyncio.sleep(0.01)
            assert await store.put("a", "1") == Written(2)

    run(test)


def test_a_follower_takes_every_call_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stay(self: Link) -> None:
        pass

    monkeypatch.setattr(Link, "_move_to_leader", stay)

    async def test() -> None:
        async with Nodes(tmp_path, 3) as nodes:
            follower = next(name for name in nodes.nodes if name != nodes.leader)
            store = await nodes.connect(follower)
            assert (await store.status()).name == follower
            assert await store.put("a", "1") == Written(2)
            found = await store.get("a")
            assert found is not None
            assert found.text == "1"
            assert [member.leads for member in await store.members()].count(True) == 1

    run(test)


def test_the_store_outlives_its_leader(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path, 3) as nodes:
            store = nodes.client
            await store.put("a", "1")
            await nodes.nodes.pop(nodes.leader).close()
            found = await store.get("a")
            assert found is not None
            assert (await store.put("a", "2")).revision >= 3

    run(test)


def test_what_was_surely_not_executed_is_tried_again_until_it_is() -> None:
    async def test() -> None:
        stub = Stub(NotExecuted("x", cause="no_leader"), told("NotExecuted", "leader_changed"), Overloaded("x"))
        assert await client_of(stub).put("a", "1") == Written(9)
        assert stub.calls == 4

    run(test)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Unknown("x", cause="disconnected"), Unknown),
        (told("Unknown", "timeout"), Unknown),
        (told("KvRefused", "not_found"), KvRefused),
        (told("ValueError"), ApplicationError),
        (told("NotExecuted", "too_large"), NotExecuted),
        (NotExecuted("x", cause="deadline"), NotExecuted),
    ],
)
def test_a_write_that_may_have_happened_or_cannot_is_never_tried_again(
    failure: CallError, expected: type[CallError]
) -> None:
    async def test() -> None:
        stub = Stub(failure)
        with pytest.raises(expected):
            await client_of(stub).put("a", "1")
        assert stub.calls == 1

    run(test)


def test_a_read_is_tried_again_whatever_became_of_it() -> None:
    async def test() -> None:
        stub = Stub(Unknown("x", cause="disconnected"), told("Unknown"))
        await client_of(stub)._link.again(Unknown("x", cause="disconnected"), "get", b"a", False)
        assert stub.calls == 3

    run(test)


def test_an_order_that_the_leader_has_refused_is_not_given_again() -> None:
    async def test() -> None:
        refused = NotExecuted("x", cause="not_caught_up")
        with pytest.raises(NotExecuted):
            await client_of(Stub())._link.again(refused, "manage", "voter", "n2")
        assert may_be_tried_again(NotExecuted("x", cause="no_leader"), reads=False, orders=True)

    run(test)


def test_there_is_an_end_to_trying() -> None:
    async def test() -> None:
        stub = Stub(*(NotExecuted(str(number), cause="no_leader") for number in range(1000)))
        with pytest.raises(NotExecuted):
            await client_of(stub, timeout_s=0.2).put("a", "1")
        assert 1 < stub.calls < 20

    run(test)


def test_what_a_node_says_of_a_command_is_what_it_means() -> None:
    refused = meaning_of(told("KvRefused", "not_found"))
    assert (type(refused), str(refused), refused.cause) == (KvRefused, "words", "not_found")
    assert type(meaning_of(told("Overloaded"))) is NotExecuted
    own = KvRefused("x", cause="y")
    assert meaning_of(own) is own
    assert not may_be_tried_again(own, reads=True)
