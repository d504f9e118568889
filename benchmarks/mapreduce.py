"""MapReduce beside its peers: `python benchmarks/mapreduce.py [--quick] [--case NAME,...] [--rounds N] [--json FILE]`.

Builds the corpora it needs, runs every engine in its own process, compares results first and times after, and says
which of the issue's bars are met. Exit code 0 when none is missed, 1 when one is, 2 when it cannot run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs by its path as well as by `python -m`

from benchmarks.cases import CASES, Setting
from benchmarks.contest import run_case, verdicts
from benchmarks.corpora import Corpora
from benchmarks.measure import become_subreaper
from benchmarks.packages import CorpusError
from benchmarks.table import case_lines, case_record, machine

HERE = Path(__file__).resolve().parent


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", default=",".join(CASES), help=f"comma-separated, of: {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each engine, interleaved (default 3)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size; bars are stated for the full one")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes or threads each")
    parser.add_argument("--corpora", type=Path, default=HERE / "corpora", help="cache folder (default %(default)s)")
    parser.add_argument("--scratch", type=Path, help="folder for results (default: in the cache folder)")
    parser.add_argument("--optional-python", default=sys.executable, help="interpreter with Ray, Dask, PySpark, mrjob")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    options = parser.parse_args()
    unknown = [name for name in options.case.split(",") if name not in CASES]
    if unknown:
        parser.error(f"no case is called {', '.join(unknown)}; there are {', '.join(CASES)}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def main() -> int:
    options = arguments()
    become_subreaper()
    # A benchmark that is told to end (by `timeout`, say) takes the engine it is measuring with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    setting = Setting(Corpora(options.corpora, say), options.workers, options.quick, options.optional_python)
    scratch = (options.scratch or options.corpora / "scratch").resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    missed = 0
    for name in options.case.split(","):
        try:
            case = CASES[name](setting)
        except CorpusError as error:
            say(f"{name}: {error}")
            return 2
        series = run_case(case, scratch, options.rounds, say)
        judged = verdicts(case, series)
        print("\n".join(case_lines(case, series, judged)), flush=True)
        missed += sum(verdict.met is False for verdict in judged)
        records.append(case_record(case, series, judged))
        if options.json:
            report = {"machine": machine(), "quick": options.quick, "workers": options.workers, "cases": records}
            options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
