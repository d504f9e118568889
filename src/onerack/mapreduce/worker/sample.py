"""Samples of keys, from which a range partition's splitters are chosen.

The idea: partition = "range" needs to know how keys are spread before the first map runs. So a few records from all
over a split go through the job's own map, and the keys that they emit are the sample. A split that can be entered
anywhere is read in small windows, because the beginning of a sorted file says nothing about its end.

The rule: a sample decides only how evenly the partitions are filled, never what is in the output; so records that
fail here are passed over, and what is counted is forgotten. The job itself will judge them.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from onerack.errors import storing
from onerack.mapreduce.calls import is_pair
from onerack.mapreduce.context import running
from onerack.mapreduce.inputs.compression import compression_of
from onerack.mapreduce.inputs.lines import line_codec
from onerack.mapreduce.inputs.reader import open_split
from onerack.mapreduce.keys import encode_key
from onerack.mapreduce.loaded import LoadedJob
from onerack.mapreduce.messages import (
    AttemptFailed,
    AttemptId,
    Fragment,
    InputFormat,
    JobSpec,
    MapCompleted,
    Part,
    RunMap,
    Split,
)
from onerack.mapreduce.worker.attempt import Attempt, run, seed_dice
from onerack.mapreduce.worker.careful import as_pairs, units
from onerack.mapreduce.worker.probe import Probe

WINDOWS = 16
WINDOW_BYTES = 64 * 1024
EMISSIONS_MAX = 64
"""Keys taken from one record: a record of a thousand words must not fill the sample alone."""


def run_sample(spec: JobSpec, job: LoadedJob, order: RunMap, probe: Probe) -> MapCompleted | AttemptFailed:
    """Runs one attempt of a sampling stage's map task: writes a part that is the msgpack of a list of keys."""

    def body(attempt: Attempt) -> MapCompleted:
        keys = sample_split(spec, job, spec.splits[order.attempt.index], spec.sample_keys)
        content = msgspec.msgpack.encode(keys)
        part = Part(f"sample-{order.attempt}", len(keys), len(content), zlib.crc32(content))
        with storing(part.path), open(os.path.join(spec.staging, part.path), "wb") as file:
            file.write(content)
        return MapCompleted(probe.worker, order.attempt, (), parts=(part,), metrics=probe.metrics)

    return run(spec, job, order, probe, body)


def sample_split(spec: JobSpec, job: LoadedJob, split: Split, limit: int) -> list[bytes]:
    """At most `limit` canonical keys of what the job's map emits for `split`, in no particular order."""
    fresh = job.fresh()
    windows = _windows(split, spec.input) or [split]
    if fresh.sample is not None:
        reader = open_split(split, spec.input)
        try:
            return list(islice(fresh.sample(reader, limit), limit))
        finally:
            reader.close()
    if fresh.door == "map_split":
        return []
    order = RunMap(AttemptId(spec.job, "map", split.index, 0))
    attempt = Attempt(spec, fresh, order, Probe())
    with running(attempt.context):
        seed_dice(spec.seed, order.attempt.task)
        if fresh.setup is not None:
            fresh.setup()
        share = -(-limit // len(windows))
        return [key for window in windows for key in islice(_keys(attempt, window), share)][:limit]


def _keys(attempt: Attempt, window: Split) -> Iterator[bytes]:
    reader = open_split(window, attempt.spec.input)
    try:
        for unit in units(attempt, reader, _passed_over):
            try:
                emitted = as_pairs(list(islice(iter(unit.call()), EMISSIONS_MAX)))
                yield from [encode_key(pair[0]) for pair in emitted if is_pair(pair)]
            except Exception:
                continue  # The job itself will judge this record.
    finally:
        reader.close()


def _passed_over(record: Any, raw: bytes, reason: str) -> None:
    """A record that cannot be read is not sampled."""


def _windows(split: Split, format: InputFormat) -> Sequence[Split]:
    """Small pieces from all over a split; none when its files can only be read from their start, or it is small."""
    if format.name not in ("text", "jsonl", "fixed") or split.size_bytes <= 2 * WINDOWS * WINDOW_BYTES:
        return ()
    if format.name != "fixed" and not line_codec(format.encoding, format.errors).splittable:
        return ()
    if any(compression_of(fragment.path, format) != "none" for fragment in split.fragments):
        return ()
    step = split.size_bytes // WINDOWS
    return [Split(split.index, (_window_at(split, number * step),)) for number in range(WINDOWS)]


def _window_at(split: Split, position: int) -> Fragment:
    """The bytes at `position` of a split, were its fragments one."""
    for fragment in split.fragments:
        if position < fragment.length:
            return Fragment(fragment.path, fragment.start + position, min(WINDOW_BYTES, fragment.length - position))
        position -= fragment.length
    raise AssertionError("a window lies behind the end of its split")
