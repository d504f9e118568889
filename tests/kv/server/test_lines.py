"""Tests of the services Lock and Election: one at a time, in the order in which they came, and nobody for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path

from onerack.kv.messages import LeaderKey
from onerack.kv.server.line import end_of_prefix
from tests.kv.server.client import connected, refused
from tests.kv.server.group import alone, group
from tests.rpc.links import run

LOCK, UNLOCK = "/v3lockpb.Lock/Lock", "/v3lockpb.Lock/Unlock"


def test_a_lock_is_held_by_one_at_a_time_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path) as client:
            order: list[int] = []
            waiting = []
            for n in range(4):
                lease = (await client.call("LeaseGrant", TTL=100)).ID
                stream = client.open(LOCK)
                stream.send(name=b"lock", lease=lease)
                stream.half_close()
                waiting.append(stream)
                while (await client.call("Range", key=b"lock/", range_end=b"lock0")).count < n + 1:
                    await asyncio.sleep(0.01)
            for n, stream in enumerate(waiting):
                held = await stream.receive()
                order.append(n)
                assert held.key.startswith(b"lock/")
                assert not any(later.has_news for later in waiting[n + 1 :])
                await client.call(UNLOCK, key=held.key)
            assert order == [0, 1, 2, 3]
            assert (await client.call("Range", key=b"lock/", range_end=b"lock0")).count == 0

    run(main())


def test_who_gives_up_leaves_the_line_and_who_dies_loses_his_place_with_his_lease(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path) as client:
            first = await client.call("LeaseGrant", TTL=1)
            held = await client.call(LOCK, name=b"lock", lease=first.ID)
            impatient = client.open(LOCK)
            impatient.send(name=b"lock")
            impatient.half_close()
            while (await client.call("Range", key=b"lock/", range_end=b"lock0")).count < 2:
                await asyncio.sleep(0.01)
            impatient.cancel()
            while (await client.call("Range", key=b"lock/", range_end=b"lock0")).count > 1:
                await asyncio.sleep(0.01)
            again = await client.call(LOCK, name=b"lock", lease=first.ID)
            assert again.key == held.key
            heir = await client.call(LOCK, name=b"lock")
            assert heir.key != held.key
            lease = int(heir.key.rpartition(b"/")[2], 16)
            assert (await client.call("LeaseTimeToLive", ID=lease)).grantedTTL == 60

    run(main())


def test_a_lock_under_a_lease_that_is_gone_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path) as client:
            gone = (5, "etcdserver: requested lease not found")
            assert await refused(client.call(LOCK, name=b"lock", lease=77)) == gone

    run(main())


def test_an_election_from_campaign_to_resignation_seen_from_every_node(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path, "n1", "n2", "n3") as found:
            async with (
                connected(found.places["n1"].address) as first,
                connected(found.places["n2"].address) as second,
                connected(found.places["n3"].address) as third,
            ):
                no_leader = (2, "election: no leader")
                assert await refused(third.call("Leader", name=b"e")) == no_leader
                observed = third.open("Observe")
                observed.send(name=b"e")
                one = (await first.call("Campaign", name=b"e", value=b"one")).leader
                assert (await observed.receive()).kv.value == b"one"
                campaign = second.open("Campaign")
                campaign.send(name=b"e", value=b"two")
                campaign.half_close()
                await first.call("Proclaim", leader=one, value=b"still one")
                assert (await observed.receive()).kv.value == b"still one"
                assert (await third.call("Leader", name=b"e")).kv.value == b"still one"
                assert not campaign.has_news
                await first.call("Resign", leader=one)
                two = (await campaign.receive()).leader
                assert (await observed.receive()).kv.value == b"two"
                assert two.key != one.key
                not_leader = (2, "election: not leader")
                assert await refused(first.call("Proclaim", leader=one, value=b"x")) == not_leader
                missing = (2, '"leader" field must be provided')
                assert await refused(first.call("Proclaim", value=b"x")) == missing
                stranger = LeaderKey(name=b"e", key=b"e/0", rev=1)
                await first.call("Resign", leader=stranger)
                assert (await third.call("Leader", name=b"e")).kv.value == b"two"

    run(main())


def test_the_end_of_a_prefix() -> None:
    assert [end_of_prefix(prefix) for prefix in (b"a/", b"a\xff", b"\xff", b"")] == [b"a0", b"b", b"\0", b"\0"]
