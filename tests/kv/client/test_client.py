"""The native client and service together: what a Python program meets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from onerack import rpc
from onerack.config import KvConfig
from onerack.errors import BindingRefused, NotExecuted, UsageError
from onerack.kv import client as kv
from onerack.kv.client.ranges import end_of_prefix
from onerack.kv.client.values import Compare, Delete, Deleted, Found, Get, KeyValue, Put, Txn, Written
from tests.kv.client.nodes import Nodes, run


def test_a_value_that_was_put_is_there(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            store = nodes.client
            assert await store.get("a") is None
            assert await store.put("a", "1") == Written(2)
            assert await store.put(b"a", b"2", previous=True) == Written(3, KeyValue(b"a", b"1", 2, 2, 1))
            assert await store.get("a") == KeyValue(b"a", b"2", 2, 3, 2)
            assert await store.get("a", serializable=True) == KeyValue(b"a", b"2", 2, 3, 2)
            assert await store.get("a", revision=2) == KeyValue(b"a", b"1", 2, 2, 1)
            assert await store.put("empty", b"") == Written(4)
            found = await store.get("empty")
            assert found is not None
            assert (found.value, found.text) == (b"", "")

    run(test)


def test_long_keys_and_values_pass_whole(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            for size in (1, 127, 128, 16383, 16384, 300_000):
                await nodes.client.put(b"k" * size, b"v" * size)
                found = await nodes.client.get(b"k" * size)
                assert found is not None
                assert found.value == b"v" * size

    run(test)


def test_ranges_have_ends_prefixes_limits_and_counts(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            store = nodes.client
            for name in ("a/1", "a/2", "a/3", "b"):
                await store.put(name, name)
            assert [each.key for each in (await store.find("a/", prefix=True)).kvs] == [b"a/1", b"a/2", b"a/3"]
            assert [each.key for each in (await store.find("a/2", "b")).kvs] == [b"a/2", b"a/3"]
            found = await store.find("", prefix=True, limit=1)
            assert (len(found.kvs), found.count, found.more) == (1, 4, True)
            bare = await store.find("a/", prefix=True, keys_only=True, sort_order=2, sort_target=0)
            assert [(each.key, each.value) for each in bare.kvs] == [(b"a/3", b""), (b"a/2", b""), (b"a/1", b"")]
            assert (await store.find("a/", prefix=True, count_only=True)) == Found(5, [], 3)
            gone = await store.delete("a/", prefix=True, previous=True)
            assert (gone.deleted, [each.key for each in gone.previous]) == (3, [b"a/1", b"a/2", b"a/3"])
            assert await store.delete("nothing") == Deleted(6, 0)

    run(test)


def test_a_transaction_is_one_revision_and_takes_one_of_two_ways(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            store = nodes.client
            absent = Compare(b"a", "create", "=", 0)
            ways: Any = ([Put(b"a", b"1"), Put(b"b", b"2")], [Get(b"a"), Delete(b"b", previous=True)])
            assert await store.txn([absent], *ways) == kv.Done(2, True, [Written(2), Written(2)])
            done = await store.txn([absent], *ways)
            assert (done.revision, done.succeeded) == (3, False)
            found, deleted = done.results
            assert isinstance(found, Found)
            assert found.kvs == [KeyValue(b"a", b"1", 2, 2, 1)]
            assert isinstance(deleted, Deleted)
            assert (deleted.deleted, deleted.previous[0].value) == (1, b"2")
            inner = Txn([Compare(b"a", "value", "=", b"1")], [Put(b"c", b"3")])
            nested = await store.txn([Compare(b"a", "version", ">", 0), Compare(b"a", "mod", "<", 9)], [inner])
            assert nested.results == [kv.Done(4, True, [Written(4)])]
            reads = await store.txn([Compare(b"a", "lease", "!=", 1)], [Get(b"a"), Get(b"", b"\0")][:1])
            assert reads.revision == 4
            with pytest.raises(rpc.ApplicationError, match="compared with bytes"):
                await store.txn([Compare(b"a", "value", "=", 1)])

    run(test)


def test_a_refusal_has_etcd_s_words_and_changes_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path, kv_config=KvConfig(request_bytes_max=1000)) as nodes:
            store = nodes.client
            for call, words, cause in (
                (store.put("", "x"), "etcdserver: key is not provided", "invalid_argument"),
                (store.put("a", "x", lease=7), "etcdserver: requested lease not found", "not_found"),
                (store.put("a", "", keep_value=True), "etcdserver: key not found", "invalid_argument"),
                (store.put("a", b"x" * 1000), "etcdserver: request is too large", "invalid_argument"),
                (store.get(""), "etcdserver: key is not provided", "invalid_argument"),
                (store.compact(99), "etcdserver: mvcc: required revision is a future revision", "out_of_range"),
                (store.revoke(7), "etcdserver: requested lease not found", "not_found"),
            ):
                with pytest.raises(kv.KvRefused) as caught:
                    await call
                assert (str(caught.value), caught.value.cause) == (words, cause)
            assert (await store.status()).revision == 1

    run(test)


def test_a_store_beyond_its_quota_takes_no_more(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path, kv_config=KvConfig(quota_bytes=1000)) as nodes:
            await nodes.client.put("a", b"x" * 600)
            for _ in range(2):
                with pytest.raises(kv.KvRefused, match="database space exceeded"):
                    await nodes.client.put("b", b"x" * 600)
            while not nodes.machines["n1"].alarms.no_space:
                await asyncio.sleep(0.001)

    run(test)


def test_what_is_compacted_is_no_more(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            store = nodes.client
            for value in "123":
                await store.put("a", value)
            assert await store.compact(3) == 4
            with pytest.raises(kv.KvRefused, match="has been compacted"):
                await store.get("a", revision=2)
            found = await store.get("a", revision=3)
            assert found is not None
            assert found.value == b"2"

    run(test)


def test_leases_are_granted_renewed_and_revoked_with_their_keys(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            store = nodes.client
            granted = await store.grant(30)
            assert granted.ttl_s == 30
            await store.put("a", "1", lease=granted.lease)
            assert await store.leases() == [granted.lease]
            assert await store.renew(granted.lease) == 30
            assert await store.renew(5) == 0
            assert await store.remaining(granted.lease, keys=True) == kv.Remaining(granted.lease, 30, 30, [b"a"])
            await store.revoke(granted.lease)
            assert await store.get("a") is None
            assert (await store.remaining(granted.lease)).ttl_s == -1
            async with store.lease(20) as lease:
                await store.put("b", "1", lease=lease.id)
            assert lease.lost.is_set()
            assert await store.get("b") is None

    run(test)


def test_nobody_may_do_anything_once_authentication_is_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            nodes.machines["n1"].auth.state.enabled = True
            store = nodes.client
            watch = store.watch("a")
            for call in (
                store.put("a", "1"), store.get("a"), store.find("a"), store.delete("a"), store.grant(9),
                store.leases(), store.manage("learner", "n1"), store.add_member("n2", "memory://n2"), anext(watch),
                anext(store.snapshot()), store.txn([], [Put(b"a")]), store.remaining(1), store.renew(1),
            ):  # fmt: skip
                with pytest.raises(kv.KvRefused):
                    await call

    run(test)


def test_many_callers_at_once_each_get_their_own(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path, 3) as nodes:
            store = nodes.client
            written = await asyncio.gather(*(store.put(str(number), str(number)) for number in range(500)))
            assert sorted(each.revision for each in written) == list(range(2, 502))
            found = await asyncio.gather(*(store.get(str(number)) for number in range(500)))
            assert [None if each is None else each.text for each in found] == [str(number) for number in range(500)]

    run(test)


def test_a_snapshot_is_the_whole_store(tmp_path: Path) -> None:
    async def test() -> None:
        from onerack.kv.core import KvMachine

        async with Nodes(tmp_path) as nodes:
            await nodes.client.put("a", "1")
            pieces = [piece async for piece in nodes.client.snapshot()]
            other = KvMachine()
            other.restore(iter(pieces))
            assert (other.revision, other.hash_kv()) == (2, nodes.machines["n1"].hash_kv())

    run(test)


def test_connecting_says_what_is_wrong(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(UsageError, match="address of a node"):
            await kv.connect()
        with pytest.raises(NotExecuted):
            await kv.connect("memory://nobody", connect_timeout_s=0.05)
        async with Nodes(tmp_path) as nodes:
            with pytest.raises(BindingRefused, match="cluster"):
                await nodes.connect(cluster="another")
            with pytest.raises(UsageError, match="not both"):
                await nodes.client.find("a", "b", prefix=True)

    run(test)


@pytest.mark.parametrize(
    ("prefix", "end"), [("a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", b"\0"), ("", b"\0"), ("a/", b"a0")]
)
def test_a_prefix_ends_at_the_next_one(prefix: str | bytes, end: bytes) -> None:
    assert end_of_prefix(prefix) == end
