"""A whole shuffle in a few lines, and the plain sequential model that it must equal."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from onerack.mapreduce.keys import decode_keys, encode_key
from onerack.mapreduce.messages import Section
from onerack.mapreduce.reducers import Reducer, parse_reducer
from onerack.mapreduce.shuffle.collector import Collector
from onerack.mapreduce.shuffle.merge import fold_partition, group_partition
from onerack.mapreduce.values import decode_values

Pair = tuple[Any, Any]
ROOMY = 64 << 20
TIGHT = 1
"""So little that every floor under a buffer is reached."""


def shuffled(
    folder: Path,
    maps: Sequence[Sequence[Pair]],
    *,
    reducers: int = 3,
    memory_bytes: int = ROOMY,
    block: int = 1000,
    accelerate: bool = False,
    reduce: str | None = None,
    **options: Any,
) -> list[list[Section]]:
    """Runs one collector for each list of pairs; returns the sections by partition."""
    partitions: list[list[Section]] = [[] for _ in range(reducers)]
    for index, pairs in enumerate(maps):
        collector = Collector(
            str(folder / f"m{index}"),
            reducers=reducers,
            reduce=None if reduce is None else parse_reducer(reduce),
            memory_bytes=memory_bytes,
            accelerate=accelerate,
            **options,
        )
        try:
            for start in range(0, len(pairs), block):
                collector.add_pairs(pairs[start : start + block])
            sections = collector.close()
        except BaseException:
            collector.abort()
            raise
        for partition, section in zip(partitions, sections, strict=True):
            partition.append(section)
    return partitions


def folded(
    folder: Path,
    maps: Sequence[Sequence[Pair]],
    reduce: str,
    *,
    memory_bytes: int = ROOMY,
    accelerate: bool = False,
    **options: Any,
) -> list[list[Pair]]:
    """What a job with a builtin reducer gives, by partition. Checks that keys increase and nothing is left over."""
    results = []
    sections = shuffled(folder, maps, reduce=reduce, memory_bytes=memory_bytes, accelerate=accelerate, **options)
    scratch = folder / "scratch"
    for partition in sections:
        pairs: list[Pair] = []
        for columns in fold_partition(
            partition, parse_reducer(reduce), memory_bytes=memory_bytes, scratch=str(scratch), accelerate=accelerate
        ):
            keys = decode_keys(columns.key_kind, columns.keys)
            pairs += zip(keys, decode_values(columns.value_kind, columns.values), strict=True)
        raws = [encode_key(key) for key, _ in pairs]
        assert raws == sorted(set(raws)), "keys of a partition are distinct and increase"
        results.append(pairs)
    assert not scratch.exists() or not os.listdir(scratch), "scratch files are left"
    return results


def grouped(
    folder: Path,
    maps: Sequence[Sequence[Pair]],
    *,
    sort_key: Callable[[Any, Any], Any] | None = None,
    memory_bytes: int = ROOMY,
    accelerate: bool = False,
    **options: Any,
) -> list[list[tuple[Any, list[Any]]]]:
    """What the functions of a job see, by partition."""
    results = []
    for partition in shuffled(
        folder, maps, sort_key=sort_key, memory_bytes=memory_bytes, accelerate=accelerate, **options
    ):
        groups = group_partition(
            partition,
            memory_bytes=memory_bytes,
            scratch=str(folder / "scratch"),
            sorted_by_order=sort_key is not None,
            accelerate=accelerate,
        )
        results.append([(key, list(values)) for key, values in groups])
        raws = [encode_key(key) for key, _ in results[-1]]
        assert raws == sorted(set(raws)), "keys of a partition are distinct and increase"
    return results


def flat(partitions: Iterable[Iterable[Pair]]) -> dict[bytes, Any]:
    """Results by canonical key, for comparisons that do not care for partitions."""
    return {encode_key(key): value for partition in partitions for key, value in partition}


def model(maps: Sequence[Sequence[Pair]], reduce: str) -> dict[bytes, Any]:
    """The sequential answer: each map's values folded in order, then the maps' states in order."""
    reducer = parse_reducer(reduce)
    by_key: dict[bytes, list[list[Any]]] = {}
    for pairs in maps:
        of_map: dict[bytes, list[Any]] = {}
        for key, value in pairs:
            of_map.setdefault(encode_key(key), []).append(value)
        for raw, values in of_map.items():
            by_key.setdefault(raw, []).append(values)
    return {raw: model_of_key(reducer, lists) for raw, lists in by_key.items()}


def model_of_key(reducer: Reducer, lists: list[list[Any]]) -> Any:
    """The result for one key, in plain Python and without the code under test wherever that is possible."""
    values = [value for one in lists for value in one]
    partials = [sum(one) for one in lists] if reducer.text in ("sum", "mean") else []
    if reducer.text == "sum":
        return sum(partials)
    if reducer.text == "mean":
        return sum(partials) / len(values)
    if reducer.text == "count":
        return len(values)
    if reducer.text in ("min", "max"):
        nan = [value for value in values if value != value]
        return nan[0] if nan else (min if reducer.text == "min" else max)(values)
    if reducer.text == "first":
        return values[0]
    if reducer.text == "list":
        return values
    if reducer.text.startswith("topk"):
        ranked = sorted((value for value in values if value == value), reverse=True)
        return (ranked + [value for value in values if value != value])[: int(reducer.text[5:])]
    distinct = {(type(value), "nan" if value != value else value): value for value in reversed(values)}
    if reducer.text == "distinct":
        return len(distinct)
    return sorted(distinct.values())


def same(left: Any, right: Any) -> bool:
    """Equal to the last bit and type."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return (math.isnan(left) and math.isnan(right)) or left.hex() == right.hex()
    return type(left) is type(right) and bool(left == right)
