"""Tests of the services Cluster and Maintenance on real nodes: members come and go, leaders move, a store is saved."""

from __future__ import annotations

import asyncio
import hashlib
import io
from pathlib import Path

import pytest

from onerack.errors import Corruption
from onerack.kv.core import KvMachine
from onerack.kv.server.identity import address_of, member_id, url_of
from onerack.kv.server.saved import blobs, pieces_of
from tests.kv.server.client import Client, StatusError, connected, refused
from tests.kv.server.group import alone, free_port, group
from tests.rpc.links import run


async def promoted(client: Client, number: int) -> None:
    """As soon as the leader has heard that the learner has caught up."""
    while True:
        try:
            await client.call("MemberPromote", ID=number)
            return
        except StatusError as error:
            assert error.text.endswith("in sync with leader"), error  # noqa: PT017 - any other one is a failure
            await asyncio.sleep(0.01)


def test_members_are_listed_with_where_they_are_reached(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path, "n1", "n2", "n3") as found:
            await found.until(lambda: all(len(place.node.book.all()) == 3 for place in found.places.values()))
            for place in found.places.values():
                async with connected(place.address) as client:
                    members = (await client.call("MemberList")).members
                    assert {member.name: (member.ID, *member.peerURLs, *member.clientURLs) for member in members} == {
                        name: (member_id(name), url_of(found.addresses[name]), url_of(found.places[name].address))
                        for name in ("n1", "n2", "n3")
                    }

    run(main())


def test_a_member_is_added_as_a_learner_catches_up_and_votes(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path) as found, connected(found.places["n1"].address) as client:
            await client.call("Put", key=b"k", value=b"v")
            name = f"127.0.0.1:{free_port()}"
            found.addresses[name] = f"tcp://{name}"
            added = await client.call("MemberAdd", peerURLs=[f"http://{name}"], isLearner=True)
            assert (added.member.ID, added.member.isLearner, added.member.name) == (member_id(name), True, "")
            assert len(added.members) == 2
            not_ready = (9, "etcdserver: can only promote a learner member which is in sync with leader")
            assert await refused(client.call("MemberPromote", ID=added.member.ID)) == not_ready
            exists = (9, "etcdserver: Peer URLs already exists")
            assert await refused(client.call("MemberAdd", peerURLs=[f"http://{name}"])) == exists
            place = await found.add(name, joins=True)
            await found.until(lambda: place.machine.revision == 2)
            async with connected(place.address) as other:
                assert (await other.call("Range", key=b"k", serializable=True)).count == 1
                unsupported = (14, "etcdserver: rpc not supported for learner")
                assert await refused(other.call("Range", key=b"k")) == unsupported
                assert (await other.call("Status")).isLearner
                await promoted(client, added.member.ID)
                await found.until(lambda: not place.server._desk.is_learner)
                assert (await other.call("Range", key=b"k")).count == 1
            not_learner = (9, "etcdserver: can only promote a learner member")
            assert await refused(client.call("MemberPromote", ID=added.member.ID)) == not_learner
            left = await client.call("MemberRemove", ID=added.member.ID)
            assert [member.name for member in left.members] == ["n1"]
            unknown = (5, "etcdserver: member not found")
            assert await refused(client.call("MemberRemove", ID=added.member.ID)) == unknown

    run(main())


def test_a_voter_that_is_added_but_never_started_stops_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path) as found, connected(found.places["n1"].address) as client:
            name = f"127.0.0.1:{free_port()}"
            added = await client.call("MemberAdd", peerURLs=[f"http://{name}"])
            assert not added.member.isLearner
            await client.call("Put", key=b"k", value=b"v")
            moved = f"http://127.0.0.1:{free_port()}"
            updated = await client.call("MemberUpdate", ID=added.member.ID, peerURLs=[moved])
            assert [moved] in [list(member.peerURLs) for member in updated.members]
            for urls in ([], ["nonsense"], ["http://127.0.0.1"]):
                bad = (3, "etcdserver: given member URLs are invalid")
                assert await refused(client.call("MemberAdd", peerURLs=urls)) == bad
            await client.call("MemberRemove", ID=added.member.ID)

    run(main())


def test_the_leader_moves_where_it_is_told_to(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path, "n1", "n2", "n3") as found:
            assert found.leader is not None
            leader, follower = found.leader, found.follower
            target = member_id(follower.node.name)
            async with connected(leader.address) as client, connected(follower.address) as other:
                assert await refused(other.call("MoveLeader", targetID=target)) == (9, "etcdserver: not leader")
                bad = (9, "etcdserver: bad leader transferee")
                assert await refused(client.call("MoveLeader", targetID=1)) == bad
                await client.call("MoveLeader", targetID=target)
                await found.until(lambda: follower.node.is_leader)
                assert (await other.call("Status")).leader == target

    run(main())


def test_nodes_that_have_applied_the_same_have_the_same_checksum(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path, "n1", "n2", "n3") as found:
            async with connected(found.places["n1"].address) as client:
                for n in range(10):
                    last = await client.call("Put", key=b"k%d" % n, value=b"v")
            sums = set()
            for place in found.places.values():
                await place.node.catch_up()
                async with connected(place.address) as client:
                    answer = await client.call("HashKV", revision=last.header.revision)
                    sums.add((answer.hash, answer.compact_revision))
                    assert (await client.call("Hash")).hash
            assert len(sums) == 1

    run(main())


