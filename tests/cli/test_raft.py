"""`onerack raft`: a data directory is checked, and a survivor becomes a cluster of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from onerack.cluster.control import ControlNode
from onerack.kv import client as kv
from tests.cli.said import Say, sayer
from tests.cluster.rack_thread import QUICK, free_address


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    return sayer(capfd, "raft")


def made(tmp_path: Path) -> None:
    """Three nodes that have taken a write, and were stopped."""

    async def procedure() -> None:
        members = {f"n{number}": free_address() for number in range(1, 4)}
        nodes = [ControlNode(name, tmp_path / name, members=members, raft_config=QUICK) for name in members]
        await asyncio.gather(*(node.start() for node in nodes))
        async with await kv.connect(*members.values()) as store:
            await store.put("a", "1")
        await asyncio.gather(*(node.node.catch_up() for node in nodes))
        await asyncio.gather(*(node.close(hand_over=False) for node in nodes))

    asyncio.run(procedure())


def test_a_survivor_of_a_lost_majority_goes_on_alone(tmp_path: Path, say: Say) -> None:
    made(tmp_path)
    data = str(tmp_path / "n2")
    assert say("verify", data).out.endswith("all is right\n")
    described = say("verify", data, "--json").json
    assert (described["node"], described["is_right"], described["damage"]) == ("n2", True, [])
    unasked = say("recover", data)
    assert (unasked.code, "--force-new-cluster" in unasked.err) == (2, True)
    assert say("recover", data, "--force-new-cluster", "--json").json["node"] == "n2"

    async def procedure() -> None:
        where = {"n2": free_address()}
        async with ControlNode("n2", data, members=where, address=where["n2"], raft_config=QUICK) as node:
            async with await kv.connect(node.endpoints.rpc) as store:
                found = await store.get("a")
                assert found is not None
                assert found.text == "1"
                await store.put("b", "2")
                assert [member.name for member in await store.members()] == ["n2"]

    asyncio.run(procedure())


def test_damage_is_found_and_nothing_is_recovered_from_it(tmp_path: Path, say: Say) -> None:
    made(tmp_path)
    (segment,) = (tmp_path / "n1" / "raft").glob("*1.seg")
    content = bytearray(segment.read_bytes())
    content[content.index(b"\x0a\x01a\x12\x011")] ^= 1  # the put, in the middle of what is written
    segment.write_bytes(content)
    said = say("verify", str(tmp_path / "n1"))
    assert said.code == 1
    assert "DAMAGED" in said.out
    assert say("recover", str(tmp_path / "n1"), "--force-new-cluster").code == 2


def test_where_no_log_is_none_is_verified(tmp_path: Path, say: Say) -> None:
    said = say("verify", str(tmp_path))
    assert (said.code, "no raft log" in said.err) == (2, True)
