"""Reduce functions over groups: at full speed, and tracked.

The idea: as with the doors (doors.py), C drives the loop over a job's reduce: `starmap` calls it for group after
group, `chain` runs through what it yields. In a tracked attempt the unit is the group of one key: what it gives is
held back until it is through, and a group that fails is tried once more. Its values came from disk as they were
asked for and cannot be rewound, so a tracked attempt remembers the first of them.

The rule: groups come in increasing order of keys, and a reduce that does not look at all of its values is fine.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat, starmap
from typing import Any

from onerack.mapreduce.calls import Pairs, ReduceCall, check_pairs
from onerack.mapreduce.footprint import footprint
from onerack.mapreduce.inputs.records import PREVIEW_CHARACTERS
from onerack.mapreduce.messages import RecordAt
from onerack.mapreduce.outputs.writer import PartWriter
from onerack.mapreduce.worker.attempt import Attempt
from onerack.mapreduce.worker.failures import AttemptEnded, failure_of

Group = tuple[Any, Iterator[Any]]


def each_value(key: Any, values: Iterator[Any]) -> Pairs:
    """The reduce of a job that has none: sorted by key, nothing else."""
    return zip(repeat(key), values)


def reduce_all(attempt: Attempt, function: ReduceCall, windows: Iterator[Iterator[Group]], writer: PartWriter) -> None:
    """All groups, at full speed. What is gathered at once comes from one window, however large the results."""
    for groups in windows:
        for pairs in attempt.portions.of(chain.from_iterable(starmap(function, _counted(attempt, groups)))):
            write(attempt, pairs, writer)


def write(attempt: Attempt, pairs: list[Any], writer: PartWriter, name: str = "reduce") -> None:
    """Pairs of user code to the part. Raises: BadPair."""
    check_pairs(pairs, name)
    writer.write_pairs(pairs)
    attempt.probe.records_out += len(pairs)


def _counted(attempt: Attempt, groups: Iterator[Group]) -> Iterator[Group]:
    watch = attempt.probe.watch_group
    for group in groups:
        watch(group[1])
        yield group


class Replay:
    """The values of one group, twice, unless they take more than `bytes_max` of memory."""

    def __init__(self, values: Iterator[Any], bytes_max: int) -> None:
        self._values = values
        self._seen: list[Any] = []
        self._seen_bytes = 0
        self._bytes_max = bytes_max
        self.is_whole = True
        """Whether everything that was taken so far is remembered, and the rest can still be had."""

    def first(self) -> Iterator[Any]:
        remembers = True
        while True:
            # An error on the way to the next value ends the iterator for good: what it still had is lost to `again`.
            self.is_whole = False
            try:
                value = next(self._values)
            except StopIteration:
                self.is_whole = remembers
                return
            if remembers:
                self._seen.append(value)
                self._seen_bytes += footprint([value])
                if self._seen_bytes > self._bytes_max:
                    remembers = False
                    self._seen.clear()
            self.is_whole = remembers
            yield value

    def again(self) -> Iterator[Any]:
        """Requires: `is_whole`."""
        return chain(self._seen, self._values)


def reduce_carefully(
    attempt: Attempt, function: ReduceCall, windows: Iterator[Iterator[Group]], writer: PartWriter
) -> None:
    """All groups, tracked."""
    for number, (key, values) in enumerate(chain.from_iterable(windows)):
        attempt.probe.watch_group(values)
        record = group_at(number, key)
        skip = attempt.bad_records.skip_of(number)
        if skip is not None:
            attempt.bad_records.killed(record, _raw(key), skip)
            continue
        attempt.probe.note(record)
        _reduce_twice(attempt, function, (key, values), record, writer)
        attempt.probe.forget()


def group_at(number: int, key: Any) -> RecordAt:
    """The group as a record: what failures and the quarantine say."""
    return RecordAt(number, preview=_shown(key)[:PREVIEW_CHARACTERS])


def _reduce_twice(attempt: Attempt, function: ReduceCall, group: Group, record: RecordAt, writer: PartWriter) -> None:
    key, values = group
    replay = Replay(values, attempt.held_bytes_max)
    try:
        _reduce_one(attempt, function, (key, replay.first()), record, writer)
        return
    except AttemptEnded:
        raise
    except BaseException as error:
        attempt.context.roll_back()
        failure = failure_of(error, record)
        if not replay.is_whole or attempt.job.teardown is not None:
            # Too many values to remember, or something added up on the job (careful.py): the next attempt is the
            # second try, and the master counts.
            raise AttemptEnded(failure) from error
    try:
        _reduce_one(attempt, function, (key, replay.again()), record, writer)
        if attempt.keeps_state:
            raise AttemptEnded(failure)
    except AttemptEnded:
        raise
    except BaseException as error:
        attempt.context.roll_back()
        attempt.bad_records.failed(record, _raw(key), error)


def _reduce_one(attempt: Attempt, function: ReduceCall, group: Group, record: RecordAt, writer: PartWriter) -> None:
    """One group; what it gives is written when it is through, or when it is too much to hold."""
    held: list[Any] = []
    let_go = False
    try:
        for taken in attempt.portions.of(iter(function(*group))):
            check_pairs(taken, "reduce")
            held += taken
            if not attempt.can_hold(held):
                let_go = True
                write(attempt, held, writer)
                held = []
    except BaseException as error:
        if not let_go:
            raise
        raise AttemptEnded(failure_of(error, record)) from error
    attempt.context.settle()
    if held:
        _write_held(attempt, held, record, writer)


def _write_held(attempt: Attempt, held: list[Any], record: RecordAt, writer: PartWriter) -> None:
    try:
        write(attempt, held, writer)
    except Exception as error:
        # The writer may have taken a part of them, so the group cannot be set aside; but it can be named.
        raise AttemptEnded(failure_of(error, record)) from error


def _shown(key: Any) -> str:
    try:
        return repr(key)
    except Exception:
        return f"<a {type(key).__name__} whose repr() fails>"


def _raw(key: Any) -> bytes:
    return _shown(key).encode("utf-8", "backslashreplace")
