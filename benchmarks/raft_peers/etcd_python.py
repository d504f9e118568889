"""What a Python program gets of etcd: one of its client libraries, in a Python that has it, on three nodes.

python -m benchmarks.raft_peers.etcd_python aetcd put --python /path/to/python --directory /tmp/x
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

from benchmarks.ours.marks import leave
from benchmarks.raft_peers.clusters import ETCD, cluster

CLIENT = Path(__file__).with_name("python_client.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("library", choices=("aetcd", "etcd3"))
    parser.add_argument("op", choices=("put", "get"))
    parser.add_argument("--python", required=True)
    parser.add_argument("--callers", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args()
    with cluster(ETCD, options.directory) as one:
        command = [
            options.python, str(CLIENT), options.library, options.op, "--endpoint", one.leader().endpoint,
            "--callers", str(options.callers), "--seconds", str(options.seconds),
        ]  # fmt: skip
        words = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures = json.loads(words.splitlines()[-1])
    print(json.dumps(figures))
    leave(**figures)


if __name__ == "__main__":
    main()
