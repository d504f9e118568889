"""The nursery: a process whose only work is to fork workers.

The idea: a fresh interpreter imports numpy, pyarrow and our own modules once, stays single-threaded, and forks. A
worker is then there in milliseconds, shares the libraries' memory with its siblings, and inherits no lock that some
thread held at the wrong moment, because the user's process, with its threads and its `__main__`, is never forked and
never imported again.

The rule: no worker outlives the nursery and the nursery does not outlive the parent. Each worker leads a process
group; its end, however it came, is followed by SIGKILL to that group. The end of the parent shows as end-of-file on
the control socket (or, should some other process have inherited it, as a changed parent id). A nursery that is
killed takes its workers along by PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from typing import NoReturn

from onerack.mapreduce import kernels
from onerack.mapreduce.worker import limits
from onerack.mapreduce.worker.channel import Channel
from onerack.mapreduce.worker.desk import Desk
from onerack.mapreduce.worker.main import work
from onerack.mapreduce.worker.orders import Compile, Exited, Fork, Forked, Kill, Stop, ToNursery
from onerack.rpc.interface import interface_of

PRELOADED = (
    "numpy",
    "pyarrow",
    "pyarrow.compute",
    "pyarrow.ipc",
    "cloudpickle",
    "onerack.mapreduce.worker.main",
    "onerack.mapreduce.shuffle.collector",
    "onerack.mapreduce.shuffle.merge",
    "onerack.mapreduce.inputs.reader",
    "onerack.mapreduce.outputs.writer",
)
"""What every job needs. The compiled kernels, which not every job is worth, are asked for by `Compile`."""

_WATCH_S = 1.0
"""How often a nursery without work looks whether its parent is still there."""


class Nursery:
    """The control loop."""

    def __init__(self, control: socket.socket) -> None:
        self._channel: Channel[ToNursery] = Channel(control, ToNursery)
        self._parent = os.getppid()
        self._workers: dict[int, str] = {}
        self._bell, self._ringer = socket.socketpair()
        self._stop: Stop | None = None

    def run(self) -> None:
        """Until the parent says so or is gone."""
        self._bell.setblocking(False)
        self._ringer.setblocking(False)
        # The handler itself does nothing; the byte that the interpreter writes for it wakes the select below.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._ringer.fileno(), warn_on_full_buffer=False)
        try:
            while self._stop is None and os.getppid() == self._parent:
                readable, _, _ = select.select([self._channel.connection, self._bell], [], [], _WATCH_S)
                if self._bell in readable:
                    self._bell.recv(4096)
                if self._channel.connection in readable and not self._obey():
                    break
                self._bury()
        except BrokenPipeError:
            pass  # The parent went away while it was being told something.
        finally:
            self._end(self._stop.grace_s if self._stop else 0.0)

    def _obey(self) -> bool:
        """Takes what the parent has said; False when it is gone."""
        alive = self._channel.read()
        for order in self._channel.arrived():
            match order:
                case Compile():
                    kernels.preload()
                    gc.freeze()
                case Fork():
                    self._fork(order)
                case Kill(worker):
                    for pid, name in self._workers.items():
                        if name == worker:
                            limits.kill_group(pid)
                case Stop():
                    self._stop = order
        return alive

    def _fork(self, order: Fork) -> None:
        connection = socket.socket(fileno=self._channel.take_descriptor())
        nursery = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_worker(order, connection, nursery)
        connection.close()
        with contextlib.suppress(OSError):  # The child does it too: whoever comes first.
            os.setpgid(pid, pid)
        self._workers[pid] = order.worker
        self._channel.send(Forked(order.worker, pid))

    def _become_worker(self, order: Fork, connection: socket.socket, nursery: int) -> NoReturn:
        """The child's side of the fork: leaves everything of the nursery behind."""
        status = 1
        try:
            os.setpgid(0, 0)
            limits.die_with_parent(nursery)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._bell.close()
            self._ringer.close()
            self._channel.close()
            status = work(connection, order)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            # Not sys.exit: what the nursery registered for its own exit is none of the worker's business.
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _bury(self) -> None:
        """Reports and forgets the workers that have ended, and ends what they left in their groups."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            worker = self._workers.pop(pid, None)
            if worker is not None:
                limits.kill_group(pid)
                unit = 1 if sys.platform == "darwin" else 1024
                with contextlib.suppress(OSError):  # At the end the parent may be gone already.
                    self._channel.send(Exited(worker, pid, status, usage.ru_maxrss * unit))

    def _end(self, grace_s: float) -> None:
        """Waits a moment for workers that end by themselves, then leaves nothing behind."""
        deadline = time.monotonic() + grace_s
        self._bury()
        while self._workers and (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(BlockingIOError):
                select.select([self._bell], [], [], left)
                self._bell.recv(4096)
            self._bury()
        for pid in self._workers:
            limits.kill_group(pid)
        # Orphans that had left their worker's group became our children when their parents ended.
        while (pids := limits.orphans()) or self._workers:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            pid, _, _ = os.wait4(-1, 0)
            self._workers.pop(pid, None)


def preload(modules: tuple[str, ...]) -> None:
    """Imports, and keeps the collector's hands off what was imported, so that forked pages stay shared."""
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def main(descriptor: int) -> NoReturn:
    """The nursery's whole life. `descriptor` is its end of the control socket."""
    for interrupt in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The parent decides when to end; a terminal's Ctrl-C reaches only the parent anyway (own session).
        signal.signal(interrupt, signal.SIG_IGN)
    limits.adopt_orphans()
    control = socket.socket(fileno=descriptor)
    interface_of(Desk)  # Read once here, it is there in every worker.
    preload(PRELOADED)
    Nursery(control).run()
    # At once: taking numpy and pyarrow apart in order would only make the parent wait.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
