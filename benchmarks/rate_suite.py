"""Runs cases whose rows are rates: round by round, a table for each, and one exit code for all.

The rule: exit code 0 when all bars are met, 1 when one is missed, 2 when none is missed but one could not be judged,
because ours or its rival did not run.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contest import Case, Verdict, run_case, verdicts
from benchmarks.measure import become_subreaper
from benchmarks.rate_table import case_lines
from benchmarks.table import case_record, machine

HERE = Path(__file__).resolve().parent


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def parser_of(description: str | None, cases: Collection[str]) -> argparse.ArgumentParser:
    """With the options that all suites have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default=",".join(cases), help=f"comma-separated, of: {', '.join(cases)}")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each peer, interleaved (default 5)")
    parser.add_argument("--quick", action="store_true", help="shorter; bars are stated for the full length")
    parser.add_argument("--scratch", type=Path, default=HERE / "corpora" / "scratch", help="folder for logs; on a disk")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    return parser


def checked(
    parser: argparse.ArgumentParser, cases: Collection[str], words: Sequence[str] | None = None
) -> argparse.Namespace:
    options = parser.parse_args(words)
    unknown = [name for name in options.case.split(",") if name not in cases]
    if unknown:
        parser.error(f"no case is called {', '.join(unknown)}; there are {', '.join(cases)}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def exit_code(judged: Sequence[Verdict]) -> int:
    if any(verdict.met is False for verdict in judged):
        return 1
    return 2 if any(verdict.met is None and verdict.bar.limit is not None for verdict in judged) else 0


def run_suite(
    cases: Iterable[Case], options: argparse.Namespace, ours: str, rounds_of: Callable[[Case], int], **head: Any
) -> int:
    """`head`: what the report says of all cases."""
    become_subreaper()
    # A benchmark that is told to end (by `timeout`, say) takes the peer it is measuring with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scratch = options.scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    everything: list[Verdict] = []
    for case in cases:
        series = run_case(case, scratch, rounds_of(case), say)
        judged = verdicts(case, series)
        print("\n".join(case_lines(case, series, judged, ours)), flush=True)
        everything += judged
        records.append(case_record(case, series, judged))
        if options.json:
            report = {"machine": machine(), "quick": options.quick, **head, "cases": records}
            options.json.write_text(json.dumps(report, indent=1) + "\n")
    return exit_code(everything)
