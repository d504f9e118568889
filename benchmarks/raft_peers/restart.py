"""How long a node needs to be there again, with a log of so many bytes behind a snapshot.

    python -m benchmarks.raft_peers.restart --log-mib 1024 --directory /tmp/x

The log is made by the storage itself, one entry of puts after the other, as a node leaves it; then one node is started
on it, alone in its group, and timed from its start until a linearizable read has been answered.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

from benchmarks.ours.marks import leave
from benchmarks.raft_peers.api import Api
from benchmarks.raft_peers.clusters import OURS, Cluster, wait_until_writable
from benchmarks.raft_peers.clusters import prepared as prepared_cluster
from onerack.config import MIB
from onerack.kv.core import Kind, KvMachine
from onerack.kv.messages import PutRequest
from onerack.raft.commands import KV, MEMBERS, pack_command
from onerack.raft.messages import Configuration, Entry, HardState, SnapshotMark
from onerack.raft.messages import Kind as EntryKind
from onerack.raft.server.members import Members
from onerack.raft.server.snapshots import Snapshots
from onerack.raft.storage import RaftLog

VALUE_BYTES = 4096
PUTS_IN_ENTRY = 128
KEYS = 100_000
SNAPSHOT_KEYS = 100_000


def put_command(key: bytes, value: bytes) -> bytes:
    body: bytes = PutRequest(key=key, value=value).SerializeToString()
    return bytes((Kind.PUT, 0)) + body


def make_log(directory: Path, name: str, size: int) -> None:
    """A snapshot of some keys, and behind it a log of `size` bytes."""
    alone = Configuration(voters=(name,))
    dice = random.Random(1)
    machine = KvMachine()
    for number in range(SNAPSHOT_KEYS):
        machine.apply(put_command(b"%08d" % number, b"v" * 64), False)
    storage, _ = RaftLog.open(directory, cluster="benchmark", node=name, first=alone)
    mark = SnapshotMark(1, 1, alone)
    writer = storage.snapshots.create(mark)
    for piece in Snapshots(storage.snapshots, {MEMBERS: Members({}), KV: machine}).pieces(mark):
        writer.write(piece)
    writer.commit()
    storage.append([HardState(1, name), Entry(1, 1, EntryKind.EMPTY, b"")])
    storage.sync()
    index = written = 1
    while written < size:
        index += 1
        payload = b"".join(
            pack_command(KV, 0, put_command(b"%08d" % dice.randrange(KEYS), dice.randbytes(VALUE_BYTES)))
            for _ in range(PUTS_IN_ENTRY)
        )
        storage.append([Entry(1, index, EntryKind.COMMANDS, payload)])
        storage.sync()
        written += len(payload)
    storage.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--log-mib", type=int, default=1024)
    parser.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args()
    with prepared_cluster(OURS, options.directory, ("n1",)) as one:
        make_log(one.nodes[0].directory, "n1", options.log_mib * MIB)
        figures = {"restart_s": restart_time(one)}
    print(json.dumps(figures))
    leave(**figures)


def restart_time(one: Cluster) -> float:
    started = time.perf_counter()
    one.nodes[0].start()
    wait_until_writable(one)
    with Api(one.nodes[0].endpoint) as api:
        assert api.status().revision > SNAPSHOT_KEYS
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
