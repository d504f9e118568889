"""The server's side of a measurement: a process that says where it listens, and ends when its standard input does.

The idea: the pipe is the whole protocol. The server writes one line, its address; it stops when the client closes the
pipe or dies, so no server outlives its client.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

END_TIMEOUT_S = 10.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class ServerProcess:
    address: str
    pid: int

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def cpu_s(self) -> float:
        return cpu_s(self.pid)


def cpu_s(pid: int) -> float:
    """User and system time of a process and all its threads, to the nanosecond where /proc/PID/stat has 10 ms."""
    # The kernel's number for another process's CPU clock: see clock_getcpuclockid(3).
    return time.clock_gettime(~pid << 3 | 2)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


@contextmanager
def server_process(command: Sequence[str]) -> Iterator[ServerProcess]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise RuntimeError(f"the server ended before it listened: {' '.join(command)}")
            yield ServerProcess(address, process.pid)
            process.stdin.close()
            process.wait(END_TIMEOUT_S)
        finally:
            process.kill()


def announce(address: str) -> None:
    print(address, flush=True)


def wait_for_client_to_end() -> None:
    sys.stdin.read()


async def client_has_ended() -> None:
    await asyncio.to_thread(wait_for_client_to_end)
