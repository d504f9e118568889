"""Tests of the service KV on a real node: what goes in comes out, what is refused is refused in etcd's words."""

from __future__ import annotations

import asyncio
from pathlib import Path

from onerack.config import KvConfig
from onerack.kv.messages import Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest
from onerack.kv.server.identity import cluster_id, member_id
from onerack.kv.server.kv import is_serializable_range, is_serializable_txn, may_write
from tests.kv.server.client import connected, refused
from tests.kv.server.group import alone, group
from tests.rpc.links import run


def test_a_put_is_read_back_with_a_full_header(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path) as client:
            answer = await client.call("Put", key=b"k", value=b"v")
            assert answer.header.revision == 2
            assert answer.header.cluster_id == cluster_id("onerack")
            assert answer.header.member_id == member_id("n1")
            assert answer.header.raft_term >= 1
            for serializable in (False, True):
                found = await client.call("Range", key=b"k", serializable=serializable)
                assert [(kv.key, kv.value, kv.mod_revision) for kv in found.kvs] == [(b"k", b"v", 2)]
                assert found.header == answer.header

    run(main())


def test_many_calls_at_once_are_all_answered_each_with_its_own_revision(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path) as client:
            answers = await asyncio.gather(*(client.call("Put", key=b"%d" % n, value=b"v") for n in range(300)))
            assert sorted(answer.header.revision for answer in answers) == list(range(2, 302))
            found = await asyncio.gather(*(client.call("Range", key=b"%d" % n) for n in range(300)))
            assert [one.kvs[0].mod_revision for one in found] == [answer.header.revision for answer in answers]

    run(main())


def test_a_transaction_that_writes_goes_through_the_log_and_one_that_reads_does_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path) as found, connected(found.places["n1"].address) as client:
            is_absent = Compare(key=b"k", target=Compare.CREATE, create_revision=0)
            put = RequestOp(request_put=PutRequest(key=b"k", value=b"v"))
            get = RequestOp(request_range=RangeRequest(key=b"k"))
            first = await client.call("Txn", compare=[is_absent], success=[put], failure=[get])
            second = await client.call("Txn", compare=[is_absent], success=[put], failure=[get])
            assert (first.succeeded, second.succeeded) == (True, False)
            assert second.responses[0].response_range.kvs[0].value == b"v"
            last = found.places["n1"].node.status().last_index
            third = await client.call("Txn", success=[get])
            assert third.responses[0].response_range.count == 1
            assert found.places["n1"].node.status().last_index == last

    run(main())


def test_deleting_and_compacting(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path) as client:
            for n in range(3):
                await client.call("Put", key=b"k%d" % n, value=b"v")
            gone = await client.call("DeleteRange", key=b"k0", range_end=b"k2", prev_kv=True)
            assert (gone.deleted, len(gone.prev_kvs)) == (2, 2)
            await client.call("Compact", revision=4)
            compacted = (11, "etcdserver: mvcc: required revision has been compacted")
            assert await refused(client.call("Range", key=b"k0", revision=3)) == compacted
            assert await refused(client.call("Compact", revision=4)) == compacted
            future = (11, "etcdserver: mvcc: required revision is a future revision")
            assert await refused(client.call("Compact", revision=99)) == future

    run(main())


def test_what_is_refused_is_refused_in_the_words_of_etcd(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path, KvConfig(request_bytes_max=1000)) as client:
            no_key = (3, "etcdserver: key is not provided")
            assert await refused(client.call("Put", value=b"v")) == no_key
            assert await refused(client.call("Range")) == no_key
            assert await refused(client.call("DeleteRange")) == no_key
            too_large = (3, "etcdserver: request is too large")
            assert await refused(client.call("Put", key=b"k", value=bytes(1001))) == too_large
            delete = RequestOp(request_delete_range=DeleteRangeRequest(key=b"k"))
            put = RequestOp(request_put=PutRequest(key=b"k"))
            twice = (3, "etcdserver: duplicate key given in txn request")
            assert await refused(client.call("Txn", success=[delete, put])) == twice
            lease = (5, "etcdserver: requested lease not found")
            assert await refused(client.call("Put", key=b"k", lease=7)) == lease
            assert (await client.call("Range", key=b"k")).header.revision == 1

    run(main())


def test_what_is_not_implemented_is_said_to_be_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path) as client:
            code, _ = await refused(client.call("Downgrade", version="3.4.0"))
            assert code == 12

    run(main())


