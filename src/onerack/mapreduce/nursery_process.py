"""The nursery as its parent sees it: a child process and one socket to it.

The idea: a fresh interpreter, started with the library's own code and nothing of the user's, in a session of its own,
so that a terminal's Ctrl-C reaches the parent alone. The constructor does not wait: while the nursery imports, the
parent plans.

The rule: what it prints is kept in a file without a name and shown only when it fails to live.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

import onerack
from onerack.mapreduce.worker import limits
from onerack.mapreduce.worker.channel import Channel
from onerack.mapreduce.worker.orders import FromNursery, Stop

_OUTPUT_BYTES_MAX = 4096
_STOP_GRACE_S = 0.5
"""How long the nursery may take to kill its workers, when they had their own time."""


class NurseryProcess:
    """The nursery as its parent sees it. Started by the constructor, which does not wait for it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        package_root = str(Path(onerack.__file__).parent.parent)
        # `-c` makes a __main__ that is nobody's module; -P keeps the current directory from shadowing the library. The
        # folder of this very package goes first until the package is found, and then last, where it shadows nothing.
        program = (
            f"import sys; sys.path.insert(0, {package_root!r}); import onerack; sys.path.append(sys.path.pop(0)); "
            f"from onerack.mapreduce.worker.nursery import main; main({theirs.fileno()})"
        )
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `stop`
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            pass_fds=(theirs.fileno(),),
            env={**os.environ, **limits.ENVIRONMENT},
            start_new_session=True,
        )
        theirs.close()
        self.channel: Channel[FromNursery] = Channel(ours, FromNursery)
        self.pid = self._process.pid

    def stop(self, grace_s: float, workers: Collection[int]) -> None:
        """Ends the nursery and `workers`, all that it has forked; returns when they have ended.

        A nursery that has no workers, or is busy (it may be compiling kernels), is not waited for.
        """
        if workers:
            with contextlib.suppress(OSError):
                self.channel.send(Stop(grace_s))
        if not workers or not self._has_ended(grace_s + _STOP_GRACE_S):
            for pid in workers:
                limits.kill_group(pid)
            self._process.kill()
        self._process.wait()
        self.channel.close()
        self._output.close()

    def _has_ended(self, timeout_s: float) -> bool:
        """Waits for the end of the nursery's stream, which is its end."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            readable, _, _ = select.select([self.channel.connection], [], [], left)
            if readable and not self.channel.read():
                return True
        return False

    def last_words(self) -> str:
        """The end of what the nursery, and workers outside of tasks, have printed."""
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - _OUTPUT_BYTES_MAX))
        return self._output.read().decode(errors="replace").strip()
