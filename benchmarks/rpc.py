"""RPC beside its peers: `python benchmarks/rpc.py [--quick] [--case NAME,...] [--rounds N] [--loop L] [--json FILE]`.

Every row is a client and a server of their own, talking over loopback. Rounds are interleaved, medians count, and the
issue's bars are judged within this run. Exit code 0 when all bars are met, 1 when one is missed, 2 when none is missed
but one could not be judged, because ours or its rival did not run.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs by its path as well as by `python -m`

from benchmarks.contest import Verdict, run_case, verdicts
from benchmarks.measure import become_subreaper
from benchmarks.rpc_cases import CASES, LOOPS, Setting, installed
from benchmarks.rpc_table import case_lines
from benchmarks.table import case_record, machine

HERE = Path(__file__).resolve().parent


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    best = next(loop for loop in LOOPS if loop == "asyncio" or installed(loop))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default=",".join(CASES), help=f"comma-separated, of: {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each peer, interleaved (default 5; memory: 1)")
    parser.add_argument("--quick", action="store_true", help="shorter; bars are stated for the full length")
    parser.add_argument("--loop", choices=LOOPS, default=best, help="where ours is judged (default %(default)s)")
    parser.add_argument("--scratch", type=Path, default=HERE / "corpora" / "scratch", help="folder for logs; on a disk")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args(words)
    unknown = [name for name in options.case.split(",") if name not in CASES]
    if unknown:
        parser.error(f"no case is called {', '.join(unknown)}; there are {', '.join(CASES)}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def exit_code(judged: Sequence[Verdict]) -> int:
    if any(verdict.met is False for verdict in judged):
        return 1
    return 2 if any(verdict.met is None and verdict.bar.limit is not None for verdict in judged) else 0


def main() -> int:
    options = arguments()
    become_subreaper()
    # A benchmark that is told to end (by `timeout`, say) takes the peer it is measuring with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    setting = Setting(options.quick, options.loop)
    scratch = options.scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    everything: list[Verdict] = []
    for case in (case for name in options.case.split(",") for case in CASES[name](setting)):
        series = run_case(case, scratch, 1 if case.name == "memory" else options.rounds, say)
        judged = verdicts(case, series)
        print("\n".join(case_lines(case, series, judged, setting.ours)), flush=True)
        everything += judged
        records.append(case_record(case, series, judged))
        if options.json:
            report = {"machine": machine(), "quick": options.quick, "loop": options.loop, "cases": records}
            options.json.write_text(json.dumps(report, indent=1) + "\n")
    return exit_code(everything)


if __name__ == "__main__":
    sys.exit(main())