def test_beyond_the_quota_an_alarm_is_raised_and_only_deletion_is_taken(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path, KvConfig(quota_bytes=4000)) as client:
            no_space = (8, "etcdserver: mvcc: database space exceeded")
            await client.call("Put", key=b"k", value=bytes(3000))
            much = [refused(client.call("Put", key=b"l", value=bytes(1000))) for _ in range(9)]
            assert await asyncio.gather(*much) == [no_space] * 9
            assert await refused(client.call("Put", key=b"l", value=b"small")) == no_space
            [alarm] = (await client.call("Alarm")).alarms
            assert (alarm.memberID, alarm.alarm) == (member_id("n1"), 1)
            assert "NOSPACE" in (await client.call("Status")).errors[0]
            deleted = await client.call("DeleteRange", key=b"k")
            await client.call("Compact", revision=deleted.header.revision)
            await client.call("Defragment")
            await client.call("Alarm", action=2, memberID=alarm.memberID, alarm=1)
            await client.call("Put", key=b"l", value=b"small")

    run(main())


def test_serializable_requests_are_recognised_however_they_are_written() -> None:
    for fields in ({"key": b"k"}, {"key": b"8\x01"}, {"key": b"k", "limit": 7}, {"key": b"k" * 300}, {}):
        assert not is_serializable_range(RangeRequest(**fields).SerializeToString())
        assert is_serializable_range(RangeRequest(**fields, serializable=True).SerializeToString())
    assert is_serializable_range(b"\x38\x01\x0a\x01k")
    assert not is_serializable_range(b"\x38\x00\x0a\x01k")
    assert not is_serializable_range(b"\x38")
    here = RequestOp(request_range=RangeRequest(key=b"k", serializable=True))
    there = RequestOp(request_range=RangeRequest(key=b"k"))
    for ops, expected in (([here], True), ([here, there], False), ([], False)):
        assert is_serializable_txn(TxnRequest(success=ops).SerializeToString()) is expected


def test_a_glance_at_a_transaction_sees_whether_it_may_write() -> None:
    get = RequestOp(request_range=RangeRequest(key=b"k" * 200))
    put = RequestOp(request_put=PutRequest(key=b"k", value=b"v"))
    inner = RequestOp(request_txn=TxnRequest())
    absent = Compare(key=b"k" * 300, target=Compare.CREATE)
    for fields, expected in (
        ({"success": [put]}, True),
        ({"compare": [absent, absent], "failure": [get, put]}, True),
        ({"success": [inner]}, True),
        ({"compare": [absent], "success": [get, get], "failure": [get]}, False),
        ({"compare": [absent]}, False),
        ({}, False),
    ):
        assert may_write(TxnRequest(**fields).SerializeToString()) is expected
    for nonsense in (b"\x12", b"\x12\xff", b"\x12\xff\xff\xff", b"\x0a\x7f", b"\xff" * 9):
        assert may_write(nonsense) in (False, True)


def test_pages_of_one_revision_and_a_watch_from_there_miss_nothing(tmp_path: Path) -> None:
    """As Kubernetes does: a list in pages while others write, guarded updates, and a watch from the list's revision."""

    async def main() -> None:
        async with alone(tmp_path) as client:
            for number in range(7):
                await client.call("Put", key=b"/pods/%d" % number, value=b"old")
            first, seen, revision = b"/pods/", [], 0
            while True:
                page = await client.call("Range", key=first, range_end=b"/pods0", limit=3, revision=revision)
                revision = revision or page.header.revision
                seen += [(kv.key, kv.value) for kv in page.kvs]
                assert page.count == 7 - (len(seen) - len(page.kvs)), "what remains is known"
                # Between two pages somebody writes, and deletes what is not read yet.
                await client.call("Put", key=b"/pods/new", value=b"new")
                await client.call("DeleteRange", key=b"/pods/6")
                if not page.more:
                    break
                first = page.kvs[-1].key + b"\0"
            assert seen == [(b"/pods/%d" % number, b"old") for number in range(7)]
            unchanged = Compare(target=Compare.MOD, result=Compare.EQUAL, key=b"/pods/1", mod_revision=3)
            write = RequestOp(request_put=PutRequest(key=b"/pods/1", value=b"mine"))
            read = RequestOp(request_range=RangeRequest(key=b"/pods/1"))
            answers = [await client.call("Txn", compare=[unchanged], success=[write], failure=[read]) for _ in range(2)]
            assert [answer.succeeded for answer in answers] == [True, False]
            assert answers[1].responses[0].response_range.kvs[0].mod_revision == answers[0].header.revision
            watch = client.open("Watch")
            watch.send(
                create_request={
                    "key": b"/pods/", "range_end": b"/pods0", "start_revision": revision + 1,
                    "prev_kv": True, "progress_notify": True,
                }
            )  # fmt: skip
            assert (await watch.receive()).created
            told: list[tuple[bytes, int]] = []
            while not told or told[-1][0] != b"/pods/1":
                told += [(event.kv.key, event.type) for event in (await watch.receive()).events]
            assert told == [
                (b"/pods/new", 0), (b"/pods/6", 1), (b"/pods/new", 0), (b"/pods/new", 0), (b"/pods/1", 0)
            ]  # fmt: skip
            watch.send(progress_request={})
            assert (await watch.receive()).header.revision == answers[0].header.revision

    run(main())
