"""Disks that are full, fail, or are slow: nothing is acknowledged that is not kept, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import itertools
import threading
from pathlib import Path
from typing import Any

import pytest

from onerack.errors import CallError, NotExecuted, StorageFull, Unknown
from onerack.raft.storage import SnapshotWriter
from onerack.raft.storage.log import RaftLog
from onerack.raft.storage.segments import SegmentMaker
from onerack.runtime.real import RealDisk, RealFixedFile
from tests.raft.server.group import CONFIG, Group, host_of, run, until


class BadFile(RealFixedFile):
    def __init__(self, path: str, disk: BadDisk) -> None:
        super().__init__(path)
        self._disk = disk

    def sync(self) -> None:
        if self._disk.fails:
            raise OSError(5, "the disk is broken")
        self._disk.gate.wait()
        super().sync()


class BadDisk(RealDisk):
    """The operating system's, and what befalls it."""

    def __init__(self) -> None:
        self.fails = False
        self.is_full = False
        self.gate = threading.Event()
        self.gate.set()

    def open_fixed(self, path: str) -> RealFixedFile:
        return BadFile(path, self)

    def open_append(self, path: str) -> Any:
        if self.is_full:
            raise StorageFull(path)
        return super().open_append(path)


def test_a_sync_that_fails_halts_the_node_and_nothing_is_acknowledged(tmp_path: Path) -> None:
    async def story() -> None:
        disk = BadDisk()
        async with Group(tmp_path, ("n1",), disk=disk) as group:
            await group.append("n1", "a", 1)
            node = group.nodes["n1"]
            disk.fails = True
            with pytest.raises(CallError) as raised:
                await group.append("n1", "a", 2)
            assert raised.value.executed is None
            with pytest.raises(OSError, match="broken"):
                await node.wait()
            disk.fails = False
            with pytest.raises(NotExecuted, match="broken"):
                await group.append("n1", "a", 3)
            assert group.machines["n1"].of("a") == [1]
            assert not node.is_leader

    run(story())


def test_when_a_leader_s_disk_fails_the_others_go_on(tmp_path: Path) -> None:
    async def story() -> None:
        disks = {name: BadDisk() for name in ("n1", "n2", "n3")}
        group = Group(tmp_path)
        for name, disk in disks.items():
            await group.start(name, disk=disk)
        leader = await group.led()
        await group.append("n1", "a", 1)
        disks[leader.name].fails = True
        rest = [name for name in group.nodes if name != leader.name]
        with pytest.raises(OSError, match="broken"):
            await asyncio.gather(leader.wait(), group.surely(rest[0], "b", 1))
        await group.stop(leader.name)
        assert await group.surely(rest[1], "a", 2) == 2
        await group.__aexit__()

    run(story())


def test_a_slow_disk_is_waited_for_and_the_loop_is_not_held(tmp_path: Path) -> None:
    async def story() -> None:
        disk = BadDisk()
        async with Group(tmp_path, ("n1",), disk=disk) as group:
            node = group.nodes["n1"]
            host_of(node).drive._pace.is_fast = False
            disk.gate.clear()
            appending = asyncio.create_task(group.append("n1", "a", 1))
            await until(lambda: host_of(node).drive._is_writing)
            second = asyncio.create_task(group.append("n1", "a", 2))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not appending.done()
            assert group.machines["n1"].of("a") == []
            disk.gate.set()
            assert (await appending, await second) == (1, 2)

    run(story())


