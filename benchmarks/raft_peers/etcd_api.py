"""The servers alone: three nodes behind the etcd API, and the same lean load against either kind.

    python -m benchmarks.raft_peers.etcd_api put --kind onerack --clients 64 --seconds 3 --directory /tmp/x

All clients talk to the leader, as a client library does that knows it. The figures are the load's own, and the CPU time
of all three servers for each operation.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.ours.marks import leave
from benchmarks.raft_peers.clusters import ETCD, OURS, cluster
from benchmarks.raft_peers.grpc_load import OPS, Load, run

WARMUP_S = 1.0
KEYS = 10_000
VALUE_BYTES = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("op", choices=sorted(OPS))
    parser.add_argument("--kind", choices=(ETCD, OURS), required=True)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args()
    with cluster(options.kind, options.directory) as one:
        endpoint = one.leader().endpoint
        before = one.cpu_s()
        figures = run(
            Load((endpoint,), options.op, options.clients, 0, options.seconds, WARMUP_S, KEYS, VALUE_BYTES, 1)
        )
        share = options.seconds / (options.seconds + WARMUP_S)
        server_us = (one.cpu_s() - before) * share / max(1, int(figures["ops"])) * 1e6
    marks = {name: float(value) for name, value in figures.items() if isinstance(value, int | float)}
    marks["server_us"] = server_us
    print(json.dumps(figures | {"server_us": round(server_us, 1)}))
    leave(**marks)


if __name__ == "__main__":
    main()
