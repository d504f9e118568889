"""`onerack demo`: word count over this Python's own standard library, with a worker killed on the way.

The idea: a demonstration that proves something. The input is real and always there; the worker is killed with
SIGKILL from outside, when half of the map tasks are done; what was run again is read from the job's journal; and in
the end the counts are compared with those of a plain loop over the same files in this process.
"""

from __future__ import annotations

import glob
import heapq
import os
import re
import signal
import sysconfig
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from onerack.errors import OnerackError, OutputExists

if TYPE_CHECKING:
    from onerack.mapreduce import JobResult
    from onerack.mapreduce.messages import JobStatus

EXAMPLES = """\b
Examples:
  onerack demo
  onerack demo --workers 4 --out /tmp/words
"""

WORD: Final = re.compile(r"[a-z]+")
_NAME: Final = "onerack demo"
_WORKERS_MAX: Final = 4
_SPLITS_PER_WORKER: Final = 8
_LOOK_INTERVAL_S: Final = 0.002


class WordCount:
    """The job of the demo. What a user would write, and no more."""

    errors = "replace"
    reduce = "sum"

    def map(self, key: object, line: str) -> Iterator[tuple[str, int]]:
        for word in WORD.findall(line.lower()):
            yield word, 1


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Where the counts go; an earlier demo's are replaced.")
    ] = Path("demo-output"),
    workers: Annotated[
        int | None,
        typer.Option("--workers", "-w", metavar="N", min=1, help="Processes. Default: one per core, 2 to 4."),
    ] = None,
) -> None:
    """Count the words of Python's library; lose a worker.

    Shows what a job looks like, how fast it is, that a killed worker costs only the task it was running, and that the
    result is the same as that of a plain loop. Takes some seconds and needs nothing but this package.
    """
    if out.exists() and not is_demos_output(out):
        raise OutputExists(f"{out} exists and is not the output of an earlier demo; choose another with --out")
    patterns, files = standard_library()
    size_bytes = sum(path.stat().st_size for path in files)
    _introduce(files, size_bytes)
    processes = workers or min(max(len(os.sched_getaffinity(0)), 2), _WORKERS_MAX)
    saboteur = Saboteur()
    split_bytes = size_bytes // (processes * _SPLITS_PER_WORKER)
    result = _count(patterns, out, processes, split_bytes=split_bytes, saboteur=saboteur)
    _tell(result, saboteur, out)
    _prove(result, files)


def is_demos_output(out: Path) -> bool:
    """Whether an earlier demo wrote this, by its mark: no other job's output is replaced unasked."""
    import msgspec

    with suppress(OSError, msgspec.DecodeError):
        mark = msgspec.json.decode((out / "_SUCCESS").read_bytes(), type=dict[str, Any])
        return mark.get("name") == _NAME
    return False


def standard_library() -> tuple[list[str], list[Path]]:
    """The sources of the standard library, without what is installed beside it: as patterns, and as files."""
    library = Path(sysconfig.get_path("stdlib"))
    packages = sorted(path.parent for path in library.glob("*/__init__.py"))
    patterns = [str(library / "*.py"), *(str(package / "**" / "*.py") for package in packages)]
    files = {Path(name) for pattern in patterns for name in glob.iglob(pattern, recursive=True)}
    return patterns, sorted(path for path in files if path.is_file())


class Saboteur:
    """Kills one worker when half of the map tasks are done."""

    def __init__(self) -> None:
        self.killed = 0
        """The process id of the victim; 0 when the job was over too soon."""
        self._watching: threading.Thread | None = None
        self._over = threading.Event()

    def saw(self, status: JobStatus) -> None:
        """Gets the first picture of the job and watches from then on."""
        if self._watching is None and status.maps.tasks:
            self._watching = threading.Thread(target=self._watch, args=(status,), daemon=True)
            self._watching.start()

    def rest(self) -> None:
        """The job is over; returns when nobody will be killed any more."""
        self._over.set()
        if self._watching is not None:
            self._watching.join()

    def _watch(self, status: JobStatus) -> None:
        from onerack.mapreduce.history import load_job

        shuffle = Path(load_job(status.job).directory, "shuffle")
        while self._finished_maps(shuffle) < status.maps.tasks // 2:
            if self._over.wait(_LOOK_INTERVAL_S):
                return
        victims = grandchildren(os.getpid())
        if victims:
            with suppress(ProcessLookupError):  # It may have ended in this very moment.
                os.kill(victims[0], signal.SIGKILL)
                self.killed = victims[0]

    def _finished_maps(self, shuffle: Path) -> int:
        try:
            return sum(1 for entry in os.scandir(shuffle) if not entry.name.endswith(".tmp"))
        except FileNotFoundError:
            return 0


