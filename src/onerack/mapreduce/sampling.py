"""Sampling: where the borders between range partitions lie.

The idea: for a total order over all part files, partition i must hold exactly the keys between two splitters. A small
sample of the input, spread over all of it, run through the job's own map, shows how keys are distributed; the R - 1
quantiles of the sample are the splitters. The sample is a stage of its own, run by the workers, because user code runs
nowhere else.

The rule: what is read is bounded, whatever the size of the input. A bad sample costs balance, never correctness.

Source: Dean & Ghemawat, OSDI 2004, section 5.3 (the sort benchmark's pre-pass).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from onerack.mapreduce.messages import JobSpec, Split

SPLITS_MAX = 16
"""So many splits are looked at, evenly spread."""
KEYS_MAX = 64_000
"""So many keys are taken from all of them together."""
_ANY_KEY_BELOW = b"\xff" * 64
"""A splitter for jobs whose sample has no key: everything goes to the first partition."""


def sampling_stage(spec: JobSpec, directory: str) -> JobSpec:
    """The stage that samples the input of `spec`; its map tasks write keys, and it has no reduce."""
    step = -(-len(spec.splits) // SPLITS_MAX) or 1
    splits = tuple(Split(index, split.fragments) for index, split in enumerate(spec.splits[::step]))
    return msgspec.structs.replace(
        spec,
        job=f"{spec.job}.sample",
        splits=splits,
        reducers=0,
        sample_keys=KEYS_MAX // max(len(splits), 1),
        directory=directory,
        staging=directory,
        backup_tasks=False,
    )


def sampled_keys(paths: Iterable[Path]) -> Iterator[bytes]:
    """The canonical keys that the sampling stage has written."""
    for path in paths:
        yield from msgspec.msgpack.decode(path.read_bytes(), type=list[bytes])


def splitters_of(keys: Iterable[bytes], reducers: int) -> tuple[bytes, ...]:
    """R - 1 canonical keys, in order, that cut `keys` into equal shares."""
    ordered = sorted(keys)
    if not ordered:
        return (_ANY_KEY_BELOW,) * (reducers - 1)
    return tuple(ordered[len(ordered) * number // reducers] for number in range(1, reducers))
