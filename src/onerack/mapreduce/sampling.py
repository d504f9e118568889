"""Sampling: where the borders between range partitions lie.

The idea: for a total order over all part files, partition i must hold exactly the keys between two splitters. A small
sample of the input, spread over all of it, run through the job's own map, shows how keys are distributed; the R - 1
quantiles of the sample are the splitters. A bad sample costs balance, never correctness.

The rule: what is read is bounded, whatever the size of the input; slices lie evenly over the splits, so that input
that is sorted already is sampled as well as any other.

Source: Dean & Ghemawat, OSDI 2004, section 5.3 (the sort benchmark's pre-pass).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from onerack.config import KIB, MIB
from onerack.mapreduce.messages import Fragment, InputFormat, JobSpec, OutputFormat, Split

SAMPLE_BYTES = 8 * MIB
"""So much of the input is read."""
SPLITS_MAX = 16
"""In so many tasks."""
_SLICES = 4
"""Taken from each of them, when the split can be cut."""
_SLICE_BYTES_MIN = 16 * KIB
_CUTTABLE = ("text", "jsonl", "fixed")
_ANY_KEY_BELOW = b"\xff" * 64
"""A splitter for jobs whose sample has no key: everything goes to the first partition."""


def sample_splits(splits: Sequence[Split], format: InputFormat) -> tuple[Split, ...]:  # noqa: A002
    """Small splits, evenly spread over all of `splits`."""
    step = max(1, -(-len(splits) // SPLITS_MAX))
    chosen = splits[::step]
    budget = SAMPLE_BYTES // max(1, len(chosen))
    return tuple(Split(index, _slices(split, format, budget)) for index, split in enumerate(chosen))


def _slices(split: Split, format: InputFormat, budget: int) -> tuple[Fragment, ...]:  # noqa: A002
    """Slices of the split's fragments, together about `budget` bytes; whole fragments where they cannot be cut."""
    if split.size_bytes <= budget or format.name not in _CUTTABLE:
        return split.fragments
    sliced: list[Fragment] = []
    for fragment in split.fragments:
        share = max(budget * fragment.length // split.size_bytes, _SLICE_BYTES_MIN)
        if fragment.length <= share or not _can_be_cut(fragment, format):
            sliced.append(fragment)
            continue
        size = _whole_records(max(share // _SLICES, _SLICE_BYTES_MIN), format)
        for number in range(_SLICES):
            start = _whole_records(fragment.length * number // _SLICES, format)
            sliced.append(Fragment(fragment.path, fragment.start + start, min(size, fragment.length - start)))
    return tuple(sliced)


def sampling_stage(spec: JobSpec, *, job: str, directory: str) -> JobSpec:
    """The job's own map over a sample, writing its pairs. Records that fail are left for the real stage to report."""
    return msgspec.structs.replace(
        spec,
        job=job,
        splits=sample_splits(spec.splits, spec.input),
        reducers=0,
        output=OutputFormat("pairs"),
        directory=directory,
        staging=directory,
        skip_max=SAMPLE_BYTES,
        backup_tasks=False,
    )


def splitters_of(keys: Iterable[bytes], reducers: int) -> tuple[bytes, ...]:
    """R - 1 canonical keys, in order, that cut `keys` into equal shares."""
    ordered = sorted(keys)
    if not ordered:
        return (_ANY_KEY_BELOW,) * (reducers - 1)
    return tuple(ordered[len(ordered) * number // reducers] for number in range(1, reducers))
