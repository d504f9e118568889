"""The tracked way through the doors: so that a bad record can be named and set aside.

The idea: what fails once is more often an accident (a worker killed, a disk away) than a bad record, so the second
attempt of a task is tracked at little cost: it goes block by block as at full speed, but lets a block's pairs out only
when the block is through. A block that fails is undone and cut into records, which are run one by one. From the third
attempt on all records are run one by one, because what kills the process leaves no time to cut: before user code gets
a record, the probe notes it where the master finds it.

One by one means: what a record emits is held back until it is through and its pairs were checked; only then do pairs
and counts become the attempt's. `map_block` and `map_batch` get each record as a block of one.

A job with a `teardown` adds up on itself, and what a failed call has added there cannot be undone. Such a job goes one
by one from the second attempt on and nothing is called twice in an attempt: the record that fails is named, and when
it has failed so twice the master has it passed over by an attempt with a fresh job object. A job with a `setup` may
keep something, too (what it has seen): it also goes one by one, and a record that fails and then passes has perhaps
only been taken for one that was there before, so the attempt ends and names it.

The rule: the pairs of good records go out in the order of the split, as if the bad ones were not there. A record
whose pairs take too much memory cannot be held back; if it fails after that, the attempt does, and names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from onerack.mapreduce.context import add_counts
from onerack.mapreduce.footprint import footprint
from onerack.mapreduce.inputs.reader import SplitReader
from onerack.mapreduce.inputs.records import ByteBlock, OnBad, RecordBlock, preview_of
from onerack.mapreduce.messages import RecordAt
from onerack.mapreduce.worker.attempt import Attempt
from onerack.mapreduce.worker.batches import is_table, pairs_of_table
from onerack.mapreduce.worker.byte_records import byte_records, count_records
from onerack.mapreduce.worker.emissions import EmissionCheck
from onerack.mapreduce.worker.failures import AttemptEnded, failure_of
from onerack.mapreduce.worker.map_output import MapOutput

WAITING_PAIRS = 4_096
"""Pairs of good records that are checked together: a check costs the same for one as for a hundred."""
BY_RECORDS_FROM = 3
"""The attempt from which on every record is run alone."""


class Unit(NamedTuple):
    """What one call of user code is about: a record."""

    record: RecordAt
    raw: Callable[[], bytes]
    call: Callable[[], Iterable[Any]]


class Emitted(NamedTuple):
    """A record that is through, and what it left."""

    unit: Unit
    pairs: list[Any]
    counts: dict[str, int]


class Careful:
    """Runs units one by one, and lets through what good ones emit."""

    def __init__(self, attempt: Attempt, out: MapOutput) -> None:
        self._attempt = attempt
        self._out = out
        self._check = EmissionCheck(attempt.spec, attempt.job)
        self._waiting: list[Emitted] = []
        self._waiting_pairs = 0
        self._waiting_bytes = 0

    def run(self, unit: Unit) -> None:
        """One record, as often as it takes. Raises: AttemptEnded: it is bad, and the job allows no more of them."""
        bad, probe = self._attempt.bad_records, self._attempt.probe
        probe.advance(records=1)
        skip = bad.skip_of(unit.record.number)
        if skip is not None:
            self.flush()
            bad.killed(unit.record, unit.raw(), skip)
            return
        probe.note(unit.record)
        emitted = self._tried_twice(unit)
        probe.forget()
        if emitted is None:
            return
        self._waiting.append(emitted)
        self._waiting_pairs += len(emitted.pairs)
        self._waiting_bytes += footprint(emitted.pairs, looks=2)
        if self._waiting_pairs >= WAITING_PAIRS or self._waiting_bytes > self._attempt.held_bytes_max:
            self.flush()

    def _tried_twice(self, unit: Unit) -> Emitted | None:
        """What the record emitted, or None if it is bad and was set aside."""
        try:
            return self._tried(unit)
        except AttemptEnded:
            raise
        except BaseException as error:
            self._end_if_it_adds_up(unit, error)
            # Nothing is kept of the first failure: if it was an accident, it is over; if not, it comes again.
            self._attempt.context.roll_back()
            failure = failure_of(error, unit.record)
        try:
            emitted = self._tried(unit)
            if self._attempt.keeps_state:
                raise AttemptEnded(failure)
            return emitted
        except AttemptEnded:
            raise
        except BaseException as error:
            self._attempt.context.roll_back()
            self.flush()  # Records before this one come first, also in the quarantine.
            self._attempt.bad_records.failed(unit.record, unit.raw(), error)
            return None

    def _end_if_it_adds_up(self, unit: Unit, error: BaseException) -> None:
        """Raises: AttemptEnded: the failed call may have left something on the job's object."""
        if self._attempt.job.teardown is not None:
            raise AttemptEnded(failure_of(error, unit.record)) from error

    def _tried(self, unit: Unit) -> Emitted:
        pairs: list[Any] = []
        let_go = False
        try:
            for taken in self._attempt.portions.of(iter(unit.call())):
                pairs += as_pairs(taken)
                self._attempt.probe.emitted += len(taken)
                if not self._attempt.can_hold(pairs):
                    self.flush()
                    self._check(pairs)
                    let_go = True
                    self._out.add_pairs(pairs)
                    pairs = []
        except BaseException as error:
            if not let_go:
                raise
            # Its pairs are out, so this attempt cannot go on; that it was this record helps the next one.
            raise AttemptEnded(failure_of(error, unit.record)) from error
        return Emitted(unit, pairs, self._attempt.context.take_pending())

    def flush(self) -> None:
        """Lets the waiting records' pairs through; those that do not pass are bad."""
        waiting, self._waiting, self._waiting_pairs, self._waiting_bytes = self._waiting, [], 0, 0
        pairs = [pair for emitted in waiting for pair in emitted.pairs]
        try:
            self._check(pairs)
            passed = True
        except Exception:
            passed = False  # Asked again below, not in here: the same error would be shown as its own cause.
        if not passed:
            waiting = [emitted for emitted in waiting if self._passes(emitted)]
            pairs = [pair for emitted in waiting for pair in emitted.pairs]
        for emitted in waiting:
            add_counts(self._attempt.context.counters, emitted.counts)
        if pairs:
            self._out.add_pairs(pairs)

    def _passes(self, emitted: Emitted) -> bool:
        try:
            self._check(emitted.pairs)
        except Exception as error:
            self._end_if_it_adds_up(emitted.unit, error)
            self._attempt.bad_records.failed(emitted.unit.record, emitted.unit.raw(), error)
            return False
        return True

    def run_whole(self, block: RecordBlock | ByteBlock | Any) -> bool:
        """A block at full speed. False: it failed, or emits too much to hold back; then it left nothing."""
        context, probe = self._attempt.context, self._attempt.probe
        portions: list[list[Any]] = []
        pairs: list[Any] = []
        try:
            for taken in self._attempt.portions.of(iter(_whole(self._attempt, block))):
                portions.append(as_pairs(taken))
                pairs += portions[-1]
                probe.emitted += len(taken)
                if not self._attempt.can_hold(pairs):
                    context.roll_back()
                    return False
            self._check(pairs)
        except BaseException:
            context.roll_back()
            return False
        context.settle()
        # As at full speed, portion by portion: a table that spills at other rows would add its floats in another order.
        for portion in portions:
            self._out.add_pairs(portion)
        return True


