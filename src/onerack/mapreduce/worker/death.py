"""How a worker process ended, as a `Failure` that tells a user what happened and what to do.

The idea: wait(2) gives sixteen bits; a user needs a sentence. A signal is named, the out-of-memory killer is told from
a plain `kill -9` by the kernel's own count of its victims, an exit status is called one.

The rule: nothing is claimed that is not known: a SIGKILL without a witness is "killed by SIGKILL", no more.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from onerack.mapreduce.messages import Failure
from onerack.mapreduce.worker.orders import EXIT_ORPHAN

_SUSPICIOUS_FRACTION = 0.9
"""A worker that aborts with so much of its memory limit in use is taken to have died of it: libraries in C++ turn a
refused allocation into abort()."""


def describe(status: int, *, memory_bytes_max: int, memory_limit_bytes: int, killed_by_kernel: bool) -> Failure:
    """The failure for wait status `status` of a worker that nobody here had asked to end.

    `killed_by_kernel`: the out-of-memory killer has struck since the last look.
    """
    if os.WIFEXITED(status):
        code = os.WEXITSTATUS(status)
        if code == EXIT_ORPHAN:
            return Failure("lost", "the worker lost its connection; does user code close descriptors?")
        return Failure("exit", f"the worker process ended with exit status {code}; user code must not end the process")
    number = os.WTERMSIG(status)
    name = signal_name(number)
    used = f"peak memory {memory_bytes_max >> 20} MiB, limit {memory_limit_bytes >> 20} MiB"
    if number == signal.SIGKILL and killed_by_kernel:
        return Failure("memory", f"the kernel's out-of-memory killer ended the worker ({used}); fewer workers help")
    if number == signal.SIGABRT and memory_bytes_max > _SUSPICIOUS_FRACTION * memory_limit_bytes:
        return Failure("memory", f"the worker aborted near its memory limit ({used}); raise the job's memory")
    # SIGKILL comes from outside, as far as anyone can tell; every other signal is the process's own doing.
    return Failure(
        "killed" if number == signal.SIGKILL else "crash", f"the worker process was killed by {name} ({used})"
    )


def signal_name(number: int) -> str:
    """SIGSEGV for 11; `signal 40` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def kernel_kills() -> int:
    """How many processes the out-of-memory killer has ended since boot; 0 where the system does not count."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
