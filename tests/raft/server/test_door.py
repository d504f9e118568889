"""The door: whatever a caller says, the node lives, takes none of it, and goes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onerack import rpc
from onerack.errors import CallError, NotExecuted
from onerack.raft.commands import USER, pack_command
from onerack.raft.messages import (
    Append,
    Appended,
    Configuration,
    Entry,
    FindReadIndex,
    Heartbeat,
    HeartbeatReply,
    RequestVote,
    SnapshotMark,
    TimeoutNow,
    Vote,
)
from onerack.raft.server import RaftNode
from onerack.raft.server.peers import RaftPeer
from tests.raft.server.group import Group, append, host_of, run, until
from tests.raft.server.test_snapshots import encoded

HUGE = (1 << 64) - 1


async def with_group(tmp_path: Path, story: Callable[[Group, RaftPeer, RaftNode], Any]) -> None:
    """Three nodes that work before and after; and the story has a client to one that follows."""
    async with Group(tmp_path) as group:
        await group.append("n1", "a", 1)
        follower, _ = await group.followers()
        client = await rpc.connect(RaftPeer, follower.address, cluster="onerack")
        async with client as peer:
            before = follower.term, follower.status().configuration
            await story(group, peer, follower)
            assert (follower.term, follower.status().configuration) == before
        assert not follower.has_halted
        assert await group.append(follower.name, "a", 2) == 2
        await group.agree()


def absurd(term: int) -> dict[str, Any]:
    return {
        "append": Append(HUGE, 0, 0, 0),
        "append, negative": Append(term, -1, 0, 0),
        "append, prev term": Append(term, 1, HUGE, 0),
        "append, commit": Append(term, 1, 1, -5),
        "append, entries": Append(term, 1, 1, 0, (Entry(HUGE, 2, 0, b""),)),
        "append, kinds": Append(term, 1, 1, 0, (Entry(1, 2, 2, b"no configuration"),)),
        "vote": Vote(HUGE, True),
        "request": RequestVote(1 << 62, 1, 1),
        "request, index": RequestVote(term + 1, HUGE, HUGE),
        "request, negative": RequestVote(-1, -1, -1),
        "appended": Appended(term, HUGE, True),
        "heartbeat": Heartbeat(term, HUGE),
        "heartbeat, negative": Heartbeat(term, -1),
        "reply": HeartbeatReply(HUGE),
        "timeout": TimeoutNow(-7),
        "find": FindReadIndex(HUGE, 1),
    }


def test_absurd_numbers_change_nothing(tmp_path: Path) -> None:
    async def story(group: Group, peer: RaftPeer, node: RaftNode) -> None:
        leader = node.leader
        for kind, message in absurd(node.term).items():
            before = node.term, node.leader, node.status().commit
            with contextlib.suppress(CallError):  # As a call, so that we hear when it has been taken or refused.
                await peer.deliver(leader, node.name, msgspec.msgpack.encode([message]))
            assert not node.has_halted, kind
            assert (node.term, node.leader) == before[:2], kind
            assert await group.append(node.name, "b", 1)

    run(with_group(tmp_path, story))


NONSENSE = [
    b"",
    b"\xc1",
    bytes(1000),
    msgspec.msgpack.encode([[99, 1]]),
    msgspec.msgpack.encode([[3, "x"]]),
    b"\x91" * 9000,
    b"\xdd\xff\xff\xff\xff",
]


def test_what_are_no_messages_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(group: Group, peer: RaftPeer, node: RaftNode) -> None:
        for nonsense in NONSENSE:
            for name in group.nodes:
                with pytest.raises(CallError):
                    await peer.deliver("n0", name, nonsense)

    with caplog.at_level(logging.WARNING):
        run(with_group(tmp_path, story))
    assert caplog.text.count("refuses what it was sent") == 2, "once for each kind: a wrong address, and nonsense"


def test_a_sender_without_a_name_or_with_our_own_or_an_endless_one_is_not_heard(tmp_path: Path) -> None:
    async def story(group: Group, peer: RaftPeer, node: RaftNode) -> None:
        term = node.term
        for sender in ("", node.name, "x" * 5000):
            for message in (Append(term, 0, 0, 0), RequestVote(term + 1, 99, term, transfer=True), Vote(term, True)):
                packed = msgspec.msgpack.encode([message])
                with pytest.raises(CallError):
                    await peer.deliver(sender, node.name, packed)

    run(with_group(tmp_path, story))


def test_a_stranger_s_votes_and_answers_count_for_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        group = Group(tmp_path)
        node = await group.start("n1")
        await until(lambda: node.status().role == "precandidate")
        async with await rpc.connect(RaftPeer, node.address, cluster="onerack") as peer:
            for stranger in ("x1", "x2", "x3"):
                for message in (
                    Vote(node.term + 1, True, pre=True),
                    Vote(node.term, True),
                    Appended(node.term, 5, True),
                ):
                    await peer.deliver(stranger, "n1", msgspec.msgpack.encode([message]))
            assert not node.is_leader
            assert node.term == 0
        await group.__aexit__()

    run(story())


def test_commands_that_are_none_are_refused_before_they_are_near_the_log(tmp_path: Path) -> None:
    async def story(group: Group, peer: RaftPeer, node: RaftNode) -> None:
        leader = await group.led()
        last = leader.status().last_index
        async with await rpc.connect(RaftPeer, leader.address, cluster="onerack") as there:
            for nonsense in (b"\x01", pack_command(USER, 1, b"whole")[:-1], b"\xff" * 13):
                with pytest.raises(CallError):
                    await there.forward(nonsense)
            too_long = pack_command(USER, 1, bytes(group.config.entry_bytes_max))
            for refused in (too_long, b""):
                answer = await there.forward(refused)
                assert answer.refusal is not None
                assert answer.refusal.cause == "invalid"
        assert leader.status().last_index == last

    run(with_group(tmp_path, story))


def test_commands_passed_on_to_a_node_that_does_not_lead_are_refused_with_the_leader_s_name(tmp_path: Path) -> None:
    async def story(group: Group, peer: RaftPeer, node: RaftNode) -> None:
        answer = await peer.forward(pack_command(USER, 1, append("a", 9)))
        assert answer.refusal is not None
        assert (answer.refusal.cause, answer.refusal.leader) == ("not_leader", (await group.led()).name)

    run(with_group(tmp_path, story))


async def pieces(mark: SnapshotMark, *, whole: bool = True) -> AsyncIterator[bytes]:
    yield encoded(-1, (mark.index, mark.term, (0, USER)))
    yield encoded(USER, msgspec.msgpack.encode(("poison", [666])))
    if whole:
        yield encoded(-2, 2)


def lies(term: int) -> dict[str, tuple[str, int, SnapshotMark]]:
    group = Configuration(("n1", "n2", "n3"))
    return {
        "of an older term": ("n9", term - 1, SnapshotMark(1000, term - 1, group)),
        "of somebody who does not lead": ("n9", term, SnapshotMark(1000, term, group)),
        "of itself": ("self", term, SnapshotMark(1000, term, group)),
        "of nobody": ("", term, SnapshotMark(1000, term, group)),
        "of a group of nobody": ("leader", term, SnapshotMark(1000, term, Configuration())),
        "of a term to come": ("leader", term, SnapshotMark(1000, term + 1, group)),
        "of an index that is none": ("leader", term, SnapshotMark(-1, term, group)),
        "of index 0": ("leader", term, SnapshotMark(0, 0, group)),
        "of an absurd index": ("leader", term, SnapshotMark(HUGE, term, group)),
        "of an absurd term": ("leader", HUGE, SnapshotMark(1000, term, group)),
        "of what is here already": ("leader", term, SnapshotMark(1, 1, group)),
    }


def test_a_snapshot_that_cannot_be_the_leader_s_is_not_put_in_place(tmp_path: Path) -> None:
    async def story(group: Group, peer: RaftPeer, node: RaftNode) -> None:
        leader = await group.led()
        for lie, (sender, term, mark) in lies(leader.term).items():
            name = {"leader": leader.name, "self": node.name}.get(sender, sender)
            with pytest.raises(CallError):
                print(lie, [_ async for _ in peer.install(name, term, mark, pieces(mark))])
            assert host_of(node).storage.snapshots.newest() is None, lie
        assert await group.read(node.name, "poison") == []

    run(with_group(tmp_path, story))


def test_a_snapshot_that_ends_halfway_is_not_put_in_place(tmp_path: Path) -> None:
    async def story(group: Group, peer: RaftPeer, node: RaftNode) -> None:
        leader = await group.led()
        mark = SnapshotMark(1000, leader.term, leader.status().configuration)
        with pytest.raises(CallError, match="not whole"):
            [_ async for _ in peer.install(leader.name, leader.term, mark, pieces(mark, whole=False))]
        assert host_of(node).storage.snapshots.newest() is None

    run(with_group(tmp_path, story))


def test_a_newer_snapshot_puts_off_one_whose_sender_has_fallen_silent(tmp_path: Path) -> None:
    async def story(group: Group, peer: RaftPeer, node: RaftNode) -> None:
        leader = await group.led()
        mark = SnapshotMark(1000, leader.term, leader.status().configuration)
        begun = asyncio.Event()

        async def silent() -> AsyncIterator[bytes]:
            yield encoded(-1, (mark.index, mark.term, (0, USER)))
            begun.set()
            await asyncio.Event().wait()

        async def send(parts: AsyncIterator[bytes]) -> list[int]:
            return [index async for index in peer.install(leader.name, leader.term, mark, parts)]

        first = asyncio.create_task(send(silent()))
        await begun.wait()
        await until(lambda: host_of(node).archive._receiving is not None)
        with pytest.raises(CallError, match="not whole"):
            await send(pieces(mark, whole=False))
        with pytest.raises(CallError, match="a newer snapshot"):
            await first

    run(with_group(tmp_path, story))


def test_an_order_at_a_node_that_does_not_lead_is_not_passed_on_for_ever(tmp_path: Path) -> None:
    async def story(group: Group, peer: RaftPeer, node: RaftNode) -> None:
        with pytest.raises(CallError, match="does not lead"):
            await peer.manage("remove", "n1")

    run(with_group(tmp_path, story))


def test_a_node_that_has_halted_takes_nothing_from_others(tmp_path: Path) -> None:
    async def story() -> None:
        async with Group(tmp_path, ("n1",)) as group:
            node = group.nodes["n1"]
            async with await rpc.connect(RaftPeer, node.address, cluster="onerack") as peer:
                host_of(node).halt(OSError("the disk is on fire"))
                for call in (peer.forward(pack_command(USER, 1, b"")), peer.manage("remove", "n1")):
                    with pytest.raises(CallError, match="on fire"):
                        await call
                with pytest.raises(NotExecuted, match="on fire"):
                    await group.append("n1", "a", 1)

    run(story())
