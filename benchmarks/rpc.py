"""RPC beside its peers: `python benchmarks/rpc.py [--quick] [--case NAME,...] [--rounds N] [--loop L] [--json FILE]`.

Every row is a client and a server of their own, talking over loopback. Rounds are interleaved, medians count, and the
issue's bars are judged within this run. Exit code 0 when all bars are met, 1 when one is missed, 2 when none is missed
but one could not be judged, because ours or its rival did not run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs by its path as well as by `python -m`

from benchmarks.rate_suite import checked, parser_of, run_suite
from benchmarks.rpc_cases import CASES, LOOPS, Setting, installed


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    best = next(loop for loop in LOOPS if loop == "asyncio" or installed(loop))
    parser = parser_of(__doc__, CASES)
    parser.add_argument("--loop", choices=LOOPS, default=best, help="where ours is judged (default %(default)s)")
    return checked(parser, CASES, words)


def main() -> int:
    options = arguments()
    setting = Setting(options.quick, options.loop)
    cases = [case for name in options.case.split(",") for case in CASES[name](setting)]
    return run_suite(
        cases, options, setting.ours, lambda case: 1 if case.name == "memory" else options.rounds, loop=options.loop
    )


if __name__ == "__main__":
    sys.exit(main())
