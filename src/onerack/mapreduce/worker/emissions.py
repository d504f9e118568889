"""Emissions: whether what one record emitted can go through the shuffle at all, asked record by record.

The idea: at full speed nobody looks at single pairs; a key that has no canonical bytes or a value that cannot be
encoded shows when a whole block, or the whole attempt, is encoded, and then nobody knows whose it was. A tracked
attempt therefore asks *before* a record's pairs join the others: first for many records at once, and only if that
fails for each of them alone.

The rule: what passes here does not fail later, with one exception: values of one key that come from different
records and cannot be compared with each other; the fold itself names those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onerack.errors import BadKey
from onerack.mapreduce.calls import check_pairs
from onerack.mapreduce.columns import KeyKind
from onerack.mapreduce.keys import encode_keys
from onerack.mapreduce.loaded import LoadedJob
from onerack.mapreduce.messages import JobSpec
from onerack.mapreduce.reducers import Reducer, parse_reducer
from onerack.mapreduce.values import encode_values

Pair = tuple[Any, Any]


class EmissionCheck:
    """Checks pairs of one map attempt; learns the kind of the job's keys from the first that pass."""

    def __init__(self, spec: JobSpec, job: LoadedJob) -> None:
        self._job = job
        self._reducers = spec.reducers
        self._reducer: Reducer | None = parse_reducer(job.reduce) if isinstance(job.reduce, str) else None
        self._kinds: dict[str, KeyKind] = {}

    def __call__(self, pairs: Sequence[Pair]) -> None:
        """Raises what is wrong with one of `pairs`: BadPair and its kin, or what the user's own functions raise."""
        if not pairs:
            return
        check_pairs(pairs, self._job.door)
        if self._reducers == 0:
            return  # A map-only job writes what it emits; every writer takes every pair, or says itself what not.
        keys, values = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        learned = dict(self._kinds)
        self._check_kind("key", keys, learned)
        if self._job.partition is not None:
            for key in keys:
                self._job.partition(key, self._reducers)
        if self._job.sort_key is not None:
            self._check_kind("sort key", [self._job.sort_key(key, value) for key, value in pairs], learned)
        self._check_values(values)
        self._kinds = learned

    def _check_kind(self, what: str, keys: list[Any], learned: dict[str, KeyKind]) -> None:
        kind, _ = encode_keys(keys)
        expected = learned.setdefault(what, kind)
        if kind != expected:
            raise BadKey(
                f"the {what} {keys[0]!r} is of kind {kind}, and those before it are of kind {expected}; "
                "all of a job's must be of one kind"
            )

    def _check_values(self, values: list[Any]) -> None:
        if self._reducer is None:
            encode_values(values, self._job.allow_pickle)
        elif self._reducer.gathers:
            encode_values(values)
        elif self._reducer.text != "count":
            for witness in {type(value): value for value in values}.values():
                self._reducer.add_values({}, [None, None], [witness, witness])
            encode_values(values)
