"""Measures one command as a user would feel it: wall time, CPU time and peak memory of its whole process tree.

The idea: the command is a fresh process, so start-up and tear-down count. Descendants are found through /proc; the
measuring process is their subreaper, so one that detaches itself (a daemon, an orphan) is still seen, charged, and
reported when it outlives the command.

Memory is what the tree holds that no file backs: anonymous plus shared, each page counted once however many
processes map it (Pss), because a forked pool would otherwise be charged several times for one page. Page cache and
mapped input do not count, for anybody. The rule: the sampler uses at most a twentieth of one core.

Source: notes on peers ("memory = peak anonymous + shared over the process tree").
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SAMPLE_INTERVAL_S = 0.05
SAMPLER_SHARE = 0.05
ORPHAN_GRACE_S = 2.0
PR_SET_CHILD_SUBREAPER = 36


class RunFailed(Exception):
    """A command ended with an error or did not end in time; the message carries its last words."""


@dataclass(frozen=True)
class Run:
    """What one execution of one command cost."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    orphans: int
    """Processes still alive two seconds after the command ended; they were killed."""
    marks: dict[str, float] = field(default_factory=dict)
    """Seconds from the start of the command to events it wrote down itself, and figures it computed."""


def become_subreaper() -> None:
    """From now on orphaned descendants become children of this process instead of init's."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
        pass
    return found


def descendants(root: int, besides: frozenset[int] = frozenset()) -> list[int]:
    """All live processes below `root`, without `besides` and what is below those."""
    found: list[int] = []
    queue = [root]
    while queue:
        for child in children_of(queue.pop()):
            if child not in besides:
                found.append(child)
                queue.append(child)
    return found


def unbacked_bytes(pid: int) -> int:
    """Anonymous and shared memory of one process, each page divided by the number of those who map it."""
    total = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith((b"Pss_Anon:", b"Pss_Shmem:")):
                    total += int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return total


class MemorySampler(threading.Thread):
    """Samples the tree below this process until `finish`; keeps the highest sum."""

    def __init__(self, besides: frozenset[int]) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._besides = besides
        self._finished = threading.Event()

    def run(self) -> None:
        pause = SAMPLE_INTERVAL_S
        while not self._finished.wait(pause):
            before = time.thread_time()
            total = sum(unbacked_bytes(pid) for pid in descendants(os.getpid(), self._besides))
            self.peak_bytes = max(self.peak_bytes, total)
            pause = max(SAMPLE_INTERVAL_S, (time.thread_time() - before) / SAMPLER_SHARE)

    def finish(self) -> int:
        """Ends the sampling, if it was begun."""
        self._finished.set()
        if self.is_alive():
            self.join()
        return self.peak_bytes


def measure(
    command: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str],
    memory_sampled: bool = True,
    timeout_s: float = 1800.0,
) -> Run:
    """Runs `command` once in `directory`; its output goes to `command.log` there, its marks come from `marks.json`."""
    directory.mkdir(parents=True, exist_ok=True)
    # The last run's dirty pages are written back now, not at the expense of this one.
    os.sync()
    marks = directory / "marks.json"
    marks.unlink(missing_ok=True)
    log = directory / "command.log"
    besides = frozenset(descendants(os.getpid()))
    sampler = MemorySampler(besides)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("wb") as output:
        if memory_sampled:
            sampler.start()
        started_at = time.time()
        started = time.perf_counter()
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **environment, "BENCH_MARKS": str(marks)},
        )
        try:
            code = process.wait(timeout_s)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            end_orphans(besides)
            sampler.finish()
            raise
        wall = time.perf_counter() - started
    peak = sampler.finish()
    orphans = end_orphans(besides)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code != 0:
        words = log.read_text(errors="replace").strip().splitlines()[-12:]
        raise RunFailed(f"exit code {code} from: {' '.join(command)}\n  " + "\n  ".join(words))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(wall, cpu, peak, orphans, read_marks(marks, started_at))


def end_orphans(besides: frozenset[int]) -> int:
    """Waits for adopted processes to end by themselves, kills those that do not, and says how many that were."""
    deadline = time.monotonic() + ORPHAN_GRACE_S
    while (left := alive(besides)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while alive(besides):
        time.sleep(0.01)
    return len(left)


def alive(besides: frozenset[int]) -> list[int]:
    """Collects our children that have ended (never those in `besides`) and lists what still lives below us."""
    for pid in children_of(os.getpid()):
        if pid not in besides:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
    return descendants(os.getpid(), besides)


def read_marks(path: Path, started_at: float) -> dict[str, float]:
    """Marks are JSON: names ending in `_at` are clock times, made relative to the start; others are taken as given."""
    if not path.exists():
        return {}
    marks: dict[str, float] = json.loads(path.read_text())
    return {
        name.removesuffix("_at") + "_s" if name.endswith("_at") else name: value - started_at * name.endswith("_at")
        for name, value in marks.items()
    }
