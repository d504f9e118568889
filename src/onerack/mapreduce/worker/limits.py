"""Limits of a worker process: how much memory it may take, and that it dies with its parent.

The idea: the kernel enforces what it can. RLIMIT_DATA bounds private writable memory, so the allocation that passes
the limit fails *inside* the user's code, as a MemoryError with the user's own traceback. What slips past it (a library
that raises its own limit) is seen by the parent, which reads /proc/<pid>/status now and then and kills. Memory that
is shared on purpose (`mmap(-1)`, `multiprocessing.shared_memory`) is not counted: from outside it looks like a mapped
file on a disk in memory, which a task may read as it likes. PR_SET_PDEATHSIG makes the kernel kill a worker whose
nursery is gone, whatever the worker is doing.

The rule: a limit counts what the worker took *since it was forked*; interpreter and libraries, which it shares with
the nursery, are free. Off Linux the calls that do not exist are left out; the sockets' end-of-file still ends all.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

from onerack.config import MIB

HEADROOM_BYTES = 128 * MIB
"""For allocators and thread stacks: virtual memory that libraries reserve and never touch."""

ENVIRONMENT = {
    # One thread for each worker: the parallelism is in the number of workers, and threads do not survive a fork.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "ARROW_IO_THREADS": "1",
    # malloc gives freed memory back and can be bounded; a pool of its own does neither well after a fork.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}

_PAGE_BYTES = resource.getpagesize()
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def limit_memory(memory_bytes: int, *, baseline_bytes: int) -> None:
    """From now on this process may hold `memory_bytes` above `baseline_bytes`, plus headroom."""
    wanted = baseline_bytes + memory_bytes + HEADROOM_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def data_bytes() -> int:
    """Private writable memory of this process, as RLIMIT_DATA counts it; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[5]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def resident_bytes(pid: int) -> int:
    """Anonymous memory of a process that is in RAM; 0 when it is gone or the system does not say.

    Mapped files are not counted: the kernel takes those pages back when it needs them.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            for line in status:
                if line.startswith(b"RssAnon:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


def processor_ticks(pid: int) -> int | None:
    """User and system time of a process, in clock ticks; None when it is stopped, gone, or unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the program's name in brackets, and may hold anything: count from the last bracket.
    state, *fields = stat[stat.rindex(b")") + 2 :].split()
    return None if state in (b"T", b"t", b"Z", b"X") else int(fields[10]) + int(fields[11])


def die_with_parent(parent: int) -> None:
    """Asks the kernel for SIGKILL when `parent`, the process that forked this one, ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # It ended before the kernel heard the wish.
        os._exit(0)


def adopt_orphans() -> None:
    """Makes this process the parent of descendants whose own parent ends, so that it can find and end them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def orphans() -> list[int]:
    """Processes whose parent is this one now; on Linux only."""
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return []


def kill_group(pid: int) -> None:
    """SIGKILL to the process group that `pid` leads, and to `pid` should it not lead one yet."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _prctl(option: int, argument: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0)
