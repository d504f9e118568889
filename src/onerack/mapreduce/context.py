"""What user code may ask of the task that runs it: counters, side files, where it is.

The idea: one context per process, because a worker runs one attempt at a time; the functions here are module-level,
so that plain functions can use them without a `self`. Threads that user code starts see the same context.

The rule: outside a task nothing here fails or keeps anything (`count` counts nowhere, `side_file` gives its argument
back), so that a user can test `map` and `reduce` as the plain functions they are. Only `current` insists on a task.

Counters are rolled back with the record that made them: `TaskContext.counters` holds what is settled and `pending`
what the call in progress has counted (section 2.9 of the notes: a re-executed call must not count twice).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from onerack.errors import UsageError
from onerack.mapreduce.messages import AttemptId, TaskKind


class Progress(Protocol):
    """Where a task says how far it is; the worker's `Probe`."""

    def advance(self, *, records: int = 0, bytes_in: int = 0) -> None:
        """Adds to what the attempt has read."""


class TaskContext:
    """The running attempt, as its code may see it."""

    def __init__(
        self,
        attempt: AttemptId,
        *,
        files: Sequence[str] = (),
        path: str = "",
        counters: Sequence[str] = (),
        progress_to: Progress | None = None,
        memory_bytes: int = 1 << 30,
        accelerate: bool = True,
    ) -> None:
        self.job = attempt.job
        self.kind: TaskKind = attempt.kind
        self.index = attempt.index
        self.task = attempt.task
        """The task's short name: m17, r3."""
        self.attempt = attempt.number
        """Counts from 1. Code that is not deterministic may look at it; the output then depends on failures."""
        self.path = path
        """map: the file being read (`map_batch`: the split's first file). reduce: empty."""
        self.files = tuple(files)
        self.memory_bytes = memory_bytes
        """What the task may use (`JobSpec.memory_bytes`); builtin jobs keep to a part of it."""
        self.accelerate = accelerate
        """Whether builtin jobs use compiled kernels (`JobSpec.accelerate`)."""
        self.counters: dict[str, int] = dict.fromkeys(counters, 0)
        self.pending: dict[str, int] = {}
        self._progress_to = progress_to

    def count(self, name: str, n: int = 1) -> None:
        """Adds `n` to the job's counter `name`."""
        if not isinstance(name, str) or not isinstance(n, int):
            raise TypeError(f"count(name, n) takes a str and an int; it got {name!r} and {n!r}")
        self.pending[name] = self.pending.get(name, 0) + int(n)

    def progress(self, records: int = 0, bytes: int = 0) -> None:
        """Says how much was read since the last call: for code that takes a whole split at once (`map_split`)."""
        if self._progress_to is not None:
            self._progress_to.advance(records=records, bytes_in=bytes)

    def side_file(self, name: str) -> str:
        """The local path of one of the job's `files`, asked for by its name or by the path the job gave."""
        for path in self.files:
            if name in (path, os.path.basename(path)):
                return path
        known = ", ".join(os.path.basename(path) for path in self.files) or "none"
        raise UsageError(f"side_file({name!r}): the job has no such file; its `files` are: {known}")

    def settle(self) -> None:
        """What was counted since the last `settle` or `roll_back` becomes final."""
        if self.pending:
            pending, self.pending = self.pending, {}
            add_counts(self.counters, pending)

    def roll_back(self) -> None:
        """What was counted since the last `settle` never happened."""
        self.pending = {}

    def take_pending(self) -> dict[str, int]:
        """What was counted since, for a caller that settles it later with `add_counts`."""
        pending, self.pending = self.pending, {}
        return pending


def add_counts(total: dict[str, int], counts: dict[str, int]) -> None:
    """Adds each of `counts` to its namesake in `total`."""
    for name, n in counts.items():
        total[name] = total.get(name, 0) + n


_running: TaskContext | None = None


@contextmanager
def running(context: TaskContext) -> Iterator[TaskContext]:
    """Makes `context` the current one while the block runs."""
    global _running
    before, _running = _running, context
    try:
        yield context
    finally:
        _running = before


def current() -> TaskContext:
    """The attempt that runs this code. Raises `UsageError` outside a task."""
    if _running is None:
        raise UsageError("current() is for code that runs in a task of a job (map, reduce, ...); none is running")
    return _running


def in_task() -> bool:
    """Whether this code runs inside a task of a job."""
    return _running is not None


def count(name: str, n: int = 1) -> None:
    """Adds `n` to the job's counter `name`. The total counts each task once, however often it was executed.

    Outside a task it does nothing.
    """
    if _running is not None:
        _running.count(name, n)


def side_file(name: str) -> str:
    """The path of one of the job's `files`. Outside a task: `name` itself.

    Raises: UsageError: the job has no such file; the message lists those it has.
    """
    return name if _running is None else _running.side_file(name)