def test_a_saved_store_is_whole_or_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path) as client:
            for n in range(40):
                await client.call("Put", key=b"k%d" % n, value=bytes(50_000))
            stream = client.open("Snapshot")
            stream.send()
            stream.half_close()
            content = b""
            while True:
                response = await stream.receive()
                content += response.blob
                if len(content) % 512 == 32 and content[-32:] == hashlib.sha256(content[:-32]).digest():
                    break
                assert response.remaining_bytes
            machine = KvMachine()
            machine.restore(pieces_of(io.BytesIO(content), "saved"))
            assert machine.revision == 41
            assert machine.store.now(b"k39") is not None
            for damaged in (content[:-1], content[:-512], b"x" + content[1:], content[:999] + b"x" + content[1000:]):
                with pytest.raises(Corruption):
                    list(pieces_of(io.BytesIO(damaged), "saved"))

    run(main())


def test_a_saved_store_of_any_length_is_a_multiple_of_512_and_a_sum() -> None:
    for size in (0, 1, 480, 511, 512, 5000):
        content = b"".join(blobs([bytes(size)]))
        assert len(content) % 512 == 32
        assert b"".join(pieces_of(io.BytesIO(content), "saved")) == bytes(size)


def test_addresses_are_urls_for_the_clients_of_etcd() -> None:
    for url, address in (("http://h:1", "tcp://h:1"), ("https://[::1]:2", "tls://[::1]:2")):
        assert (url_of(address), address_of(url)) == (url, address)
    for nonsense in ("h:1", "ftp://h:1", "http://h", "http://h:x", "http://h:1/path", ""):
        with pytest.raises(ValueError, match=r"http|[Pp]ort"):
            address_of(nonsense)


def test_a_group_without_a_leader_says_so_to_who_wants_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path, "n1", "n2") as found:
            assert found.leader is not None
            follower = found.follower
            async with connected(follower.address, hasleader="true") as client:
                watch = client.open("Watch")
                watch.send(create_request={"key": b"k"})
                assert (await watch.receive()).created
                await found.leader.stop()
                await found.until(lambda: not follower.node.leader)
                no_leader = (14, "etcdserver: no leader")
                assert await refused(client.call("Range", key=b"k")) == no_leader
                assert await refused(client.call("Status")) == no_leader
                assert await refused(watch.receive()) == no_leader
            async with connected(follower.address) as client:
                assert (await client.call("Range", key=b"k", serializable=True)).count == 0
                assert "etcdserver: no leader" in (await client.call("Status")).errors

    run(main())


def test_writes_and_watches_on_any_node_survive_the_leader(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path, "n1", "n2", "n3") as found:
            assert found.leader is not None
            leader, follower = found.leader, found.follower
            async with connected(follower.address) as client:
                watch = client.open("Watch")
                watch.send(create_request={"key": b"k", "range_end": b"l"})
                await watch.receive()
                for n in range(20):
                    await client.call("Put", key=b"k%d" % n, value=b"v")
                stopping = asyncio.create_task(leader.stop())
                for n in range(20, 40):
                    await client.call("Put", key=b"k%d" % n, value=b"v")
                await stopping
                keys: list[bytes] = []
                while len(keys) < 40:
                    keys += [event.kv.key for event in (await watch.receive()).events]
                assert keys == [b"k%d" % n for n in range(40)]
                assert not watch.has_news
                assert (await client.call("Range", key=b"k", range_end=b"l", count_only=True)).count == 40

    run(main())


def test_members_are_promoted_and_removed_through_any_node_even_the_leader_itself(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path, "n1", "n2", "n3") as found:
            assert found.leader is not None
            leader, follower = found.leader, found.follower
            name = f"127.0.0.1:{free_port()}"
            found.addresses[name] = f"tcp://{name}"
            async with connected(follower.address) as client:
                number = (await client.call("MemberAdd", peerURLs=[f"http://{name}"], isLearner=True)).member.ID
                code, text = await refused(client.call("MemberPromote", ID=number))
                assert (code, text.endswith("which is in sync with leader")) == (9, True)
                place = await found.add(name, joins=True)
                await found.until(lambda: place.node.status().configuration.learners == (name,))
                await promoted(client, number)
                left = await client.call("MemberRemove", ID=member_id(leader.node.name))
                assert member_id(leader.node.name) not in [member.ID for member in left.members]
                await leader.stop()
                await found.until(lambda: found.leader is not None)
                await client.call("Put", key=b"k")
                assert (await client.call("Range", key=b"k")).count == 1

    run(main())


def test_a_voter_that_is_added_gets_its_vote_when_it_has_caught_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path, "n1") as found, connected(found.places["n1"].address) as client:
            name = f"127.0.0.1:{free_port()}"
            found.addresses[name] = f"tcp://{name}"
            await client.call("MemberAdd", peerURLs=[f"http://{name}"])
            place = await found.add(name, joins=True)
            await found.until(lambda: name in place.node.status().configuration.voters)
            await found.until(lambda: len(place.node.book.all()) == 2)
            members = (await client.call("MemberList")).members
            assert sorted(member.isLearner for member in members) == [False, False]

    run(main())
