"""The group changes while it works: learners, voters, witnesses, other leaders; and nobody is told a lie about it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from onerack.errors import CallError, NotExecuted, UsageError
from onerack.raft.messages import Configuration
from onerack.raft.server import RaftNode
from onerack.raft.server.members import Member
from tests.raft.server.group import Group, run, until


async def surely(node: RaftNode, order: str, name: str) -> None:
    """Tries as long as it was definitely not done: a learner has to catch up first, and so on."""
    while True:
        try:
            await node.manage(order, name)
            return
        except NotExecuted:
            await asyncio.sleep(0.01)


def test_a_learner_joins_with_its_address_gets_the_log_and_is_promoted(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path) as group:
            for value in range(10):
                await group.append("n1", "a", value)
            learner = await group.join("n4")
            await until(lambda: learner.applied >= 10)
            assert learner.status().configuration.learners == ("n4",)
            assert await group.read("n4", "a") == list(range(10))
            assert await group.append("n4", "a", 10) == 11
            await surely(learner, "voter", "n4")
            everybody = ("n1", "n2", "n3", "n4")
            await until(lambda: all(node.status().configuration.voters == everybody for node in group.nodes.values()))
            for node in group.nodes.values():
                assert node.book.address_of("n4") == group.address_of("n4")
            await group.agree()

    run(story())


def test_a_learner_does_not_count_and_a_voter_does(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path, ("n1",), request_timeout_s=1.0) as group:
            await group.join("n2")
            await group.stop("n2")
            assert await group.append("n1", "a", 1) == 1
            await group.start("n2", joins=True, address=group.address_of("n2"))
            await surely(group.nodes["n1"], "voter", "n2")
            await group.stop("n2")
            with pytest.raises(CallError):
                await group.append("n1", "a", 2)

    run(story())


def test_a_change_that_was_reported_done_is_committed_everywhere_it_must_be(tmp_path: Path) -> None:
    """After `remove` has returned, the node that was removed may be burnt."""

    async def story() -> None:
        async with Group(tmp_path, ("n1", "n2")) as group:
            leader = await group.led()
            [other] = await group.followers()
            await leader.manage("remove", other.name)
            await group.stop(other.name)
            assert await group.append(leader.name, "a", 1) == 1
            await group.stop(leader.name)
            await group.start(leader.name)
            await group.led()
            assert await group.read(leader.name, "a") == [1]

    run(story())


def test_the_leader_removes_itself_and_the_others_go_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path) as group:
            leader = await group.led()
            await leader.manage("remove", leader.name)
            rest = [name for name in group.nodes if name != leader.name]
            assert await group.surely(rest[0], "a", 1) == 1
            wanted = Configuration(tuple(rest))
            await until(lambda: all(group.nodes[name].status().configuration == wanted for name in rest))
            assert not leader.is_leader

    run(story())


def test_orders_are_passed_on_to_the_leader(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path) as group:
            follower, third = await group.followers()
            await follower.manage("transfer", follower.name)
            assert (await group.led()).name == follower.name
            await surely(third, "remove", third.name)
            await until(lambda: len(follower.status().configuration.voters) == 2)

    run(story())


def test_an_order_that_makes_no_sense_is_refused_with_its_reason_at_any_node(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path) as group:
            await group.append("n1", "a", 1)
            for node in group.nodes.values():
                with pytest.raises(UsageError, match="is no order"):
                    await node.manage("abolish", "n1")
                with pytest.raises(NotExecuted, match="no member 'n9'"):
                    await node.manage("remove", "n9")
                with pytest.raises(NotExecuted) as raised:
                    await node.manage("transfer", "n9")
                assert raised.value.cause == "invalid"

    run(story())


def test_leadership_goes_round_while_commands_are_given_and_each_is_executed_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path) as group:
            over = asyncio.Event()

            async def client(name: str) -> int:
                value = 0
                while not over.is_set():
                    await group.surely(name, name, value)
                    value += 1
                return value

            clients = {name: asyncio.create_task(client(name)) for name in group.nodes}
            for heir in ("n1", "n2", "n3", "n1", "n2", "n3"):
                leader = await group.led()
                if leader.name != heir:
                    await surely(leader, "transfer", heir)
            over.set()
            counts = dict(zip(clients, await asyncio.gather(*clients.values()), strict=True))
            for name, count in counts.items():
                assert await group.read("n1", name) == list(range(count))
            await group.agree()

    run(story())


def test_a_node_that_joins_takes_part_only_when_it_is_told_of(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path) as group:
            stranger = await group.start("n9", joins=True, address=group.address_of("n9"))
            term = (await group.led()).term
            await group.append("n1", "a", 1)
            assert stranger.status().configuration == Configuration()
            assert stranger.term == 0
            assert (await group.led()).term == term

    run(story())


def test_a_witness_votes_and_counts_and_keeps_no_commands(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path, ("n1", "n2")) as group:
            witness = await group.join("w", role="witness")
            await until(lambda: "w" in witness.status().configuration.witnesses)
            await group.append("n1", "a", 1)
            leader = await group.led()
            [other] = [name for name in ("n1", "n2") if name != leader.name]
            await group.stop(other)
            assert await group.append(leader.name, "a", 2) == 2, "the witness is the second of three"
            assert group.machines["w"].lists == {}
            with pytest.raises(NotExecuted) as raised:
                await witness.catch_up()
            assert raised.value.cause == "invalid"
            with pytest.raises(NotExecuted, match="a witness applies nothing"):
                await group.append("w", "a", 9)
            with pytest.raises(NotExecuted):
                await leader.manage("transfer", "w")
            await group.start(other)
            await group.read(other, "a")
            await group.stop(leader.name)
            assert await group.surely(other, "a", 3) == 3, "the witness votes for the one that has the log"

    run(story())


def test_a_witness_answers_members_that_came_after_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path, ("n1", "n2")) as group:
            witness = await group.join("w", role="witness")
            await group.join("n4")
            await until(lambda: witness.book.address_of("n4") is not None)
            await group.join("n5")
            for name in ("n4", "n5"):
                await surely(group.nodes["n1"], "voter", name)
            await until(lambda: witness.book.address_of("n5") is not None)
            await group.surely("n4", "a", 1)
            for name in ("n1", "n2"):
                await group.stop(name)
            assert await group.surely("n4", "a", 2) >= 2, "three of five are left, and one is the witness"

    run(story())


def test_a_member_that_moves_is_reached_at_its_new_address(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path) as group:
            [moving, _] = await group.followers()
            await group.stop(moving.name)
            elsewhere = group.address_of("elsewhere")
            leader = await group.led()
            await leader.add_member(Member(moving.name, elsewhere), "voter")
            await group.start(moving.name, address=elsewhere)
            assert await group.append(moving.name, "a", 1) == 1
            await group.agree()

    run(story())
