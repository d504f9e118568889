"""Prints what was measured: one table for each case, then the issue's bars; and the same as JSON.

The rule: medians never stand alone. Minimum, maximum and the number of runs stand beside them, because on a noisy
machine they say how much of a difference is chance.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.contest import OURS, Case, Series, Verdict

MB = 1_000_000
PEERS = (
    "onerack", "polars", "duckdb", "numba", "pyarrow", "numpy", "ray", "dask", "pyspark", "mrjob",
    "msgspec", "grpcio", "rpyc", "uvloop",
)  # fmt: skip


def spread(values: Sequence[float], digits: int = 2) -> str:
    return f"[{min(values):.{digits}f}..{max(values):.{digits}f}] n={len(values)}" if values else ""


def case_lines(case: Case, series: Sequence[Series], verdicts: Sequence[Verdict]) -> list[str]:
    size = sum(input_bytes(path) for path in case.inputs)
    lines = [f"{case.name}: {case.title} ({size / MB:.0f} MB)"]
    columns = f"{'wall s':>8}  {'[min..max] n':<22}{'CPU-s':>8}{'peak MB':>9}{'ours/this':>11}"
    lines.append(f"  {'engine':<28}{columns}  result")
    ours = next((one.median("wall_s") for one in series if one.contender.name == OURS), None)
    for one in series:
        wall, cpu, peak = (one.median(measure) for measure in ("wall_s", "cpu_s", "peak_bytes"))
        if wall is None or cpu is None or peak is None:
            # Only the last line of a failure; all of it was reported when it happened.
            lines.append(f"  {one.contender.name:<28}      --  {one.trouble.strip().splitlines()[-1].strip()[:120]}")
            continue
        ratio = f"{ours / wall:.2f}x" if ours else ""
        lines.append(
            f"  {one.contender.name:<28}{wall:>8.2f}  {spread(one.values('wall_s')):<22}{cpu:>8.2f}{peak / MB:>9.0f}"
            f"{ratio:>11}  {one.result}{marks_of(one)}"
        )
    return [*lines, *map(bar_line, verdicts), ""]


def marks_of(one: Series) -> str:
    names = sorted({name for run in one.runs for name in run.marks})
    orphans = sum(run.orphans for run in one.runs)
    marks = [f"{name} {one.median(name):.2f}" for name in names]
    if orphans:
        marks.append(f"LEFT {orphans} PROCESSES BEHIND")
    return "  " + ", ".join(marks) if marks else ""


def bar_line(verdict: Verdict) -> str:
    word = {True: "met   ", False: "MISSED", None: "open  " if verdict.bar.limit else "shown "}[verdict.met]
    if verdict.figure is None:
        found = "not measured"
    elif verdict.bar.theirs:
        found = f"{verdict.figure:.2f}x of {verdict.rival}"
    elif verdict.bar.measure == "peak_bytes":
        found = f"{verdict.figure / MB:.0f} MB"
    else:
        found = f"{verdict.figure:.2f}"
    return f"  {word} {verdict.bar.text}: {found}"


def input_bytes(path: Path) -> int:
    if path.is_dir():
        return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    return path.stat().st_size


def case_record(case: Case, series: Sequence[Series], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "case": case.name,
        "title": case.title,
        "input_bytes": sum(input_bytes(path) for path in case.inputs),
        "engines": [
            {
                "name": one.contender.name,
                "trouble": one.trouble,
                "result": one.result,
                "runs": [
                    {"wall_s": r.wall_s, "cpu_s": r.cpu_s, "peak_bytes": r.peak_bytes, "orphans": r.orphans, **r.marks}
                    for r in one.runs
                ],
            }
            for one in series
        ],
        "bars": [
            {"text": v.bar.text, "limit": v.bar.limit, "figure": v.figure, "rival": v.rival, "met": v.met}
            for v in verdicts
        ],
    }


def machine() -> Mapping[str, Any]:
    """Where the figures come from; no figure travels without it."""
    versions: dict[str, str] = {}
    for name in PEERS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    names = (line.split(":")[1].strip() for line in cpu_lines() if line.startswith("model name"))
    return {
        "cpu": next(names, platform.machine()),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": versions,
    }


def cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
