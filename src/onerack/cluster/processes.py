"""Processes that outlive whoever started them, and how they are known again.

The idea: a pid alone names nobody, for the system gives it to another process some day. A pid and the moment at which
the process began do: no two processes of one boot share both.

The rule: no signal is sent to a process that was not recognised at that moment.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

_LOOK_S: Final = 0.02
_ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STAT_STATE, _STAT_START = 0, 19
"""Fields of /proc/PID/stat behind the name of the command."""


class Process(NamedTuple):
    """One process of one life of the machine."""

    pid: int
    started: str


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Whoever tells this process to end waits until the block has ended."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """In this block SIGTERM and SIGHUP do what SIGINT does. Requires: the main thread, or nothing happens."""

    def end(number: int, frame: object) -> None:
        signal.raise_signal(signal.SIGINT)  # An event loop that runs has its own way with it.

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start_detached(command: list[str], log: Path, environment: dict[str, str]) -> Process:
    """Starts a process in a session of its own; its output goes to the end of `log`. Raises: OSError."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        actions = [
            (os.POSIX_SPAWN_DUP2, nothing, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ]
        # Signals that are held back here are none of its business.
        pid = os.posix_spawn(command[0], command, environment, file_actions=actions, setsid=True, setsigmask=())
    finally:
        os.close(nothing)
        os.close(output)
    return Process(pid, _started(pid) or "")


def is_alive(process: Process) -> bool:
    """Whether this very process runs."""
    return bool(process.started) and _started(process.pid) == process.started


def stop(processes: Iterable[Process], *, grace_s: float) -> list[Process]:
    """Asks them to end, all at once; kills whoever has not after `grace_s`. Returns those that were killed."""
    alive = [process for process in processes if is_alive(process)]
    for process in alive:
        _send(process, signal.SIGTERM)
    late = _wait(alive, grace_s)
    for process in late:
        _send(process, signal.SIGKILL)
    # SIGKILL takes effect, but a process in the middle of a write to a slow disk does not end before that.
    _wait(late, 30.0)
    return late


def _wait(processes: list[Process], timeout_s: float) -> list[Process]:
    """Until all have ended, or for so long. Returns those that live."""
    give_up_at = time.monotonic() + timeout_s
    while alive := [process for process in processes if is_alive(process)]:
        if time.monotonic() >= give_up_at:
            break
        time.sleep(_LOOK_S)
    return alive


def _send(process: Process, number: signal.Signals) -> None:
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _started(pid: int) -> str | None:
    """When it began; None: there is none, or it has ended and only its parent has not asked yet."""
    with contextlib.suppress(OSError):
        os.waitpid(pid, os.WNOHANG)  # If it is our own child, and has ended, we are the one to ask.
    try:
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[_STAT_STATE] in ("Z", "X") else f"{_boot()}+{fields[_STAT_START]}"


@functools.cache
def _boot() -> str:
    """This life of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
