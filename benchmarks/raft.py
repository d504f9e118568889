"""Raft and the store beside their peers: `python benchmarks/raft.py [--quick] [--case NAME,...] [--python P] ...`.

Every row starts three nodes of its own on this machine, loads them, and ends them. Rounds are interleaved, medians
count, and the issue's bars are judged within this run. etcd is Debian's (`apt-get install etcd-server`). Its Python
clients need a protobuf of their own each, so they run in Pythons of their own: `--python` names one that has aetcd,
`--python-etcd3` one that has etcd3 (with protobuf < 4) and pysyncobj.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs by its path as well as by `python -m`

from benchmarks.contest import OURS
from benchmarks.raft_cases import CASES, Setting
from benchmarks.rate_suite import checked, parser_of, run_suite

ONCE = ("failover", "restart", "snapshot")
"""They take their own medians, or take long."""


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__, CASES)
    parser.add_argument("--python", default=sys.executable, help="a Python that has aetcd")
    parser.add_argument("--python-etcd3", default="", help="a Python that has etcd3 and pysyncobj")
    return checked(parser, CASES, words)


def main() -> int:
    options = arguments()
    setting = Setting(options.quick, options.python, options.python_etcd3)
    cases = [case for name in options.case.split(",") for case in CASES[name](setting)]
    return run_suite(cases, options, OURS, lambda case: 1 if case.name in ONCE else options.rounds)


if __name__ == "__main__":
    sys.exit(main())
