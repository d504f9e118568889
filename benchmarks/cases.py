"""The cases: which engines run on which corpus, and what the issue demands of us.

The idea: a case is plain data; everything an engine needs is in its command line, so any row of the table can be
repeated by hand. The rule: a bar is copied from the issue, and a peer has the fastest formulation we found.

Source: the issue's Figures; Dean & Ghemawat 2004, section 5.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.canonical import as_index, as_is, as_sorted_lines, nothing
from benchmarks.contest import OURS, Bar, Case, Contender
from benchmarks.corpora import Corpora, write_lines

ROOT = Path(__file__).resolve().parents[1]
PATTERN = r"spin_lock_irqsave\(&[a-z_]+->lock"
OPTIONAL = ("ray_tasks", "dask_bag", "pyspark_rdd", "mrjob_local")
SLEEPS = 150
MEMORY_BAR = Bar("under 600 MB of memory", 600e6, measure="peak_bytes")


@dataclass(frozen=True)
class Setting:
    """What the user asked for on the command line."""

    corpora: Corpora
    workers: int
    quick: bool
    optional_python: str
    """The interpreter that has Ray, Dask, PySpark or mrjob."""

    @property
    def megabytes(self) -> int:
        return 50 if self.quick else 500

    def peer(self, name: str, program: str, case: str, source: Path, pattern: str = "") -> Contender:
        """A peer that is installed beside us."""
        return Contender(name, self.command(sys.executable, program, case, source, pattern), self.environment())

    def optional_peers(self, case: str, source: Path) -> list[Contender]:
        """Peers that run when they can be imported."""
        found = []
        for program in OPTIONAL:
            module = program.split("_")[0]
            name = module.capitalize()
            command = self.command(self.optional_python, program, case, source)
            missing = "" if importable(self.optional_python, module) else f"{module} is not installed"
            found.append(Contender(name, command, self.environment(), missing=missing))
        return found

    def gnu(self, name: str, case: str, source: Path, pattern: str = "") -> Contender:
        script = str(ROOT / "benchmarks" / "peers" / "gnu.sh")
        missing = "" if shutil.which("sort") and shutil.which("grep") else "GNU sort and grep are not installed"
        return Contender(name, (script, case, str(source), "{output}", str(self.workers), pattern), missing=missing)

    def command(self, python: str, program: str, case: str, source: Path, pattern: str = "") -> tuple[str, ...]:
        path = str(ROOT / "benchmarks" / "peers" / f"{program}.py")
        return (python, path, case, str(source), "{output}", "--workers", str(self.workers), f"--pattern={pattern}")

    def environment(self) -> dict[str, str]:
        # Ray's token would be written into the user's home; nothing here listens beyond this machine.
        return {"PYTHONPATH": str(ROOT), "POLARS_MAX_THREADS": str(self.workers), "RAY_AUTH_MODE": "disabled"}

    def builtin(self, *words: str, name: str = OURS, escaped: bool = True) -> Contender:
        """Ours as a user types it."""
        options = ("--out", "{output}", "--workers", str(self.workers), "--quiet")
        return Contender(name, (*onerack(), "run", *words, *options), escaped=escaped)

    def program(self, program: str, source: Path, *rest: str, name: str = OURS) -> Contender:
        """Ours as a user writes it in a file."""
        path = str(ROOT / "benchmarks" / "ours" / f"{program}.py")
        words = rest or (str(self.workers),)
        command = (sys.executable, path, str(source), "{output}", *words)
        return Contender(name, command, {"PYTHONPATH": str(ROOT)}, escaped=True)


def onerack() -> tuple[str, ...]:
    script = Path(sys.executable).with_name("onerack")
    return (str(script),) if script.exists() else (sys.executable, "-m", "onerack.cli")


def importable(python: str, module: str) -> bool:
    probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", probe], check=False, cwd="/").returncode == 0


def wordcount_record(setting: Setting) -> Case:
    source = setting.corpora.source(setting.megabytes)
    # mrjob needs 40 s for 50 MB; at full size it would take longer than all others together.
    optional = [one for one in setting.optional_peers("wordcount", source) if setting.quick or one.name != "Mrjob"]
    return Case(
        "wordcount-record",
        'plain def map with reduce="sum", source text',
        (source,),
        (
            setting.program("wordcount_record", source),
            setting.peer("Pool + Counter", "pool", "wordcount", source),
            *optional,
        ),
        (
            Bar("at most 1.1x the time of Pool + Counter", 1.1, ("Pool",)),
            Bar("under half of Pool's memory", 0.5, ("Pool",), "peak_bytes"),
            Bar("1.5x faster than Ray tasks", 1 / 1.5, ("Ray",)),
        ),
        as_sorted_lines,
    )


def wordcount_builtin(setting: Setting, name: str, source: Path, limit: float) -> Case:
    return Case(
        name,
        "builtin wordcount; only ours writes in order of the words, unless the name says sorted",
        (source,),
        (
            setting.builtin("wordcount", str(source)),
            setting.peer("Polars split", "polars_streaming", "wordcount-split", source),
            setting.peer("Polars regex", "polars_streaming", "wordcount-regex", source),
            setting.peer("DuckDB split", "duckdb_sql", "wordcount-split", source),
            setting.peer("DuckDB regex", "duckdb_sql", "wordcount-regex", source),
            setting.peer("sorted Polars", "polars_streaming", "wordcount-sorted", source),
            setting.peer("sorted DuckDB", "duckdb_sql", "wordcount-sorted", source),
        ),
        (
            Bar(f"at most {limit}x Polars' time", limit, ("Polars",)),
            Bar(f"at most {limit}x DuckDB's time", limit, ("DuckDB",)),
            MEMORY_BAR,
        ),
        as_sorted_lines,
    )


def wordcount_source(setting: Setting) -> Case:
    return wordcount_builtin(setting, "wordcount-source", setting.corpora.source(setting.megabytes), 1.3)


def wordcount_prose(setting: Setting) -> Case:
    return wordcount_builtin(setting, "wordcount-prose", setting.corpora.prose(setting.megabytes), 1.0)


def invertedindex(setting: Setting) -> Case:
    documents = setting.corpora.documents(20 if setting.quick else 200)
    return Case(
        "invertedindex",
        "word -> sorted documents",
        (documents,),
        (
            setting.builtin("invertedindex", str(documents)),
            setting.peer("Polars lines", "polars_streaming", "invertedindex", documents),
            setting.peer("Polars numbers", "polars_streaming", "invertedindex-numbers", documents),
            setting.peer("DuckDB ordered", "duckdb_sql", "invertedindex", documents),
            setting.peer("DuckDB list", "duckdb_sql", "invertedindex-list", documents),
            setting.peer("Pool + dict", "pool", "invertedindex", documents),
        ),
        (Bar("at most 1.2x Polars' time", 1.2, ("Polars",)),),
        as_index,
    )


def grep(setting: Setting) -> Case:
    source = setting.corpora.source_repeated(8, setting.megabytes)
    return Case(
        "grep",
        f"builtin grep of {PATTERN}",
        (source,),
        (
            setting.builtin("grep", PATTERN, str(source), escaped=False),
            setting.gnu("GNU grep", "grep", source, PATTERN),
            setting.peer("Polars", "polars_streaming", "grep", source, PATTERN),
            setting.peer("DuckDB", "duckdb_sql", "grep", source, PATTERN),
            setting.peer("Pool + re", "pool", "grep", source, PATTERN),
        ),
        (
            Bar("at most 1.5x GNU grep in the C locale", 1.5, ("GNU",)),
            Bar("2x faster than Polars", 0.5, ("Polars",)),
        ),
        as_sorted_lines,
    )


def terasort(setting: Setting) -> Case:
    records = setting.corpora.records(100 if setting.quick else 1000)
    return Case(
        "terasort",
        "records of 100 bytes, keys of 10",
        (records,),
        (
            setting.builtin("terasort", str(records), escaped=False),
            setting.peer("DuckDB key", "duckdb_sql", "terasort", records),
            setting.peer("DuckDB line", "duckdb_sql", "terasort-whole", records),
            setting.peer("Polars key", "polars_streaming", "terasort", records),
            setting.peer("Polars line", "polars_streaming", "terasort-whole", records),
            setting.gnu("GNU sort key", "terasort", records),
            setting.gnu("GNU sort line", "terasort-whole", records),
        ),
        (Bar("at most 0.8x the best of DuckDB, Polars, GNU sort", 0.8, ("DuckDB", "Polars", "GNU")),),
        as_is,
        validation=(*onerack(), "run", "teravalidate", "{output}", "--out", "{output}-validated", "--quiet"),
    )


def killed(setting: Setting) -> Case:
    source = setting.corpora.source(setting.megabytes)
    return Case(
        "killed",
        "one of two workers gets SIGKILL at 50 % of the map input",
        (source,),
        (
            setting.program("wordcount_killed", source, "2", name="one worker killed"),
            setting.program("wordcount_record", source, "2", name="undisturbed"),
        ),
        (Bar("at most +60 % of time", 1.6, ("undisturbed",), ours="one worker killed"),),
        as_sorted_lines,
    )


def straggler(setting: Setting) -> Case:
    source = write_lines(setting.corpora.directory / f"sleeps-{SLEEPS}.txt", SLEEPS)
    return Case(
        "straggler",
        f"{SLEEPS} tasks of one second on 10 workers, one of which is 20x slower",
        (source,),
        tuple(setting.program("sleepers", source, mode, name=mode) for mode in ("healthy", "sick", "backup")),
        (
            Bar("at most +15 % with backup tasks", 1.15, ("healthy",), ours="backup"),
            Bar("without them", None, ("healthy",), ours="sick"),
        ),
        as_sorted_lines,
    )


def small_files(setting: Setting) -> Case:
    folder, joined = setting.corpora.small_files(2_000 if setting.quick else 20_000)
    return Case(
        "small-files",
        "builtin wordcount over many files of 5 KB, and the same bytes in one file",
        (folder, joined),
        (
            setting.builtin("wordcount", str(folder), name="many files"),
            setting.builtin("wordcount", str(joined), name="one file"),
        ),
        (Bar("under 2x the time of the same bytes in one file", 2.0, ("one file",), ours="many files"),),
        as_sorted_lines,
    )


def start_up(setting: Setting) -> Case:
    source = write_lines(setting.corpora.directory / "lines-10.txt", 10)
    return Case(
        "start-up",
        "a job of ten lines",
        (source,),
        (setting.program("first_map", source), setting.builtin("wordcount", str(source), name="whole job by CLI")),
        (Bar("first map under 0.5 s", 0.5, measure="first_map_s"),),
        nothing,
    )


CASES: dict[str, Callable[[Setting], Case]] = {
    "wordcount-record": wordcount_record,
    "wordcount-source": wordcount_source,
    "wordcount-prose": wordcount_prose,
    "invertedindex": invertedindex,
    "grep": grep,
    "terasort": terasort,
    "killed": killed,
    "straggler": straggler,
    "small-files": small_files,
    "start-up": start_up,
}
