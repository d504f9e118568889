"""Interruption: Ctrl-C, SIGTERM and a closed terminal, turned into one orderly end.

The idea: for the time of a job the three signals raise `Stopped` in the main thread, wherever that is, once. What
must not be cut in two (moving the finished output into its place) runs `shielded`; a signal that comes then is
delivered again when the job's own handlers are gone.

The rule: a handler that the user's program has set for SIGTERM or SIGHUP is his, and an ignored SIGINT (`nohup`)
stays ignored. Outside the main thread nothing is touched, for signals never arrive there.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """The user wants the job to end. Not an `Exception`, so that no user's callback swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal_name = signal.Signals(number).name


class Interruption:
    """A `with` block in which the first signal raises `Stopped`; further ones are left alone."""

    def __init__(self) -> None:
        self._kept: dict[int, Any] = {}
        self._shielded = False
        self._raised = False
        self._pending: int | None = None

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if handler is signal.SIG_DFL or (number == signal.SIGINT and callable(handler)):
                    self._kept[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._kept.items():
            signal.signal(number, handler)
        if self._pending is not None and not self._raised:
            signal.raise_signal(self._pending)

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Signals wait while the block runs."""
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._shielded or self._raised:
            self._pending = number
            return
        self._raised = True
        raise Stopped(number)
