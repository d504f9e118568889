"""The doors: how the records of a split reach user code, at full speed.

The idea: Python's own loop over a generator costs more than the generator. So the loops here are C's: `map` calls the
user's function, `chain` runs through what it yields, `islice` and `list` gather portions of pairs, and no line of
ours runs in between (the notes, section 7). The price: an exception says nothing about its record.
That is what tracked attempts (careful.py) are for.

The rule: a door emits the pairs of all records in the order of the split, and nobody learns less of the progress
because C does the work: the probe looks at how far the iterator over a block's records has come.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from onerack.mapreduce.inputs.reader import SplitReader
from onerack.mapreduce.worker.attempt import Attempt
from onerack.mapreduce.worker.batches import columns_of, is_table
from onerack.mapreduce.worker.byte_records import count_records
from onerack.mapreduce.worker.map_output import MapOutput


def read_all(attempt: Attempt, reader: SplitReader, out: MapOutput) -> None:
    """Sends every record of the split through the job's door."""
    if attempt.job.door == "map":
        # Block by block: what is gathered at once comes from a bounded piece of the input, however large its records.
        for calls in _calls(attempt, reader):
            drain(chain.from_iterable(calls), attempt, out)
    elif attempt.job.door == "map_block":
        for data in byte_blocks(attempt, reader):
            drain(iter(attempt.job.map(data)), attempt, out)
    elif attempt.job.door == "map_batch":
        for batch in counted_batches(attempt, reader):
            drain(iter(attempt.job.map(batch)), attempt, out)
    else:
        attempt.job.map(reader, out.target, attempt.context)
    attempt.probe.unwatch()
    attempt.probe.bytes_in = max(attempt.probe.bytes_in, reader.bytes_read)


def drain(emissions: Iterator[Any], attempt: Attempt, out: MapOutput) -> None:
    """Everything that `emissions` gives, in portions, to `out`."""
    probe = attempt.probe
    for pairs in attempt.portions.of(emissions):
        probe.emitted += len(pairs)
        emit(pairs, out)


def emit(emitted: list[Any], out: MapOutput) -> None:
    """Pairs, or tables of them, to `out`."""
    if is_table(emitted[0]):
        for table in emitted:
            for columns in columns_of(table):
                out.add_columns(columns)
    else:
        out.add_pairs(emitted)


def _calls(attempt: Attempt, reader: SplitReader) -> Iterator[Iterator[Any]]:
    """For each block of records the calls to be made, not yet made."""
    function, probe = attempt.job.map, attempt.probe
    for block in reader.record_blocks(attempt.bad_records.on_bad):
        values = iter(block.values)
        probe.watch(values, len(block.values))
        yield map(function, block.keys, values)
        probe.unwatch()
        probe.bytes_in = reader.bytes_read


def byte_blocks(attempt: Attempt, reader: SplitReader) -> Iterator[bytes]:
    """The split's blocks, for `map_block`; the context names the file of each."""
    for block in reader.byte_blocks(attempt.job.block_bytes):
        attempt.context.path = block.path
        data = bytes(block.data)
        attempt.probe.advance(records=count_records(data, attempt.spec.input))
        yield data
        attempt.probe.bytes_in = reader.bytes_read


def counted_batches(attempt: Attempt, reader: SplitReader) -> Iterator[Any]:
    """The split's record batches, for `map_batch`."""
    for batch in reader.batches():
        attempt.probe.advance(records=batch.num_rows)
        yield batch
        attempt.probe.bytes_in = reader.bytes_read
