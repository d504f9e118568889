"""How long nobody can write when the leader is killed: SIGKILL, then puts to the others until one is answered.

    python -m benchmarks.raft_peers.failover --kind onerack --kills 20 --directory /tmp/x

Each killed node is started again, and leads nobody for a second, before the next one is killed. Default timeouts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from pathlib import Path

from benchmarks.ours.marks import leave
from benchmarks.raft_peers.api import Api
from benchmarks.raft_peers.clusters import ETCD, OURS, Cluster, cluster, wait_until_writable

ATTEMPT_S = 0.25
PAUSE_S = 0.005


def time_of_one(one: Cluster) -> float:
    leader = one.leader()
    others = [Api(node.endpoint) for node in one.nodes if node is not leader]
    for api in others:
        api.status()  # The connection is there.
    leader.kill()
    killed_at = time.perf_counter()
    number = 0
    while True:
        number += 1
        api = others[number % len(others)]
        with contextlib.suppress(RuntimeError):
            api.put(b"failover", b"%d" % number, ATTEMPT_S)
            break
        time.sleep(PAUSE_S)
    elapsed = time.perf_counter() - killed_at
    for api in others:
        api.__exit__()
    leader.start()
    wait_until_writable(one)
    time.sleep(1.0)
    return elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kind", choices=(ETCD, OURS), required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args()
    with cluster(options.kind, options.directory) as one:
        times = [time_of_one(one) for _ in range(options.kills)]
    figures = {"failover_s": statistics.median(times), "longest_s": max(times)}
    print(json.dumps(figures))
    leave(**figures)


if __name__ == "__main__":
    main()
