"""Puts of many callers travel together, and are done, refused or unknown each by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from onerack import rpc
from onerack.config import KvConfig
from onerack.errors import NotExecuted, Unknown
from onerack.kv import client as kv
from onerack.kv.client.values import AllWritten, Failed, Written
from tests.kv.client.nodes import Nodes, run


async def outcomes(store: kv.KvClient, *pairs: tuple[str, str]) -> list[Any]:
    """Of puts that are made in the same turn, behind one that is under way: so none of them is alone."""
    first = asyncio.ensure_future(store.put("first", ""))
    await asyncio.sleep(0)
    found = await asyncio.gather(*(store.put(key, value) for key, value in pairs), return_exceptions=True)
    await first
    return found


class Counted:
    """The calls that leave a client, by method."""

    def __init__(self, store: kv.KvClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.alone = 0
        stub = store._link.stub
        put, put_all = stub.put, stub.put_all

        async def counted_put(*asked: Any) -> Any:
            self.alone += 1
            return await put(*asked)

        async def counted_put_all(pairs: list[tuple[bytes, bytes]]) -> Any:
            self.sizes.append(len(pairs))
            return await put_all(pairs)

        monkeypatch.setattr(type(stub), "put", staticmethod(counted_put))
        monkeypatch.setattr(type(stub), "put_all", staticmethod(counted_put_all))


def test_each_of_many_has_its_own_revision_and_all_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Nodes(tmp_path, 3) as nodes:
            counted = Counted(nodes.client, monkeypatch)
            found = await outcomes(nodes.client, *((f"k{number}", f"v{number}") for number in range(100)))
            assert sorted(written.revision for written in found) == list(range(3, 103))
            assert (counted.alone, counted.sizes) == (1, [32, 32, 32, 4])
            kvs = (await nodes.client.find("k", prefix=True)).kvs
            assert {(each.text, each.mod_revision) for each in kvs} == {
                (f"v{number}", written.revision) for number, written in enumerate(found)
            }

    run(test)


def test_one_caller_makes_calls_of_his_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            counted = Counted(nodes.client, monkeypatch)
            for number in range(5):
                await nodes.client.put("a", str(number))
            assert (counted.alone, counted.sizes) == (5, [])

    run(test)


def test_one_that_is_refused_does_not_keep_the_others_from_being_done(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path, kv_config=KvConfig(request_bytes_max=2000)) as nodes:
            first, nameless, long, last = await outcomes(
                nodes.client, ("a", "1"), ("", "2"), ("long", "x" * 3000), ("b", "4")
            )
            assert (first, last) == (Written(3), Written(4))
            assert isinstance(nameless, kv.KvRefused)
            assert str(nameless) == "etcdserver: key is not provided"
            assert isinstance(long, kv.KvRefused)
            assert str(long) == "etcdserver: request is too large"

    run(test)


def test_a_user_may_put_what_he_may_and_no_more(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            auth = nodes.client.auth
            await auth.add_user("root", "secret")
            await auth.grant_role("root", "root")
            await auth.add_user("ann", "pw")
            await auth.add_role("writer")
            await auth.grant_permission("writer", "readwrite", "a/", prefix=True)
            await auth.grant_permission("writer", "readwrite", "first")
            await auth.grant_role("ann", "writer")
            await auth.enable()
            ann = await nodes.connect(user="ann", password="pw")
            done, refused = await outcomes(ann, ("a/1", "1"), ("b/1", "1"))
            assert isinstance(done, Written)
            assert isinstance(refused, kv.KvRefused)
            assert refused.cause == "permission_denied"

    run(test)


def test_a_caller_who_goes_away_takes_nobody_with_him(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            store = nodes.client
            calls = [asyncio.ensure_future(store.put(f"k{number}", "")) for number in range(4)]
            await asyncio.sleep(0)
            calls[1].cancel()
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(each) for each in found] == [Written, asyncio.CancelledError, Written, Written]

    run(test)


def test_a_call_with_options_of_its_own_is_made_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            counted = Counted(nodes.client, monkeypatch)
            first = asyncio.ensure_future(nodes.client.put("first", ""))
            await asyncio.sleep(0)
            with rpc.options(deadline=20):
                await nodes.client.put("a", "1")
            await first
            assert (counted.alone, counted.sizes) == (2, [])

    run(test)


def test_what_a_node_says_of_each_is_what_each_caller_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            answers = [
                AllWritten(
                    [0, 0, 7], {0: Failed("NotExecuted", "too_large", "no"), 1: Failed("Unknown", "timeout", "?")}
                ),
                AllWritten([1]),
                AllWritten([0, 8], {5: Failed("NotExecuted", "too_large", "of nobody")}),
            ]

            async def put_all(pairs: list[tuple[bytes, bytes]]) -> AllWritten:
                return answers.pop(0)

            monkeypatch.setattr(type(nodes.client._link.stub), "put_all", staticmethod(put_all))
            refused, unknown, done = await outcomes(nodes.client, ("a", ""), ("b", ""), ("c", ""))
            assert (type(refused), refused.cause) == (NotExecuted, "too_large")
            assert (type(unknown), unknown.cause) == (Unknown, "timeout")
            assert done == Written(7)
            found = await outcomes(nodes.client, ("a", ""), ("b", ""))
            assert [(type(each), each.cause) for each in found] == [(Unknown, "malformed")] * 2
            unsaid, done = await outcomes(nodes.client, ("a", ""), ("b", ""))
            assert (type(unsaid), unsaid.cause) == (Unknown, "malformed")
            assert done == Written(8)

    run(test)


def test_whatever_a_call_raises_each_caller_hears_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:

            async def put_all(pairs: list[tuple[bytes, bytes]]) -> AllWritten:
                raise RuntimeError("nobody has thought of this")

            monkeypatch.setattr(type(nodes.client._link.stub), "put_all", staticmethod(put_all))
            found = await outcomes(nodes.client, ("a", ""), ("b", ""))
            assert [type(each) for each in found] == [RuntimeError] * 2

    run(test)


def test_a_key_that_is_none_troubles_only_its_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            counted = Counted(nodes.client, monkeypatch)
            bad: Any = 5
            first, wrong, last = await outcomes(nodes.client, ("a", "1"), (bad, "2"), ("b", "3"))
            assert (type(first), type(last)) == (Written, Written)
            assert isinstance(wrong, Exception)
            assert counted.sizes == [2]

    run(test)


def test_none_together_is_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            assert await nodes.client._link.stub.put_all([]) == AllWritten([])

    run(test)
