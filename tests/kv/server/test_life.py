"""Tests of the life of a kv node: restarts, groups that cannot decide, outcomes nobody knows, clients that leave."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from onerack.config import KvConfig
from onerack.errors import CallError, NotExecuted, Overloaded, StorageFull, Unknown, UsageError
from onerack.kv.core import KvError
from onerack.kv.server.outcomes import refusal_of
from onerack.kv.server.server import KvServer
from onerack.raft import RaftNode
from tests.kv.server.client import connected, refused
from tests.kv.server.group import group
from tests.rpc.links import run


def test_everything_is_there_after_a_restart_and_leases_have_their_full_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path) as found:
            async with connected(found.places["n1"].address) as client:
                await client.call("LeaseGrant", ID=7, TTL=100)
                await client.call("Put", key=b"k", value=b"v", lease=7)
                await client.call("UserAdd", name="ann", password="pw")
                await client.call("Alarm", action=1, memberID=1, alarm=1)
            await found.places["n1"].stop()
            place = await found.add("n1")
            await found.until(lambda: found.leader is not None)
            async with connected(place.address) as client:
                answer = await client.call("Range", key=b"k")
                assert (answer.kvs[0].value, answer.kvs[0].lease, answer.header.revision) == (b"v", 7, 2)
                assert pytest.approx(99, abs=1) == (await client.call("LeaseTimeToLive", ID=7)).TTL
                assert (await client.call("UserList")).users == ["ann"]
                assert await refused(client.call("Put", key=b"k")) == (8, "etcdserver: mvcc: database space exceeded")

    run(main())


def test_a_write_that_cannot_be_decided_is_never_said_to_be_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path, "n1", "n2", config=KvConfig(request_timeout_s=0.4)) as found:
            assert found.leader is not None
            leader, follower = found.leader, found.follower
            async with connected(leader.address) as client, connected(follower.address) as other:
                await client.call("Put", key=b"k")
                await leader.stop()
                for call in (other.call("Put", key=b"k"), other.call("Range", key=b"k"), other.call("LeaseGrant")):
                    code, text = await refused(call)
                    assert code == 14
                    assert text in ("etcdserver: no leader", "etcdserver: request timed out")
                stream = other.open("LeaseKeepAlive")
                stream.send(ID=1)
                assert (await refused(stream.receive()))[0] == 14

    run(main())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotExecuted("", cause="no_leader"), (14, "etcdserver: no leader")),
        (NotExecuted("", cause="leader_changed"), (14, "etcdserver: leader changed")),
        (NotExecuted("", cause="stopping"), (14, "etcdserver: server stopped")),
        (NotExecuted("", cause="too_large"), (3, "etcdserver: request is too large")),
        (NotExecuted("", cause="storage_full"), (8, "etcdserver: mvcc: database space exceeded")),
        (NotExecuted("", cause="whatever"), (14, "etcdserver: request timed out")),
        (Overloaded(""), (8, "etcdserver: too many requests")),
        (Unknown("", cause="stopping"), (14, "etcdserver: request timed out")),
        (Unknown("", cause="no_leader"), (14, "etcdserver: request timed out")),
        (CallError("", cause="overloaded"), (14, "etcdserver: request timed out")),
        (KvError(5, "words"), (5, "words")),
        (ZeroDivisionError(), (13, "internal error")),
    ],
)
def test_what_may_have_happened_is_told_as_timed_out(error: object, expected: tuple[int, str]) -> None:
    refusal = refusal_of(error)
    assert (refusal.code, refusal.text) == expected


def test_a_full_disk_takes_deletions_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with group(tmp_path) as found, connected(found.places["n1"].address) as client:
            await client.call("Put", key=b"k")
            monkeypatch.setattr(RaftNode, "storage_full", property(lambda node: StorageFull("here")))
            full = (8, "etcdserver: mvcc: database space exceeded")
            assert await refused(client.call("Put", key=b"l")) == full
            assert await refused(client.call("/v3lockpb.Lock/Lock", name=b"l")) == full
            assert (await client.call("DeleteRange", key=b"k")).deleted == 1

    run(main())


def test_a_call_that_its_client_gives_up_leaves_nothing_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path) as found:
            place = found.places["n1"]
            async with connected(place.address) as client:
                await client.call("/v3lockpb.Lock/Lock", name=b"l")
                for method, request in (
                    ("/v3lockpb.Lock/Lock", {"name": b"l"}),
                    ("Observe", {"name": b"e"}),
                    ("Watch", {"create_request": {"key": b"k"}}),
                    ("LeaseKeepAlive", {"ID": 9}),
                ):
                    client.open(method).send(**request)
                await asyncio.sleep(0.1)
            server = place.server
            await found.until(lambda: not server._desk._tasks and not server._watches._streams)
            await found.until(lambda: not server._leases.streams)
            async with connected(place.address) as client:
                assert (await client.call("Range", key=b"l", range_end=b"m")).count == 1

    run(main())


def test_a_server_that_cannot_listen_leaves_its_node_as_it_was(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path) as found:
            place = found.places["n1"]
            hooks = [list(place.node.on_role), list(place.node.on_applied), list(place.machine.on_events)]
            second = KvServer(place.node, place.machine, place.address)
            with pytest.raises(UsageError, match="cannot listen"):
                await second.start()
            await second.close()
            assert hooks == [place.node.on_role, place.node.on_applied, place.machine.on_events]
            async with connected(place.address) as client:
                await client.call("Put", key=b"k")

    run(main())


def test_a_certificate_says_who_asks_when_there_is_no_token(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from tests.rpc.certificates import Authority

    async def main() -> None:
        authority = Authority(tmp_path)
        tls = authority.server(authority.issue("server", addresses=["127.0.0.1"]))
        async with group(tmp_path) as found:
            place = found.places["n1"]
            async with KvServer(place.node, place.machine, "tls://127.0.0.1:0", tls=tls) as server:
                async with connected(place.address) as client:
                    for name in ("root", "ann"):
                        await client.call("UserAdd", name=name, options={"no_password": True})
                    await client.call("RoleAdd", name="root")
                    await client.call("UserGrantRole", user="root", role="root")
                    await client.call("AuthEnable")
                for name, expected in (("root", None), ("ann", 7), ("stranger", 7)):
                    context = authority.client(authority.issue(name))
                    context.set_alpn_protocols(["h2"])
                    async with connected(server.address, tls=context) as client:
                        if expected is None:
                            await client.call("Put", key=b"k")
                        else:
                            assert (await refused(client.call("Put", key=b"k")))[0] == expected

    run(main())
