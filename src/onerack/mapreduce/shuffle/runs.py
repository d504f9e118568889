"""Sections as sorted runs, few enough and in little enough memory to be merged at once.

The idea: a job may have thousands of map tasks, a process only so many open files and so much memory. Sections are
read in map order; as soon as there are too many of them they are merged into one longer run in the scratch folder.

The rule: groups that are merged early are neighbours, so the order of equal keys stays that of map tasks. All runs
of a partition have keys of one kind, and sort keys of one kind.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from onerack.errors import storing
from onerack.mapreduce.columns import Columns
from onerack.mapreduce.messages import Section
from onerack.mapreduce.shuffle.format import MAPPED_BYTES_MIN, Run, SameKinds, ShuffleWriter, read_section
from onerack.mapreduce.shuffle.windows import Window, concat_columns, windows

SectionRun = tuple[Section, Run]
Progress = Callable[[], None]
"""Called at every piece of work: a task that shows no progress counts as stalled."""
SortedRun = list[Columns]
"""Columns one after the other, sorted as a whole."""
FAN_IN: Final = 256
"""So many runs are merged at once."""
_OBJECT_FACTOR: Final = 16
"""A window's rows as Python objects, with lists and copies, take up to so many times their bytes as columns."""
_WINDOW_BYTES_MIN: Final = 64 << 10
_WINDOW_BYTES_MAX: Final = 64 << 20
"""Larger windows leave the processor's cache without saving anything."""


def window_bytes_of(memory_bytes: int) -> int:
    """How much of a worker's memory one window of rows may take."""
    return max(_WINDOW_BYTES_MIN, min(memory_bytes // _OBJECT_FACTOR, _WINDOW_BYTES_MAX))


def no_progress() -> None:
    """For those whom nobody watches."""


def read_runs(sections: Sequence[Section], progress: Progress = no_progress) -> Iterator[SectionRun]:
    """All runs with their sections, in map order, of kinds that go together."""
    kinds = SameKinds()
    for section in sections:
        for run in read_section(section):
            kinds.check(run.kinds)
            progress()
            yield section, run


class ScratchFiles:
    """A folder of its own for one task's temporary files; it goes when the task ends, however it ends."""

    def __init__(self, parent: str, progress: Progress = no_progress) -> None:
        self.progress = progress
        self._parent = parent
        self._folder = ""
        self._count = 0

    def next_path(self) -> str:
        if not self._folder:
            with storing(self._parent):
                os.makedirs(self._parent, exist_ok=True)
                self._folder = tempfile.mkdtemp(prefix="merge-", dir=self._parent)
        self._count += 1
        return os.path.join(self._folder, f"run-{self._count}")

    def __enter__(self) -> ScratchFiles:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder:
            shutil.rmtree(self._folder)


def sorted_runs(
    runs: Iterable[SectionRun], *, by_order: bool, memory_bytes: int, scratch: ScratchFiles, accelerate: bool
) -> list[SortedRun]:
    """All runs, merged in advance where they are too many or too much of them lies in memory."""

    def merged(neighbours: list[SortedRun]) -> SortedRun:
        return _merge(neighbours, by_order, memory_bytes, scratch, accelerate)

    held: list[SortedRun] = []
    held_bytes = 0
    done: list[SortedRun] = []
    for section, run in runs:
        held.append(list(run.columns()))
        held_bytes += 0 if section.size_bytes >= MAPPED_BYTES_MIN else run.size_bytes
        if len(held) == FAN_IN or held_bytes > max(memory_bytes // 4, _WINDOW_BYTES_MIN):
            done.append(merged(held))
            held, held_bytes = [], 0
    done += held
    while len(done) > FAN_IN:
        done = [merged(done[start : start + FAN_IN]) for start in range(0, len(done), FAN_IN)]
    return done


def _merge(
    runs: list[SortedRun], by_order: bool, memory_bytes: int, scratch: ScratchFiles, accelerate: bool
) -> SortedRun:
    """One run on disk instead of several."""
    writer = ShuffleWriter(scratch.next_path(), partitions=1)
    window_bytes = window_bytes_of(memory_bytes)
    held: list[Columns] = []
    held_bytes = 0
    try:
        for found in windows(runs, by_order=by_order, window_bytes=window_bytes, accelerate=accelerate):
            for columns in [found.columns] if isinstance(found, Window) else found.pieces:
                scratch.progress()
                held.append(columns)
                held_bytes += columns.keys.nbytes + columns.values.nbytes
                if held_bytes > window_bytes:
                    writer.add_extent(0, concat_columns(held), is_sorted=True)
                    held, held_bytes = [], 0
        if held:
            writer.add_extent(0, concat_columns(held), is_sorted=True)
        section = writer.close()[0]
    except BaseException:
        writer.abort()
        raise
    return [columns for run in read_section(section) for columns in run.columns()]
