"""The probe: what the outside can see of a running attempt, while it runs and after its process died.

The idea: user code may hold the interpreter for minutes and may kill the process at any moment, so nothing is *sent*
from inside a task. The task only leaves marks where others can look: counts that the heartbeat thread reads, the
iterator that C code is draining (its remaining length tells how far the loop is, at no cost to the loop), and, in a
tracked attempt, a small file mapped into memory that names the record in hand. The file outlives a SIGKILL and the
out-of-memory killer, which a signal handler (the paper's last gasp, section 3.6) does not.

    position file, 4 KiB:   u32 length, 0 while the rest is written | msgpack of [attempt number, record]

The rule: marks are written by the task's thread only, and each is complete or absent.
"""

from __future__ import annotations

import mmap
import operator
import os
import resource
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from types import GeneratorType
from typing import Any, Final

import msgspec

from onerack.mapreduce.messages import AttemptId, Metrics, RecordAt

POSITION_BYTES: Final = 4096
_LENGTH: Final = struct.Struct("<I")
_RECORD_BYTES_MAX: Final = POSITION_BYTES - _LENGTH.size


class Position(msgspec.Struct, frozen=True, array_like=True):
    """What the position file says: attempt `number` had `record` in hand."""

    number: int
    record: RecordAt


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Position).decode


class Probe:
    """One worker's marks. `begin` starts an attempt; the counts below are the task's to add to."""

    def __init__(self, worker: str = "", position_path: str | None = None) -> None:
        """Requires: nobody else writes `position_path`; it is made here, and left for others to remove.

        Without room for it the task goes on unwatched: whatever it wants to write will name the full disk.
        """
        self.worker = worker
        self.running: AttemptId | None = None
        self.record: RecordAt | None = None
        """The record in hand, of a tracked attempt."""
        self._position: mmap.mmap | None = None
        if position_path is not None:
            with suppress(OSError):
                self._position = _mapped(position_path)
        self._clear()

    def _clear(self) -> None:
        self.records_in = 0
        self.records_out = 0
        self.emitted = 0
        self.bytes_in = 0
        self.bytes_shuffled = 0
        self.bytes_out = 0
        self.groups = 0
        self.spills = 0
        self.steps = 0
        """Pieces of work that are neither read nor written: what a reduce folds and merges before its first result."""
        self._cursor: Iterator[Any] | None = None
        self._cursor_base = 0
        self._values: Iterator[Any] | None = None
        self._seen: tuple[int, ...] = ()
        self._started_at = time.monotonic()

    def begin(self, attempt: AttemptId) -> None:
        self._clear()
        self.forget()
        self.running = attempt

    def end(self) -> None:
        self.forget()
        self._cursor = self._values = None
        self.running = None

    def advance(self, *, records: int = 0, bytes_in: int = 0) -> None:
        """Adds to what was read."""
        self.records_in += records
        self.bytes_in += bytes_in

    def step(self) -> None:
        """A piece of work is done that nothing else shows."""
        self.steps += 1

    # ------------------------------------------------------------------------------ what C code drains

    def watch(self, cursor: Iterator[Any], length: int) -> None:
        """`length` records are about to be taken from `cursor` by code that cannot report."""
        self.unwatch()
        self._cursor_base = self.records_in + length
        self._cursor = cursor

    def unwatch(self) -> None:
        """All records of the watched cursor were taken."""
        if self._cursor is not None:
            self._cursor, self.records_in = None, self._cursor_base

    def watch_group(self, values: Iterator[Any]) -> None:
        """The next group's values are about to be given to a reduce."""
        self.groups += 1
        self._values = values

    def _records_in_now(self) -> int:
        # Read once: the task's thread may clear it between two looks.
        cursor, base = self._cursor, self._cursor_base
        return self.records_in if cursor is None else base - operator.length_hint(cursor, 0)

    # ------------------------------------------------------------------------------ for the heartbeat

    @property
    def metrics(self) -> Metrics:
        """How much the attempt has done so far. For any thread."""
        return Metrics(
            records_in=self._records_in_now(),
            records_out=self.records_out,
            bytes_in=self.bytes_in,
            bytes_shuffled=self.bytes_shuffled,
            bytes_out=self.bytes_out,
            groups=self.groups,
            spills=self.spills,
            seconds=time.monotonic() - self._started_at,
            memory_bytes_max=memory_bytes_max(),
        )

    def take_moved(self) -> bool:
        """Whether the attempt read or wrote anything since this was asked last. For one thread, the heartbeat's."""
        reads = (self._records_in_now(), self.bytes_in, self.groups, _values_left(self._values))
        now = (*reads, self.emitted, self.records_out, self.bytes_shuffled, self.bytes_out, self.steps)
        before, self._seen = self._seen, now
        return now != before

    # ------------------------------------------------------------------------------ the record in hand

    def note(self, record: RecordAt) -> None:
        """`record` is about to be given to user code."""
        self.record = record
        if self._position is None or self.running is None:
            return
        content = _encode(Position(self.running.number, record))
        if len(content) > _RECORD_BYTES_MAX:  # A very long path or preview: the number is what matters.
            content = _encode(Position(self.running.number, RecordAt(record.number, offset=record.offset)))
        _LENGTH.pack_into(self._position, 0, 0)
        self._position[_LENGTH.size : _LENGTH.size + len(content)] = content
        _LENGTH.pack_into(self._position, 0, len(content))

    def forget(self) -> None:
        """No record is in hand."""
        self.record = None
        if self._position is not None:
            _LENGTH.pack_into(self._position, 0, 0)

    def close(self) -> None:
        if self._position is not None:
            self._position.close()
            self._position = None


def _values_left(values: Iterator[Any] | None) -> int:
    """How many of a group's values are still to come, as far as can be seen; it changes while they are read.

    A large group's values come from a generator, block by block; then it is the block's iterator that tells.
    """
    inner = values.gi_yieldfrom if isinstance(values, GeneratorType) else values
    return 0 if inner is None else operator.length_hint(inner, 0)


def read_position(path: str, attempt: AttemptId) -> RecordAt | None:
    """The record that `attempt` had in hand when its worker died; None when it had none."""
    try:
        with open(path, "rb") as file:
            content = file.read(POSITION_BYTES)
    except FileNotFoundError:
        return None
    if len(content) < POSITION_BYTES:
        return None
    (length,) = _LENGTH.unpack_from(content)
    if not 0 < length <= _RECORD_BYTES_MAX:
        return None
    try:
        position = _decode(content[_LENGTH.size : _LENGTH.size + length])
    except msgspec.MsgspecError:
        return None
    return position.record if position.number == attempt.number else None


def memory_bytes_max() -> int:
    """The most memory that this process has had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _mapped(path: str) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Not ftruncate: a page that the disk has no room for would end the process when it is written to.
        os.pwrite(descriptor, bytes(POSITION_BYTES), 0)
        return mmap.mmap(descriptor, POSITION_BYTES)
    finally:
        os.close(descriptor)
