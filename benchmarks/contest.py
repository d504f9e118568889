"""The nouns of a benchmark: contenders, cases, the issue's bars; and how a case is run, round by round.

The idea: rounds are interleaved (A B C, A B C, ...), so that a noisy neighbour or a warm machine meets everybody
alike. In the first round every result is brought into canonical form and hashed; a contender whose hash differs from
that of most others is named and has no times. Later rounds compare the size of the result only.

The rule: a figure without an equal result is not a figure.
"""

from __future__ import annotations

import shutil
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.canonical import nothing, result_bytes
from benchmarks.measure import Run, RunFailed, measure

OURS = "onerack"


@dataclass(frozen=True)
class Contender:
    """One engine, or one way to use it. In `command` the word `{output}` stands for an absent folder."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    escaped: bool = False
    """Whether its output writes a backslash as two, as our TSV does."""
    missing: str = ""
    """Why it cannot run here; then it is listed and left out."""


@dataclass(frozen=True)
class Bar:
    """What the issue demands: `ours` at most (or at least) `limit` times the best of `theirs`; no names: `limit`."""

    text: str
    limit: float | None
    """None: shown for comparison, demanded by nobody."""
    theirs: tuple[str, ...] = ()
    """Beginnings of contenders' names; the best of those that ran counts."""
    measure: str = "wall_s"
    """wall_s, peak_bytes, or the name of a mark."""
    ours: str = OURS
    at_least: bool = False
    """For measures of which more is better; the best is then the highest."""


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    inputs: tuple[Path, ...]
    contenders: tuple[Contender, ...]
    bars: tuple[Bar, ...]
    canonical: Callable[[Path, bool], str]
    validation: tuple[str, ...] = ()
    """A command over our `{output}` that must succeed after the last round."""
    headline: str = "wall_s"
    """The measure that a reader looks at first."""
    memory_sampled: bool = True
    """Looking at a process twenty times a second costs it little, but more than calls of some microseconds bear."""


@dataclass
class Series:
    """All runs of one contender in one case."""

    contender: Contender
    runs: list[Run] = field(default_factory=list)
    result: str = ""
    result_size: int = 0
    trouble: str = ""

    def values(self, measure: str) -> list[float]:
        if measure in ("wall_s", "cpu_s", "peak_bytes"):
            return [float(getattr(run, measure)) for run in self.runs]
        return [run.marks[measure] for run in self.runs if measure in run.marks]

    def median(self, measure: str) -> float | None:
        values = self.values(measure)
        return statistics.median(values) if values and not self.trouble else None


@dataclass(frozen=True)
class Verdict:
    bar: Bar
    figure: float | None
    """Ours divided by theirs, or ours; None when one of them is missing."""
    rival: str = ""

    @property
    def met(self) -> bool | None:
        if self.figure is None or self.bar.limit is None:
            return None
        return self.figure >= self.bar.limit if self.bar.at_least else self.figure <= self.bar.limit


def warm(paths: Sequence[Path]) -> None:
    """Reads the inputs once, so that every contender finds them in the page cache."""
    for path in paths:
        for file in path.rglob("*") if path.is_dir() else [path]:
            with file.open("rb") as reader:
                while reader.read(1 << 20):
                    pass


def run_case(case: Case, scratch: Path, rounds: int, report: Callable[[str], None]) -> list[Series]:
    """Runs all contenders `rounds` times, interleaved; a contender that fails or differs drops out."""
    warm(case.inputs)
    series = [Series(contender, trouble=contender.missing) for contender in case.contenders]
    for number in range(rounds):
        for one in series:
            if not one.trouble:
                run_once(case, one, scratch, number == rounds - 1)
                report(f"{case.name} round {number + 1}/{rounds}: {one.contender.name}: {progress(case, one)}")
        if number == 0:
            compare(series)
    return series


def run_once(case: Case, one: Series, scratch: Path, last: bool) -> None:
    folder = scratch / case.name / one.contender.name.replace(" ", "-").replace("/", "-")
    shutil.rmtree(folder, ignore_errors=True)
    output = folder / "output"
    try:
        run = measure(
            filled(one.contender.command, output),
            directory=folder,
            environment={**one.contender.environment, "ONERACK_HOME": str(folder / "home")},
            memory_sampled=case.memory_sampled,
        )
        if not one.runs:
            one.result = case.canonical(output, one.contender.escaped)
            one.result_size = result_bytes(output)
        elif case.canonical is not nothing and result_bytes(output) != one.result_size:
            one.trouble = f"a later round wrote {result_bytes(output)} bytes, the first {one.result_size}"
        one.runs.append(run)
        if last and case.validation and one.contender.name == OURS:
            measure(filled(case.validation, output), directory=folder / "validation", environment={})
    except RunFailed as failure:
        one.trouble = str(failure)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def filled(command: Sequence[str], output: Path) -> list[str]:
    return [word.replace("{output}", str(output)) for word in command]


def compare(series: Sequence[Series]) -> None:
    """Marks every contender whose result is not that of most; without a majority nobody is right."""
    results = Counter(one.result for one in series if one.result and not one.trouble)
    (agreed, votes), *others = results.most_common(2) or [("", 0)]
    tied = any(count == votes for _, count in others)
    for one in series:
        if not one.trouble and (tied or one.result != agreed):
            most = "there is no majority" if tied else f"most have {agreed}"
            one.trouble = f"its result differs ({one.result}; {most})"


def progress(case: Case, one: Series) -> str:
    return one.trouble or f"{one.values(case.headline)[-1]:,.2f} {case.headline.replace('wall_s', 's')}"


def verdicts(case: Case, series: Sequence[Series]) -> list[Verdict]:
    return [judge(bar, series) for bar in case.bars]


def judge(bar: Bar, series: Sequence[Series]) -> Verdict:
    medians = {one.contender.name: one.median(bar.measure) for one in series}
    ours = medians.get(bar.ours)
    if not bar.theirs:
        return Verdict(bar, ours)
    others = {name: value for name, value in medians.items() if name.startswith(bar.theirs) and name != bar.ours}
    rivals = {name: value for name, value in others.items() if value}
    if ours is None or not rivals:
        return Verdict(bar, None)
    best = max if bar.at_least else min
    rival = best(rivals, key=lambda name: rivals[name])
    return Verdict(bar, ours / rivals[rival], rival)