def test_a_full_disk_is_met_ahead_of_need_refused_definitely_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log cannot get its next segment. Until there is room again the leader takes nothing, and keeps its seat."""

    async def story() -> None:
        disk = BadDisk()
        async with Group(tmp_path, ("n1",), disk=disk) as group:
            node = group.nodes["n1"]
            disk.is_full = True
            count, error = await fill(group, "n1")
            assert (error.executed, error.cause) == (False, "storage_full")
            assert node.storage_full is not None
            assert await group.read("n1", "fill") == list(range(count))
            assert not node.has_halted
            disk.is_full = False
            await until(lambda: node.storage_full is None)
            assert await group.surely("n1", "fill", count) == count + 1
        async with group:
            assert await group.read("n1", "fill") == list(range(count + 1))

    monkeypatch.setattr("tests.raft.server.group.append", padded)
    run(story())


def padded(key: str, value: int) -> bytes:
    """A command as long as any that is taken, for a machine that ignores what comes behind its value."""
    from msgspec import msgpack

    return msgpack.encode((key, value, bytes(100_000)))


async def fill(group: Group, name: str) -> tuple[int, CallError]:
    """Appends until it is refused: how many were taken, and the refusal."""
    for value in range(1000):
        try:
            await group.append(name, "fill", value)
        except CallError as error:
            return value, error
    raise AssertionError("the disk was never full")


def test_a_leader_with_a_full_disk_steps_aside_for_one_with_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        disks = {name: BadDisk() for name in ("n1", "n2", "n3")}
        group = Group(tmp_path)
        for name, disk in disks.items():
            await group.start(name, disk=disk)
        leader = await group.led()
        disks[leader.name].is_full = True
        other = next(name for name in group.nodes if name != leader.name)
        for value in range(30):
            await group.surely(other, "fill", value)
        assert (await group.led()).name != leader.name
        assert not leader.has_halted
        assert leader.storage_full is not None
        assert leader.applied < group.nodes[other].applied, "it takes no more entries"
        disks[leader.name].is_full = False
        await group.agree()
        assert group.machines[leader.name].of("fill") == list(range(30))
        await group.__aexit__()

    monkeypatch.setattr("tests.raft.server.group.append", padded)
    run(story())


def test_a_snapshot_for_which_there_is_no_room_is_given_up_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: SnapshotWriter, piece: bytes) -> None:
        raise StorageFull("the snapshot")

    async def story() -> None:
        async with Group(tmp_path, ("n1",)) as group:
            await group.append("n1", "a", 1)
            node = group.nodes["n1"]
            with monkeypatch.context() as patch:
                patch.setattr(SnapshotWriter, "write", refuse)
                with pytest.raises(StorageFull):
                    await node.take_snapshot()
            assert not node.has_halted
            assert node.status().snapshot_index == 0
            assert await group.append("n1", "a", 2) == 2
            await node.take_snapshot()
            assert node.status().snapshot_index == node.applied

    run(story())


def test_what_there_is_no_room_for_at_all_waits_for_room_and_is_acknowledged_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up while the next segment is being made, and the present one ends before that is known."""
    real, tries = RaftLog.append, 0

    def refuse(self: RaftLog, writes: Any) -> None:
        nonlocal tries
        tries += 1
        raise StorageFull("the log")

    async def story() -> None:
        async with Group(tmp_path, ("n1",)) as group:
            monkeypatch.setattr(RaftLog, "append", refuse)
            appending = asyncio.create_task(group.append("n1", "a", 1))
            await until(lambda: tries > 1)
            assert not appending.done()
            assert group.machines["n1"].of("a") == []
            assert not group.nodes["n1"].has_halted
            monkeypatch.setattr(RaftLog, "append", real)
            assert await appending == 1
        async with group:
            assert await group.read("n1", "a") == [1]

    run(story())


def test_a_node_that_waits_for_room_may_be_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    def refuse(self: RaftLog, writes: Any) -> None:
        nonlocal tries
        tries += 1
        raise StorageFull("the log")

    async def story() -> None:
        async with Group(tmp_path, ("n1",)) as group:
            with monkeypatch.context() as patch:
                patch.setattr(RaftLog, "append", refuse)
                appending = asyncio.create_task(group.append("n1", "a", 1))
                await until(lambda: tries)
                await group.stop("n1")
            with pytest.raises(Unknown):
                await appending
        async with group:
            assert await group.read("n1", "a") == []

    run(story())


def test_a_segment_that_ends_before_the_next_one_could_be_made_is_followed_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        disk = BadDisk()
        async with Group(tmp_path, ("n1",), disk=disk) as group:
            node = group.nodes["n1"]
            # As if the thread that makes the next segment were so slow that nothing has told it yet.
            monkeypatch.setattr(SegmentMaker, "begin", lambda *_: None)
            disk.is_full = True
            values = itertools.count()
            appending: list[asyncio.Task[int]] = []
            while node.storage_full is None:
                appending.append(asyncio.create_task(group.append("n1", "fill", next(values))))
                await asyncio.wait(appending, timeout=0.01)
            assert not node.has_halted
            disk.is_full = False
            await asyncio.gather(*appending)
            assert await group.surely("n1", "fill", next(values)) == len(appending) + 1
        monkeypatch.undo()
        async with group:
            assert sorted(await group.read("n1", "fill")) == list(range(len(appending) + 1))

    monkeypatch.setattr("tests.raft.server.group.append", padded)
    run(story())


assert CONFIG.segment_bytes == 1 << 20, "fill() relies on few commands filling a segment"
