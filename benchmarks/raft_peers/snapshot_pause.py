"""What a snapshot of very many keys does to those who write meanwhile: the longest time that any put took.

    python -m benchmarks.raft_peers.snapshot_pause --kind onerack --keys 1000000 --seconds 30 --directory /tmp/x

First the keys are put, then a steady load of puts goes on, long enough that the log makes snapshots necessary.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.ours.marks import leave
from benchmarks.raft_peers.api import Api
from benchmarks.raft_peers.clusters import ETCD, OURS, Cluster, cluster
from benchmarks.raft_peers.grpc_load import Load, run

VALUE_BYTES = 256
TXN_PUTS = 128
CLIENTS = 16


def fill(one: Cluster, keys: int) -> None:
    """So many keys, by transactions: one key at a time it would take longer than what is to be measured."""
    value = b"v" * VALUE_BYTES
    with Api(one.leader().endpoint) as api:
        for first in range(0, keys, TXN_PUTS):
            api.put_all([(b"%010d" % number, value) for number in range(first, min(first + TXN_PUTS, keys))])
        assert api.count() >= keys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kind", choices=(ETCD, OURS), required=True)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args()
    with cluster(options.kind, options.directory) as one:
        fill(one, options.keys)
        load = Load((one.leader().endpoint,), "put", CLIENTS, 0, options.seconds, 1.0, 10_000, VALUE_BYTES, 1)
        found = run(load)
        figures = {
            "max_ms": float(found["max_ms"]), "p99_ms": float(found["p99_ms"]), "ops_per_s": float(found["ops_per_s"]),
        }  # fmt: skip
    print(json.dumps(figures))
    leave(**figures)


if __name__ == "__main__":
    main()
