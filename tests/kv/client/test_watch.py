"""Watches of the native interface: ordered, unique, whole, resumable."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from onerack.config import KvConfig
from onerack.kv import client as kv
from onerack.kv.client.values import Delete, Events, Put
from onerack.kv.core import Kind, KvMachine, encode_command
from onerack.kv.core.errors import Refused
from onerack.kv.core.store import EVERYTHING
from onerack.kv.messages import LIBRARY
from onerack.kv.server import native_watch
from onerack.kv.server.native_watch import Watch, Watches
from tests.kv.client.nodes import Nodes, run


def put(machine: KvMachine, key: bytes, value: bytes = b"") -> None:
    request = LIBRARY["PutRequest"](key=key, value=value).SerializeToString()
    machine.apply(encode_command(Kind.PUT, b"", request), False)


def compact(machine: KvMachine, revision: int) -> None:
    request = LIBRARY["CompactionRequest"](revision=revision).SerializeToString()
    machine.apply(encode_command(Kind.COMPACT, b"", request), False)
    machine.store.sweep(1000)


async def told(watch: Watch, count: int) -> list[tuple[int, bytes]]:
    """(revision, key) of the next so many events."""
    found: list[tuple[int, bytes]] = []
    while len(found) < count:
        items: list[Any] = (await watch.more()).events
        found += [(each.kv.mod, each.kv.key) for each in items]
    return found


def test_a_watch_tells_what_happens_in_order_and_only_what_was_asked_for(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            store = nodes.client
            await store.put("a/0", "before")
            watch = store.watch_all("a/", prefix=True, previous=True)
            assert await anext(watch) == Events(2)
            await store.put("a/1", "1")
            await store.put("b", "other")
            await store.txn([], [Put(b"a/2", b"2"), Delete(b"a/1")])
            events: list[kv.Event] = []
            while len(events) < 3:
                events += (await anext(watch)).events
            assert [(each.kind, each.kv.key, each.kv.mod_revision) for each in events] == [
                ("put", b"a/1", 3), ("put", b"a/2", 5), ("delete", b"a/1", 5),
            ]  # fmt: skip
            assert events[2].previous is not None
            assert events[2].previous.value == b"1"
            assert events[0].previous is None
            await watch.aclose()  # type: ignore[attr-defined]  # it is a generator

    run(test)


def test_a_watch_from_the_first_revision_hears_everything(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            await nodes.client.put("a", "first")
            assert (await anext(nodes.client.watch("a", revision=1))).kv.value == b"first"

    run(test)


def test_a_watch_from_the_past_and_with_filters(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path) as nodes:
            store = nodes.client
            for number in range(2, 7):
                await store.put("a", str(number))
            await store.delete("a")
            watch = store.watch("a", revision=4)
            assert [(await anext(watch)).kv.value for _ in range(4)] == [b"4", b"5", b"6", b""]
            gone = store.watch("a", revision=2, puts=False)
            assert (await anext(gone)).kind == "delete"
            await store.compact(5)
            with pytest.raises(kv.KvRefused, match="has been compacted"):
                await anext(store.watch("a", revision=2))

    run(test)


def test_a_store_never_compacted_tells_everything_from_revision_one() -> None:
    async def test() -> None:
        machine = KvMachine()
        put(machine, b"a")
        watch = Watches(machine).begin(b"a", None, 1)
        assert [event.kv.key for event in (await watch.more()).events] == [b"a"]

    run(test)


def test_a_watch_goes_on_at_another_node_where_it_was(tmp_path: Path) -> None:
    async def test() -> None:
        async with Nodes(tmp_path, 3) as nodes:
            store, before = nodes.client, nodes.leader
            watch = store.watch("k")
            pending = asyncio.ensure_future(anext(watch))
            seen: list[bytes] = []
            await store.put("k", "0")
            while not pending.done():  # It may begin after the first ones.
                await store.put("k", "0")
                await asyncio.sleep(0)
            seen.append((await pending).kv.value)
            await nodes.nodes.pop(before).close()
            other = await nodes.connect(*nodes.nodes)
            for number in range(1, 4):
                await other.put("k", str(number))
            while seen[-1] != b"3":
                seen.append((await anext(watch)).kv.value)
            assert [each for each in seen if each != b"0"] == [b"1", b"2", b"3"]

    run(test)


def test_a_client_that_does_not_read_is_sent_back_to_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_watch, "GATHERED_MAX", 10)

    async def test() -> None:
        machine = KvMachine()
        watches = Watches(machine)
        watch = watches.begin(b"a", EVERYTHING, 0)
        waiting = asyncio.ensure_future(told(watch, 100))
        await asyncio.sleep(0)
        for number in range(100):
            put(machine, b"%03d-never" % number)
            put(machine, b"a%03d" % number)
        assert not watches.interest  # too much has gathered
        expected = [(number, b"a%03d" % ((number - 3) // 2)) for number in range(3, 202, 2)]
        assert await waiting == expected
        watch.end()
        assert not watches.all

    run(test)


def test_whoever_is_too_late_for_the_log_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_watch, "GATHERED_MAX", 10)

    async def test() -> None:
        machine = KvMachine()
        watch = Watches(machine).begin(b"a", None, 0)
        first = asyncio.ensure_future(watch.more())
        await asyncio.sleep(0)
        for _ in range(50):
            put(machine, b"a")
        compact(machine, 40)
        assert len((await first).events) == 10  # those are true, and were its own
        with pytest.raises(Refused, match="compacted"):
            await watch.more()

    run(test)


def test_a_quiet_watch_outlives_compaction_and_a_snapshot() -> None:
    async def test() -> None:
        machine, other = KvMachine(), KvMachine()
        watch = Watches(machine).begin(b"quiet", None, 0)
        waiting = asyncio.ensure_future(told(watch, 2))
        await asyncio.sleep(0)
        for number in range(100):
            put(machine, b"loud%d" % number)
            put(other, b"loud%d" % number)
        compact(machine, 90)
        put(other, b"quiet")
        machine.restore(other.snapshot())
        await asyncio.sleep(0)
        put(machine, b"quiet")
        assert await waiting == [(102, b"quiet"), (103, b"quiet")]

    run(test)


def test_a_revision_that_is_too_large_comes_in_parts_and_only_the_last_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native_watch, "_EVENTS_MAX", 5)

    async def test() -> None:
        machine = KvMachine(KvConfig(txn_ops_max=100))
        kind = LIBRARY["RequestOp"]
        ops = [kind(request_put=LIBRARY["PutRequest"](key=b"k%02d" % number)) for number in range(50)]
        machine.apply(encode_command(Kind.TXN, b"", LIBRARY["TxnRequest"](success=ops).SerializeToString()), False)
        put(machine, b"k99")
        watch = Watches(machine).begin(b"k", EVERYTHING, 2)
        items = [await watch.more() for _ in range(4)]
        assert [(item.revision, len(item.events)) for item in items] == [(1, 20), (1, 20), (2, 10), (3, 1)]

    run(test)
