"""Tests of the service Watch on real nodes: order, the past, cancelling, progress, and clients that do not read."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from onerack.config import KvConfig
from onerack.kv.messages import PutRequest, RequestOp, WatchCreateRequest
from tests.kv.server.client import Client, ClientStream, StatusError, connected
from tests.kv.server.group import alone, group
from tests.rpc.links import run


async def watching(client: Client, **fields: Any) -> tuple[ClientStream, Any]:
    """A stream with one watch, and the answer that it was created."""
    stream = client.open("Watch")
    stream.send(create_request=WatchCreateRequest(**fields))
    return stream, await stream.receive()


async def events(stream: ClientStream, count: int) -> list[tuple[bytes, bytes, int]]:
    """The next events: key, value, revision."""
    found: list[tuple[bytes, bytes, int]] = []
    while len(found) < count:
        response = await stream.receive()
        found += [(event.kv.key, event.kv.value, event.kv.mod_revision) for event in response.events]
        assert not found or response.header.revision >= found[-1][2]
    return found


def test_a_watcher_is_told_of_every_change_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path) as client:
            stream, created = await watching(client, key=b"k", range_end=b"l")
            assert (created.created, created.watch_id, created.header.revision) == (True, 0, 1)
            await asyncio.gather(*(client.call("Put", key=b"k%d" % n, value=b"v") for n in range(50)))
            assert [revision for _, _, revision in await events(stream, 50)] == list(range(2, 52))

    run(main())


def test_the_past_is_told_first_and_then_the_present(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path) as client:
            for n in range(5):
                await client.call("Put", key=b"k", value=b"%d" % n)
            stream, _ = await watching(client, key=b"k", start_revision=3, prev_kv=True)
            first = await stream.receive()
            assert first.events[0].prev_kv.value == b"0"
            await client.call("Put", key=b"k", value=b"new")
            values = [event.kv.value for event in first.events]
            values += [value for _, value, _ in await events(stream, 5 - len(values))]
            assert values == [b"1", b"2", b"3", b"4", b"new"]

    run(main())


def test_a_watch_on_a_future_revision_gets_nothing_older(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path) as client:
            stream, _ = await watching(client, key=b"k", start_revision=4)
            for n in range(4):
                await client.call("Put", key=b"k", value=b"%d" % n)
            assert await events(stream, 2) == [(b"k", b"2", 4), (b"k", b"3", 5)]

    run(main())


def test_who_asks_for_what_is_compacted_is_told_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path) as client:
            for n in range(5):
                await client.call("Put", key=b"k", value=b"%d" % n)
            await client.call("Compact", revision=5)
            stream, created = await watching(client, key=b"k", start_revision=2)
            assert created.created
            ended = await stream.receive()
            assert (ended.canceled, ended.compact_revision, len(ended.events)) == (True, 5, 0)

    run(main())


def test_many_watches_on_one_stream_are_told_apart_and_cancelled_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path) as client:
            stream, _ = await watching(client, key=b"a")
            stream.send(create_request=WatchCreateRequest(key=b"b", watch_id=7))
            assert (await stream.receive()).watch_id == 7
            stream.send(create_request=WatchCreateRequest(key=b"b", watch_id=7))
            taken = await stream.receive()
            assert (taken.watch_id, taken.canceled) == (-1, True)
            assert taken.cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"
            await client.call("Put", key=b"b", value=b"1")
            assert (await stream.receive()).watch_id == 7
            stream.send(cancel_request={"watch_id": 7})
            ended = await stream.receive()
            assert (ended.watch_id, ended.canceled, ended.created) == (7, True, False)
            await client.call("Put", key=b"b", value=b"2")
            await client.call("Put", key=b"a", value=b"3")
            told = await stream.receive()
            assert (told.watch_id, told.events[0].kv.value) == (0, b"3")

    run(main())


def test_filters_and_fragments(tmp_path: Path) -> None:
    async def main() -> None:
        config = KvConfig(watch_response_bytes_max=1000)
        async with alone(tmp_path, config) as client:
            stream, _ = await watching(client, key=b"k", range_end=b"l", fragment=True)
            other, _ = await watching(client, key=b"k", range_end=b"l", filters=[0])
            puts = [RequestOp(request_put=PutRequest(key=b"k%d" % n, value=bytes(300))) for n in range(9)]
            await client.call("Txn", success=puts)
            await client.call("DeleteRange", key=b"k3")
            found: list[bytes] = []
            fragments = 0
            while len(found) < 10:
                response = await stream.receive()
                fragments += response.fragment
                found += [event.kv.key for event in response.events]
            assert found == [*(b"k%d" % n for n in range(9)), b"k3"]
            assert fragments >= 2
            assert [(event.type, event.kv.key) for event in (await other.receive()).events] == [(1, b"k3")]

    run(main())


def test_progress_is_told_on_demand_and_now_and_then(tmp_path: Path) -> None:
    async def main() -> None:
        async with alone(tmp_path, KvConfig(watch_progress_s=0.05)) as client:
            stream, _ = await watching(client, key=b"k")
            await client.call("Put", key=b"other", value=b"1")
            stream.send(progress_request={})
            told = await stream.receive()
            assert (told.watch_id, told.header.revision, len(told.events)) == (-1, 2, 0)
            periodic, _ = await watching(client, key=b"k", progress_notify=True)
            told = await periodic.receive()
            assert (told.watch_id, told.header.revision, told.created, len(told.events)) == (0, 2, False, 0)

    run(main())


def test_a_client_that_does_not_read_delays_nobody_and_misses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path) as found:
            address = found.places["n1"].address
            async with connected(address, reads=False) as deaf, connected(address) as client:
                stream = deaf.open("Watch")
                stream.send(create_request=WatchCreateRequest(key=b"k"))
                other, _ = await watching(client, key=b"k")
                for n in range(100):
                    await client.call("Put", key=b"k", value=b"%d" % n + bytes(120_000))
                assert len(await events(other, 100)) == 100
                deaf.go_on_reading()
                assert (await stream.receive()).created
                assert [revision for _, _, revision in await events(stream, 100)] == list(range(2, 102))

    run(main())


def test_a_watch_is_not_told_of_what_its_user_may_not_read(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path) as found:
            address = found.places["n1"].address
            async with connected(address) as admin:
                await admin.call("UserAdd", name="root", password="secret")
                await admin.call("RoleAdd", name="root")
                await admin.call("UserGrantRole", user="root", role="root")
                await admin.call("UserAdd", name="ann", password="pw")
                await admin.call("AuthEnable")
                token = (await admin.call("Authenticate", name="ann", password="pw")).token
            async with connected(address, token=token) as client:
                _, refusal = await watching(client, key=b"k")
                assert (refusal.created, refusal.canceled) == (True, True)
                assert "permission denied" in refusal.cancel_reason
            async with connected(address, token="forged") as client:
                stream = client.open("Watch")
                with pytest.raises(StatusError, match="16 etcdserver: invalid auth token"):
                    await stream.receive()

    run(main())


def test_when_the_server_ends_its_watches_are_told_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with group(tmp_path) as found, connected(found.places["n1"].address) as client:
            stream, _ = await watching(client, key=b"k")
            await found.places["n1"].server.close()
            with pytest.raises(StatusError, match="14 etcdserver: server stopped"):
                await stream.receive()

    run(main())
