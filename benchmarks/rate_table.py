"""Prints what was measured of rates and times: one table for each case, then the issue's bars.

The rule is that of table.py: the measure that counts has its minimum, maximum and number of runs beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contest import Case, Series, Verdict
from benchmarks.table import bar_line, spread

COLUMNS = {
    "gb_per_s": ("GB/s", 2),
    "calls_per_s": ("calls/s", 0),
    "ops_per_s": ("ops/s", 0),
    "failover_s": ("seconds", 2),
    "longest_s": ("longest s", 2),
    "restart_s": ("seconds", 2),
    "max_ms": ("longest ms", 1),
    "client_us": ("client µs", 1),
    "server_us": ("server µs", 1),
    "p50_us": ("p50 µs", 0),
    "p99_us": ("p99 µs", 0),
    "p50_ms": ("p50 ms", 2),
    "p99_ms": ("p99 ms", 2),
    "server_mb": ("server MB", 1),
    "client_mb": ("client MB", 1),
    "server_growth": ("server x", 3),
    "client_growth": ("client x", 3),
}
"""Measures in the order in which they are shown: heading and digits. The µs are of processors, user and system."""


def case_lines(case: Case, series: Sequence[Series], verdicts: Sequence[Verdict], ours: str) -> list[str]:
    shown = [name for name in COLUMNS if name != case.headline and any(one.values(name) for one in series)]
    headings = "".join(f"{COLUMNS[name][0]:>11}" for name in shown)
    heading, digits = COLUMNS[case.headline]
    lines = [
        f"{case.name}: {case.title}",
        f"  {'peer':<28}{heading:>10}  {'[min..max] n':<26}{'ours/this':>10}{headings}",
    ]
    reference = next((one.median(case.headline) for one in series if one.contender.name == ours), None)
    for one in series:
        value = one.median(case.headline)
        if value is None:
            # Only the last line of a failure; all of it was reported when it happened.
            lines.append(f"  {one.contender.name:<28}        --  {one.trouble.strip().splitlines()[-1].strip()[:120]}")
            continue
        ratio = f"{reference / value:.2f}x" if reference else ""
        figures = "".join(figure(one, name) for name in shown)
        span = spread(one.values(case.headline), digits)
        lines.append(f"  {one.contender.name:<28}{value:>10,.{digits}f}  {span:<26}{ratio:>10}{figures}")
    return [*lines, *map(bar_line, verdicts), ""]


def figure(one: Series, name: str) -> str:
    value = one.median(name)
    return f"{'':>11}" if value is None else f"{value:>11,.{COLUMNS[name][1]}f}"
