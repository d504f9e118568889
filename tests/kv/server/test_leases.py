"""Tests of the service Lease and of the lessor: expiry, renewal, and what becomes of leases when the leader goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from onerack.kv.messages import WatchCreateRequest
from tests.kv.server.client import StatusError, connected, refused
from tests.kv.server.group import alone, group
from tests.rpc.links import run


def test_a_lease_that_nobody_renews_ends_with_all_its_keys_in_one_revision(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path) as client:
            lease = await client.call("LeaseGrant", TTL=1)
            assert (lease.TTL, lease.ID > 0) == (1, True)
            watch = client.open("Watch")
            watch.send(create_request=WatchCreateRequest(key=b"a", range_end=b"z"))
            await watch.receive()
            for key in (b"b", b"c"):
                await client.call("Put", key=key, lease=lease.ID)
            found: list[tuple[int, bytes, int]] = []
            while len(found) < 4:
                found += [(event.type, event.kv.key, event.kv.mod_revision) for event in (await watch.receive()).events]
            assert found == [(0, b"b", 2), (0, b"c", 3), (1, b"b", 4), (1, b"c", 4)]
            gone = await client.call("LeaseTimeToLive", ID=lease.ID)
            assert (gone.TTL, gone.grantedTTL) == (-1, 0)

    run(main())


def test_a_lease_that_is_renewed_lives_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path) as client:
            first, second = [await client.call("LeaseGrant", TTL=1) for _ in range(2)]
            stream = client.open("LeaseKeepAlive")
            alive = True
            while alive:
                stream.send(ID=first.ID)
                answer = await stream.receive()
                assert (answer.ID, answer.TTL) == (first.ID, 1)
                await asyncio.sleep(0.2)
                alive = (await client.call("LeaseTimeToLive", ID=second.ID)).TTL >= 0
            assert [lease.ID for lease in (await client.call("LeaseLeases")).leases] == [first.ID]
            stream.half_close()
            with pytest.raises(StatusError) as ended:
                await stream.receive()
            assert ended.value.code == 0

    run(main())


def test_a_lease_that_is_gone_is_no_error_for_who_asks_and_one_for_who_ends_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path) as client:
            lease = await client.call("LeaseGrant", TTL=100, ID=7)
            await client.call("Put", key=b"k", lease=7)
            known = await client.call("LeaseTimeToLive", ID=7, keys=True)
            assert (known.TTL, known.grantedTTL, list(known.keys)) == (pytest.approx(99, abs=1), 100, [b"k"])
            assert await refused(client.call("LeaseGrant", TTL=100, ID=7)) == (9, "etcdserver: lease already exists")
            await client.call("LeaseRevoke", ID=lease.ID)
            assert not (await client.call("Range", key=b"k")).kvs
            assert await refused(client.call("LeaseRevoke", ID=7)) == (5, "etcdserver: requested lease not found")
            stream = client.open("LeaseKeepAlive")
            stream.send(ID=7)
            answer = await stream.receive()
            assert (answer.ID, answer.TTL) == (7, 0)

    run(main())


def test_any_node_renews_and_a_new_leader_gives_every_lease_its_full_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path, "n1", "n2", "n3") as found:
            assert found.leader is not None
            follower = found.follower
            async with connected(follower.address) as client:
                await client.call("LeaseGrant", TTL=100, ID=7)
                await client.call("LeaseGrant", TTL=1, ID=8)
                await client.call("Put", key=b"k", lease=8)
                stream = client.open("LeaseKeepAlive")
                for number, expected in ((7, 100), (9, 0)):
                    stream.send(ID=number)
                    assert expected == (await stream.receive()).TTL
                assert pytest.approx(99, abs=1) == (await client.call("LeaseTimeToLive", ID=7)).TTL
                await found.leader.stop()
                await found.until(lambda: found.leader is not None)
                while (await client.call("Range", key=b"k")).kvs:
                    await asyncio.sleep(0.05)
                assert pytest.approx(98, abs=2) == (await client.call("LeaseTimeToLive", ID=7)).TTL

    run(main())