def as_pairs(emitted: list[Any]) -> list[Any]:
    """With the rows of tables as pairs."""
    if not emitted or not is_table(emitted[0]):  # One among pairs is no pair, and will be called so.
        return emitted
    return [pair for each in emitted for pair in (pairs_of_table(each) if is_table(each) else [each])]


def read_carefully(attempt: Attempt, reader: SplitReader, out: MapOutput) -> None:
    """Sends every record of the split through the job's door, tracked."""
    if attempt.job.door == "map_split":
        attempt.job.map(reader, out.target, attempt.context)
        return
    careful = Careful(attempt, out)
    number = 0
    one_by_one = attempt.id.number >= BY_RECORDS_FROM or attempt.bad_records.has_skips or attempt.keeps_state
    for block in _blocks(attempt, reader, attempt.bad_records.on_bad):
        size = _size_of(attempt, block)
        records_in = attempt.probe.records_in
        if one_by_one or not careful.run_whole(block):
            attempt.probe.unwatch()
            attempt.probe.records_in = records_in
            for unit in _units_of(attempt, block, number):
                careful.run(unit)
            careful.flush()
        attempt.probe.unwatch()
        attempt.probe.records_in = records_in + size
        number += size
        attempt.probe.bytes_in = reader.bytes_read


def units(attempt: Attempt, reader: SplitReader, on_bad: OnBad | None) -> Iterator[Unit]:
    """The split's records, numbered, each as a call to be made. `on_bad`: what to do about unreadable ones."""
    number = 0
    for block in _blocks(attempt, reader, on_bad):
        yield from _units_of(attempt, block, number)
        number += _size_of(attempt, block)


def _blocks(attempt: Attempt, reader: SplitReader, on_bad: OnBad | None) -> Iterator[Any]:
    """Blocks as they come at full speed: of records, bytes, or a batch's rows."""
    if attempt.job.door == "map":
        yield from reader.record_blocks(on_bad)
    elif attempt.job.door == "map_batch":
        yield from reader.batches()
    else:
        for block in reader.byte_blocks(attempt.job.block_bytes):
            attempt.context.path = block.path
            yield block._replace(data=bytes(block.data))


def _size_of(attempt: Attempt, block: Any) -> int:
    """How many records a block has."""
    if isinstance(block, RecordBlock):
        return len(block)
    if isinstance(block, ByteBlock):
        return count_records(block.data, attempt.spec.input)
    return int(block.num_rows)


def _whole(attempt: Attempt, block: Any) -> Iterable[Any]:
    """What user code emits for a block."""
    if isinstance(block, RecordBlock):
        values = iter(block.values)
        attempt.probe.watch(values, len(block))
        return chain.from_iterable(map(attempt.job.map, block.keys, values))
    return attempt.job.map(block.data if isinstance(block, ByteBlock) else block)


def _units_of(attempt: Attempt, block: Any, first: int) -> Iterator[Unit]:
    """The records of a block; the first has number `first`."""
    function = attempt.job.map
    if isinstance(block, RecordBlock):
        for index, (key, value) in enumerate(zip(block.keys, block.values, strict=True)):
            record = block.describe(index, first + index)
            yield Unit(record, partial(block.raw, index), partial(function, key, value))
    elif isinstance(block, ByteBlock):
        offset = block.offset
        for index, raw in enumerate(byte_records(block.data, attempt.spec.input)):
            record = RecordAt(first + index, block.path, offset, preview_of(raw))
            yield Unit(record, partial(bytes, raw), partial(function, raw))
            offset += len(raw)
    else:
        for row in range(block.num_rows):
            one = block.slice(row, 1)
            raw = repr(one.to_pylist()[0]).encode("utf-8", "backslashreplace")
            record = RecordAt(first + row, attempt.context.path, -1, preview_of(raw))
            yield Unit(record, partial(bytes, raw), partial(function, one))
