"""Nodes of a group: any takes commands and reads; what was answered survives whoever is lost."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onerack.errors import Corruption, NotExecuted, Overloaded, Unknown, UsageError
from onerack.raft.commands import MEMBERS, USER
from onerack.raft.server import RaftNode
from tests.raft.server.group import Group, Lists, append, host_of, run, until


def test_every_node_takes_commands_and_reads_what_any_other_was_told(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path) as group:
            for number, name in enumerate(group.nodes, 1):
                assert await group.append(name, "a", number) == number
                for other in group.nodes:
                    assert await group.read(other, "a") == list(range(1, number + 1))
            await group.agree()

    run(story())


def test_many_commands_at_every_node_at_once_are_each_applied_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path) as group:
            calls = [group.append(name, name, value) for value in range(300) for name in group.nodes]
            await asyncio.gather(*calls)
            for name in group.nodes:
                assert sorted(await group.read("n1", name)) == list(range(300))
            leader = await group.led()
            assert leader.status().last_index < 300, "commands of one turn are one entry"
            await group.agree()

    run(story())


def test_all_nodes_are_restarted_and_nothing_is_lost(tmp_path: Path) -> None:
    async def story() -> None:
        group = Group(tmp_path)
        async with group:
            for value in range(20):
                await group.append("n1", "a", value)
        async with group:
            assert await group.read("n2", "a") == list(range(20))
            await group.agree()

    run(story())


def test_large_commands_are_read_from_their_files_again_and_sent_to_who_joins(tmp_path: Path) -> None:
    async def story() -> None:
        group = Group(tmp_path)
        large = msgspec.msgpack.encode(("a", 7, bytes(20_000)))
        async with group:
            for _ in range(3):
                await group.nodes["n1"].execute(USER, large)
        async with group:
            core = host_of(await group.led()).core
            entries = [core.entry_at(index) for index in range(core.first_index, core.last_index + 1)]
            kinds = [type(entry.payload).__name__ for entry in entries if entry and len(entry.payload) > 20_000]
            assert kinds == ["memoryview"] * 3
            await group.nodes["n1"].execute(USER, large)
            joined = await group.join("n4")
            await until(lambda: len(group.machines["n4"].of("a")) == 4)
            assert joined.status().configuration.learners == ("n4",)
            await group.agree()

    run(story())


def test_the_leader_is_closed_and_the_others_go_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path) as group:
            leader = await group.led()
            await group.append("n1", "a", 1)
            await group.stop(leader.name)
            name = next(iter(group.nodes))
            assert await group.surely(name, "a", 2) == 2
            await group.start(leader.name)
            assert await group.read(leader.name, "a") == [1, 2]
            await group.agree()

    run(story())


def test_a_leader_that_is_closed_hands_over_and_the_others_need_not_miss_it_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with Group(tmp_path) as group:
            leader = await group.led()
            await group.append("n1", "a", 1)
            caplog.clear()
            await group.stop(leader.name)
            heir = await group.led()
            events = [record.getMessage().split()[:2] for record in caplog.records]
            handed_over = events.index([leader.name, "transfers"])
            rest = [event for event in events[handed_over:] if event[1].startswith("becomes")]
            assert rest[:2] == [[heir.name, "becomes_candidate"], [heir.name, "becomes_leader"]]

    with caplog.at_level(logging.INFO):
        run(story())


def test_commands_wait_for_a_leader_and_are_executed_once(tmp_path: Path) -> None:
    async def story() -> None:
        group = Group(tmp_path)
        node = await group.start("n1")
        early = asyncio.create_task(group.append("n1", "a", 1))
        reading = asyncio.create_task(node.catch_up())
        await until(lambda: node.status().role == "precandidate")
        assert not early.done()
        assert not reading.done()
        await group.start("n2")
        assert await early == 1
        await reading
        await group.start("n3")
        await group.agree()
        await group.__aexit__()

    run(story())


def test_commands_and_reads_for_which_no_leader_comes_were_surely_not_executed(tmp_path: Path) -> None:
    async def story() -> None:
        group = Group(tmp_path, request_timeout_s=0.3)
        node = await group.start("n1")
        for call in (group.append("n1", "a", 1), node.catch_up()):
            with pytest.raises(NotExecuted) as raised:
                await call
            assert raised.value.cause == "no_leader"
        with pytest.raises(NotExecuted, match="nobody leads"):
            await node.manage("remove", "n3")
        await group.start("n2")
        await group.led()
        assert await group.read("n1", "a") == []
        await group.__aexit__()

    run(story())


def test_a_leader_that_is_alone_cannot_say_what_became_of_a_command(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path, request_timeout_s=0.5) as group:
            leader = await group.led()
            others = [node.name for node in await group.followers()]
            await asyncio.gather(*(group.stop(name) for name in others))
            outcome: list[Any] = []
            leader.propose(USER, append("a", 1), outcome.append)
            await until(lambda: outcome)
            assert isinstance(outcome[0], (Unknown, NotExecuted))
            if isinstance(outcome[0], NotExecuted):
                assert outcome[0].cause == "no_leader", "it had stepped down before it took it"

    run(story())


def test_a_node_takes_nothing_before_it_is_started_and_after_it_is_closed(tmp_path: Path) -> None:
    async def story() -> None:
        group = Group(tmp_path, ("n1",))
        node = group.make("n1")
        for _ in range(2):
            for call in (node.execute(USER, b""), node.catch_up(), node.manage("remove", "n1"), node.take_snapshot()):
                with pytest.raises(NotExecuted) as raised:
                    await call
                assert raised.value.cause == "stopping"
            if node._opening is None:
                await node.start()
                await node.close()
        assert not node.is_leader
        assert node.leader == ""
        await node.close()
        with pytest.raises(UsageError, match="started once"):
            await node.start()

    run(story())


def test_what_is_closed_while_commands_wait_tells_each_of_them(tmp_path: Path) -> None:
    async def story() -> None:
        group = Group(tmp_path)
        node = await group.start("n1")
        outcomes: list[Any] = []
        for value in range(10):
            node.propose(USER, append("a", value), outcomes.append)
            node.read(outcomes.append)
        await asyncio.gather(node.close(), node.close())
        await node.close()
        assert len(outcomes) == 20
        assert all(isinstance(outcome, NotExecuted) and outcome.cause == "stopping" for outcome in outcomes)

    run(story())


def test_a_node_may_be_closed_while_it_starts_and_its_directory_is_free_again(tmp_path: Path) -> None:
    async def story() -> None:
        for turns in (0, 1, 2, 5, 20, 100):
            group = Group(tmp_path, ("n1",))
            node = group.make("n1")
            starting = asyncio.create_task(node.start())
            for _ in range(turns):
                await asyncio.sleep(0)
            await node.close()
            [outcome] = await asyncio.gather(starting, return_exceptions=True)
            assert outcome is None or isinstance(outcome, (NotExecuted, UsageError)), outcome
        node = group.make("n1")
        starting = asyncio.create_task(node.start())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        async with Group(tmp_path, ("n1",)) as group:
            assert await group.append("n1", "a", 1) == 1

    run(story())


def test_a_closed_node_before_it_was_started_never_starts(tmp_path: Path) -> None:
    async def story() -> None:
        node = Group(tmp_path, ("n1",)).make("n1")
        await node.close()
        with pytest.raises(UsageError):
            await node.start()

    run(story())
    assert list(tmp_path.iterdir()) == []


def test_an_apply_that_raises_halts_the_node_which_says_why_and_nobody_waits_in_vain(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Fragile(Lists):
        def apply(self, command: bytes, wanted: bool) -> int:
            if command == b"bad":
                raise ValueError("no such command")
            return super().apply(command, wanted)

    async def story() -> None:
        group = Group(tmp_path, ("n1",))
        group.machines["n1"] = machine = Fragile()
        node = RaftNode("n1", tmp_path / "n1", members=group.addresses, machines={USER: machine}, config=group.config)
        async with node:
            await node.execute(USER, append("a", 1))
            roles: list[bool] = []
            node.on_role.append(lambda: roles.append(node.is_leader))
            with pytest.raises(Unknown) as raised:
                await node.execute(USER, b"bad")
            assert raised.value.cause == "stopping"
            with pytest.raises(ValueError, match="no such command"):
                await node.wait()
            with pytest.raises(NotExecuted, match="has halted: no such command"):
                await node.execute(USER, append("a", 2))
            assert roles[-1] is False

    with caplog.at_level(logging.ERROR):
        run(story())
    assert "n1 has halted: no such command" in caplog.text


def test_a_command_for_a_machine_that_is_not_mounted_is_answered_and_halts_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path) as group:
            outcome = asyncio.get_running_loop().create_future()
            group.nodes["n1"].propose(99, b"x", outcome.set_result)
            refusal = await outcome
            assert isinstance(refusal, NotExecuted)
            assert refusal.cause == "no_machine"
            nonsense = asyncio.get_running_loop().create_future()
            group.nodes["n2"].propose(MEMBERS, b"\xff nonsense", nonsense.set_result)
            assert (await nonsense).cause == "invalid"
            assert await group.append("n3", "a", 1) == 1
            await group.agree()

    run(story())


def test_a_command_that_is_too_long_is_refused_and_the_longest_is_not(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path) as group:
            for node in group.nodes.values():
                longest = append("x" * (node.command_bytes_max - 100), 1)
                await node.execute(USER, longest)
                with pytest.raises(NotExecuted) as raised:
                    await node.execute(USER, bytes(node.command_bytes_max + 1))
                assert raised.value.cause == "too_large"
            await group.agree()

    run(story())


def test_what_waits_for_a_leader_is_bounded(tmp_path: Path) -> None:
    async def story() -> None:
        node = await Group(tmp_path).start("n1")
        outcomes: list[Any] = []
        while not outcomes:
            node.propose(USER, bytes(50_000), outcomes.append)
        assert isinstance(outcomes[0], Overloaded)
        assert host_of(node).intake.proposals.gathered_bytes < 2 * node.config.uncommitted_bytes_max
        await node.close()

    run(story())


def test_two_nodes_cannot_have_one_directory_nor_another_node_s(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path) as group:
            with pytest.raises(UsageError):
                await group.make("n1").start()
            other = RaftNode("n9", tmp_path / "n1", members={"n9": "tcp://127.0.0.1:0"}, machines={})
            with pytest.raises(UsageError):
                await other.start()
            await group.stop("n1")
            for wrong in (
                RaftNode("n9", tmp_path / "n1", members={"n9": "tcp://127.0.0.1:0"}, machines={}),
                group.make("n1", cluster="another"),
            ):
                with pytest.raises(UsageError):
                    await wrong.start()
            await group.start("n1")
            await group.append("n1", "a", 1)

    run(story())


def test_an_address_in_use_is_said_at_once_and_the_directory_is_free_again(tmp_path: Path) -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
            node = RaftNode("n1", tmp_path, members={"n1": address}, machines={})
            with pytest.raises(UsageError, match="in use"):
                await node.start()
            await node.close()
        async with RaftNode("n1", tmp_path, members={"n1": "tcp://127.0.0.1:0"}, machines={}) as second:
            await until(lambda: second.is_leader)
            assert second.address.startswith("tcp://127.0.0.1:")
            assert not second.address.endswith(":0")

    run(story())


def test_a_node_of_another_cluster_is_neither_heard_nor_passed_over_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        group = Group(tmp_path)
        for name in ("n1", "n2"):
            await group.start(name)
        await group.led()
        stranger = await group.start("n3", cluster="another")
        await until(lambda: "cannot be reached yet" in caplog.text and "another" in caplog.text)
        await group.append("n1", "a", 1)
        assert group.machines["n3"].lists == {}
        assert stranger.leader == ""
        await group.__aexit__()

    with caplog.at_level(logging.WARNING):
        run(story())


def test_settings_that_make_no_sense_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="raft's own"):
        RaftNode("n1", tmp_path, members={"n1": "tcp://127.0.0.1:0"}, machines={MEMBERS: Lists()})
    with pytest.raises(UsageError, match="not among the members"):
        RaftNode("n9", tmp_path, members={"n1": "tcp://127.0.0.1:0"}, machines={})
    assert list(tmp_path.iterdir()) == []


def test_whoever_is_told_first_is_the_one_who_asked_first(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path, ("n1",)) as group:
            told: list[int] = []
            for value in range(100):
                group.nodes["n1"].propose(USER, append("a", value), told.append)
            await until(lambda: len(told) == 100)
            assert told == list(range(1, 101))
            assert group.machines["n1"].of("a") == list(range(100))

    run(story())


def test_a_damaged_log_is_refused_and_nothing_is_left_open(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path, ("n1",)) as group:
            for value in range(50):
                await group.append("n1", "a", value)
        [segment, *_] = sorted((tmp_path / "n1" / "raft").glob("*.seg"))
        content = bytearray(segment.read_bytes())
        content[5000] ^= 0xFF
        segment.write_bytes(content)
        node = group.make("n1")
        with pytest.raises(Corruption):
            await node.start()
        await node.close()
        content[5000] ^= 0xFF
        segment.write_bytes(content)
        async with Group(tmp_path, ("n1",)) as again:
            assert await again.read("n1", "a") == list(range(50))

    run(story())


def test_a_story_that_fails_leaves_no_node_running_whose_sockets_another_test_would_be_blamed_for(
    tmp_path: Path,
) -> None:
    started: list[RaftNode] = []

    async def story() -> None:
        group = Group(tmp_path, ("n1",))
        started.append(await group.start("n1"))
        raise LookupError("what this story is about")

    with pytest.raises(LookupError):
        run(story())
    assert started[0]._ended.is_set()