def grandchildren(pid: int) -> list[int]:
    """The workers: this process starts the nursery, the nursery forks them."""
    return sorted(worker for nursery in _children(pid) for worker in _children(nursery))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for listing in Path("/proc", str(pid), "task").glob("*/children"):
        try:
            found += map(int, listing.read_text().split())
        except OSError:  # The thread or the process ended while we looked.
            continue
    return found


def _introduce(files: list[Path], size_bytes: int) -> None:
    from onerack.cli.amounts import count_text
    from onerack.mapreduce.sizes import format_size

    library = Path(sysconfig.get_path("stdlib"))
    print(f"Word count over the standard library of this Python: {count_text(len(files))} files,")
    print(f"{format_size(size_bytes)}, in {library}. The whole job:\n")
    print("    class WordCount:")
    print('        errors = "replace"')
    print('        reduce = "sum"')
    print("        def map(self, key, line):")
    print("            for word in WORD.findall(line.lower()):")
    print("                yield word, 1\n", flush=True)


def _count(patterns: list[str], out: Path, workers: int, *, split_bytes: int, saboteur: Saboteur) -> JobResult:
    from onerack.cli.display import display_for
    from onerack.mapreduce import run

    with display_for(quiet=False) as display:
        show: Callable[[JobStatus], None] = display.show

        def on_status(status: JobStatus) -> None:
            saboteur.saw(status)
            show(status)

        try:
            return run(
                WordCount,
                input=patterns,
                output=str(out),
                workers=workers,
                split_size=max(split_bytes, 1),
                overwrite=True,
                name=_NAME,
                on_status=on_status,
            )
        finally:
            saboteur.rest()


def _tell(result: JobResult, saboteur: Saboteur, out: Path) -> None:
    from onerack.cli.amounts import count_text, rate_text, seconds_text

    if saboteur.killed:
        print(f"When half of the map tasks were done, SIGKILL was sent to worker process {saboteur.killed}.")
        again = repeated_tasks(result.directory)
        if again:
            print(f"Run again because of that: {', '.join(again)}. No other task was.\n")
        else:
            print("It was between two tasks, so nothing had to run again.\n")
    else:
        print("The job was over before a worker could be killed.\n")
    print("The ten most frequent words:\n")
    for word, count in heapq.nlargest(10, result.rows(), key=lambda row: row[1]):
        print(f"    {count_text(count):>10}  {word}")
    lines, different = count_text(result.metrics.records_in), count_text(result.metrics.records_out)
    speed = f"{seconds_text(result.seconds)}, {rate_text(result.throughput)}"
    print(f"\n{lines} lines, {different} different words, {speed}.")
    print(f"The counts lie in {out.absolute()}.", flush=True)


def repeated_tasks(directory: str) -> list[str]:
    """The tasks whose accepted attempt was not their first, by the job's journal: `m7`."""
    import msgspec

    from onerack.codec import decode_file
    from onerack.mapreduce.messages import JournalRecord, TaskCompleted

    path = Path(directory, "journal.log")
    decoder = msgspec.msgpack.Decoder(JournalRecord)
    records = [decoder.decode(payload) for payload in decode_file(path.read_bytes(), str(path))]
    accepted = [record.attempt for record in records if isinstance(record, TaskCompleted)]
    return [attempt.task for attempt in accepted if attempt.number > 1]


def _prove(result: JobResult, files: list[Path]) -> None:
    """Compares the result with a plain loop in this process. Raises `OnerackError` if they differ."""
    from onerack.cli.amounts import seconds_text

    began = time.monotonic()
    expected: Counter[str] = Counter()
    for path in files:
        expected.update(WORD.findall(path.read_text(encoding="utf-8", errors="replace").lower()))
    if dict(result.rows()) != dict(expected):
        raise OnerackError(f"the counts differ from those of a plain loop; the job's journal is in {result.directory}")
    took = seconds_text(time.monotonic() - began)
    print(f"A plain loop over the same files, in this one process, gives the same counts ({took}).")
