"""Bugs that etcd has had where its store meets the disk, each by its number: a node of ours must not have them.

Those that need no disk are told to the store alone, in tests/kv/core/test_known_bugs.py.
"""

from __future__ import annotations

from pathlib import Path

from onerack.raft.messages import Committed, Synced
from onerack.raft.storage import SnapshotStore
from onerack.runtime.seam import Tick
from tests.kv.server.client import connected
from tests.kv.server.group import group
from tests.raft.network import drained
from tests.raft.single import T, flush, peer, propose
from tests.rpc.links import run


def test_14370_a_single_node_does_not_acknowledge_what_is_not_durable() -> None:
    """A node that is alone is its own majority; it applied and acknowledged a write while the disk was still at it."""
    core = peer(size=1)
    core.step(Tick(), core.node, 2 * T)
    flush(core)
    flush(core)
    assert core.role == "leader"
    before = core.commit
    propose(core, b"put")
    output = drained(core)
    assert [entry.payload for entry in output.writes] == [b"put"]
    assert not [each for each in output.applied if isinstance(each, Committed)]
    assert core.commit == before, "the disk has not answered"
    core.step(Synced(), core.node, 2 * T)
    committed = [each for each in drained(core).applied if isinstance(each, Committed)]
    assert [entry.payload for each in committed for entry in each.entries] == [b"put"]


def test_14685_a_crash_in_a_defragmentation_loses_nothing(tmp_path: Path) -> None:
    """The half of a new file was taken for the store. Here it is a snapshot that was never finished."""

    async def main() -> None:
        async with group(tmp_path) as found:
            place = found.places["n1"]
            async with connected(place.address) as client:
                for number in range(10):
                    await client.call("Put", key=b"k%d" % number, value=b"v")
                await client.call("DeleteRange", key=b"k0")
                await client.call("Compact", revision=5)
                await client.call("Defragment")
                await client.call("Put", key=b"last", value=b"v")
                hashed = (await client.call("HashKV")).hash
            await place.stop()
            store = SnapshotStore(tmp_path / "n1")
            newest = store.newest()
            assert newest is not None
            half = store.create(newest.__class__(newest.index + 1, newest.term, newest.configuration))
            half.write(b"what a defragmentation had come to")
            del half  # The node dies here: neither finished nor taken back.
            place = await found.add("n1")
            await found.until(lambda: found.leader is not None)
            async with connected(place.address) as client:
                assert (await client.call("Range", key=b"k", range_end=b"m")).count == 10
                assert (await client.call("HashKV")).hash == hashed
                await client.call("Defragment")
                assert (await client.call("HashKV")).hash == hashed

    run(main())
