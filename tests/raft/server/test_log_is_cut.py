"""The log is cut: a snapshot stands for it, taken while commands go on, and sent to whoever was away."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from onerack.raft.server import RaftNode, archive
from onerack.raft.storage import SnapshotWriter, verify
from tests.raft.server.group import CONFIG, Group, Lists, host_of, run, until


def test_who_was_away_while_the_log_was_cut_gets_a_snapshot(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path) as group:
            away = (await group.followers())[0].name
            await group.stop(away)
            rest = list(group.nodes)
            for value in range(30):
                await group.append(rest[0], "a", value)
            for name in rest:
                await group.nodes[name].take_snapshot()
            last = (await group.led()).status()
            assert last.first_index > 20, "what the node lacks is gone"
            node = await group.start(away)
            assert await group.read(away, "a") == list(range(30))
            assert node.status().snapshot_index == last.snapshot_index
            assert await group.append(away, "a", 30) == 31
            await group.agree()
            await group.stop(away)
            await group.start(away)
            assert await group.read(away, "a") == list(range(31)), "and it keeps what it got"

    run(story())


def test_a_node_that_lost_its_disk_joins_under_another_name_by_a_snapshot(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path) as group:
            for value in range(20):
                await group.append("n1", "a", value)
            for node in group.nodes.values():
                await node.take_snapshot()
            lost = (await group.followers())[0].name
            await group.stop(lost)
            shutil.rmtree(tmp_path / lost)
            await (await group.led()).manage("remove", lost)
            await group.join("n4")
            assert await group.read("n4", "a") == list(range(20))
            for name in group.nodes:
                assert group.nodes["n4"].book.address_of(name) is not None
            await group.agree()

    run(story())


def test_snapshots_are_taken_by_themselves_while_commands_go_on_and_the_disk_stays_small(tmp_path: Path) -> None:
    async def story() -> None:
        config = replace(CONFIG, snapshot_bytes=20_000, segment_bytes=512 * 1024, entry_bytes_max=64 * 1024)
        async with Group(tmp_path, config=config) as group:
            for round in range(40):
                keys = [f"{round}-{number}" for number in range(60)]
                await asyncio.gather(*(group.append(name, key, round) for key in keys for name in group.nodes))
            # The first ones may still be under way: commands do not wait for them.
            await until(lambda: all(node.status().snapshot_index for node in group.nodes.values()))
            for node in group.nodes.values():
                assert host_of(node).storage.snapshots.indexes()[-1] == host_of(node).storage.snapshots.newest().index  # type: ignore[union-attr]
                assert len(host_of(node).storage.snapshots.indexes()) <= 2
            await group.agree()
            assert all(
                sorted(values) == [int(key.split("-")[0])] * 3 for key, values in group.machines["n1"].lists.items()
            )
        async with Group(tmp_path, config=config) as again:
            assert len(again.machines["n1"].lists) + len(again.machines["n2"].lists) > 0
            await again.read("n3", "x")
            await again.agree()
            assert len(again.machines["n3"].lists) == 40 * 60

    run(story())


def test_a_snapshot_is_consistent_although_commands_are_applied_between_its_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, write = threading.Event(), SnapshotWriter.write

    def slow_write(self: SnapshotWriter, piece: bytes) -> None:
        if self.size > 100:
            gate.wait()
        write(self, piece)

    monkeypatch.setattr(SnapshotWriter, "write", slow_write)

    async def story() -> None:
        group = Group(tmp_path, ("n1",))
        async with group:
            await asyncio.gather(*(group.append("n1", f"{key}", 0) for key in range(50)))
            node, machine = group.nodes["n1"], group.machines["n1"]
            index = node.applied
            taking = asyncio.create_task(node.take_snapshot())
            await until(lambda: 0 < machine.pieces_given < 50)
            assert await group.append("n1", "0", 1) == 2, "in the middle of it"
            assert 0 < machine.pieces_given < 50, "commands do not wait for it"
            gate.set()
            await taking
            assert node.status().snapshot_index == index
            copy = Lists()
            host_of(node).archive._snapshots._machines[32] = copy
            host_of(node).archive._snapshots.restore(host_of(node).storage.snapshots.newest())  # type: ignore[arg-type]
            assert copy.lists == {f"{key}": [0] for key in range(50)}

    run(story())


def test_two_snapshots_at_once_are_taken_one_after_the_other(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path, ("n1",)) as group:
            node: RaftNode = group.nodes["n1"]
            await group.append("n1", "a", 1)
            await asyncio.gather(*(node.take_snapshot() for _ in range(5)))
            assert host_of(node).storage.snapshots.indexes() == [node.applied]

    run(story())


def test_a_node_is_closed_while_it_takes_a_snapshot(tmp_path: Path) -> None:
    async def story() -> None:
        group = Group(tmp_path, ("n1",))
        async with group:
            await asyncio.gather(*(group.append("n1", f"{key}", 0) for key in range(50)))
            taking = asyncio.create_task(group.nodes["n1"].take_snapshot())
            await until(lambda: group.machines["n1"].pieces_given > 5)
        await asyncio.gather(taking, return_exceptions=True)
        assert [path.suffix for path in (tmp_path / "n1" / "raft").iterdir() if "snap" in path.name] in ([], [".snap"])
        async with group:
            await group.read("n1", "0")
            assert len(group.machines["n1"].lists) == 50

    run(story())


def test_the_leader_is_lost_while_it_sends_a_snapshot_and_the_next_one_sends_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path) as group:
            away = (await group.followers())[0].name
            await group.stop(away)
            rest = list(group.nodes)
            await asyncio.gather(*(group.append(rest[0], f"{key}", key) for key in range(200)))
            for name in rest:
                await group.nodes[name].take_snapshot()
            leader = await group.led()
            node = await group.start(away)
            await until(lambda: host_of(leader).archive._sending or node.applied)
            await group.stop(leader.name)
            assert await group.read(away, "199") == [199]
            assert len(group.machines[away].lists) == 200
            await group.start(leader.name)
            await group.agree()

    run(story())


def test_a_witness_cuts_its_log_and_votes_and_counts_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "WITNESS_ENTRIES", 20)

    async def story() -> None:
        async with Group(tmp_path, ("n1", "n2")) as group:
            witness = await group.join("w", role="witness")
            for value in range(60):
                await group.append("n1", "a", value)
            await until(lambda: witness.status().first_index > 40)
            leader = (await group.led()).name
            [other] = {"n1", "n2"} - {leader}
            await group.stop(other)
            await group.stop("w")
            report = verify(str(tmp_path / "w"))
            assert report.is_right
            assert [each.mark.configuration.witnesses for each in report.snapshots][-1] == ("w",)
            await group.start("w", address=group.address_of("w"), joins=True)
            assert await group.append(leader, "a", 60) == 61, "the witness is the second of three"
            await group.start(other)
            assert await group.read(other, "a") == list(range(61))
            await group.stop(leader)
            assert await group.surely(other, "a", 61) == 62, "the witness votes for the one that has the log"
            assert group.machines["w"].lists == {}

    run(story())


def test_a_witness_that_was_removed_is_never_taken_for_a_node_that_has_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "WITNESS_ENTRIES", 5)

    async def story() -> None:
        async with Group(tmp_path, ("n1", "n2")) as group:
            witness = await group.join("w", role="witness")
            for value in range(20):
                await group.append("n1", "a", value)
            await until(lambda: witness.status().first_index > 5)
            await (await group.led()).manage("remove", "w")
            await group.append("n1", "a", 20)
            await (await group.led()).manage("learner", "w")
            await group.append("n1", "a", 21)
            with pytest.raises(AssertionError, match="under another name"):
                await witness.wait()
            assert group.machines["w"].lists == {}

    run(story())
