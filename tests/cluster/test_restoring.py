"""A node made from a saved store: the same keys, revisions, leases, as a group of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from onerack.cluster.control import ControlNode
from onerack.cluster.restoring import restore
from onerack.errors import Corruption, InputError, UsageError
from onerack.kv import client as kv
from onerack.kv.core import Kind, KvMachine, encode_command
from onerack.kv.core.commands import encode_term
from onerack.kv.messages import LIBRARY
from onerack.kv.server.saved import blobs
from tests.cluster.rack_thread import QUICK, free_address


def saved(tmp_path: Path) -> Path:
    """A store of two keys, one with a lease of a group that had come to term 50."""
    machine = KvMachine()
    machine.apply(encode_command(Kind.LEASE_TAKE_OVER, b"", encode_term(50)), False)
    lease = LIBRARY["LeaseGrantRequest"](TTL=1, ID=7).SerializeToString()
    machine.apply(encode_command(Kind.LEASE_GRANT, b"", lease), False)
    for key, number in ((b"a", 0), (b"a", 0), (b"leased", 7)):
        put = LIBRARY["PutRequest"](key=key, value=key, lease=number).SerializeToString()
        machine.apply(encode_command(Kind.PUT, b"", put), False)
    path = tmp_path / "saved.db"
    path.write_bytes(b"".join(blobs(machine.snapshot())))
    return path


def test_a_group_begins_again_from_a_saved_store(tmp_path: Path) -> None:
    members = {f"n{number}": free_address() for number in range(1, 4)}
    for name in members:
        made = restore(saved(tmp_path), tmp_path / name, node=name, members=list(members), cluster="again")
        assert (made.keys, made.revision, made.members) == (2, 4, ("n1", "n2", "n3"))

    async def test() -> None:
        nodes = [
            ControlNode(name, tmp_path / name, members=members, cluster="again", raft_config=QUICK) for name in members
        ]
        await asyncio.gather(*(node.start() for node in nodes))
        try:
            async with await kv.connect(*members.values()) as store:
                found = await store.get("a", revision=3)
                assert found == kv.KeyValue(b"a", b"a", 2, 3, 2)
                assert (await store.put("b", "1")).revision >= 5
                while await store.get("leased") is not None:  # its lease ends in this group, too
                    await asyncio.sleep(0.05)
        finally:
            await asyncio.gather(*(node.close(hand_over=False) for node in nodes))

    asyncio.run(test())


def test_what_is_no_saved_store_makes_no_node(tmp_path: Path) -> None:
    file = saved(tmp_path)
    settings = {"node": "n1", "members": ["n1"], "cluster": "c"}
    with pytest.raises(InputError, match="nothing"):
        restore(tmp_path / "nothing", tmp_path / "n1", **settings)  # type: ignore[arg-type]
    damaged = bytearray(file.read_bytes())
    damaged[100] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(Corruption):
        restore(file, tmp_path / "n1", **settings)  # type: ignore[arg-type]
    assert not (tmp_path / "n1").exists()


def test_a_directory_with_data_and_a_strange_name_are_refused(tmp_path: Path) -> None:
    file = saved(tmp_path)
    with pytest.raises(UsageError, match="--data"):
        restore(file, tmp_path, node="n1", members=["n1"], cluster="c")
    with pytest.raises(UsageError, match="--name"):
        restore(file, tmp_path / "n1", node="n9", members=["n1"], cluster="c")
