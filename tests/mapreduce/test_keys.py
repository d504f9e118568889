"""Canonical keys: round trips, order of bytes = order of keys, kinds that do not mix, and the partition hash."""

from __future__ import annotations

import enum
import math
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onerack.errors import BadKey
from onerack.mapreduce.keys import (
    decode_key,
    decode_keys,
    encode_key,
    encode_keys,
    partition_of,
    partitions_of,
    prefixes_of,
    ranges_of,
)

EDGES = [0, 1, -1, 255, 256, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1, 2**2000, -(2**2000), 2**2008]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ints = st.integers() | st.sampled_from(EDGES)
floats = st.floats(allow_nan=False)
scalars: dict[str, st.SearchStrategy[Any]] = {
    "str": texts,
    "bytes": st.binary(max_size=12),
    "int": ints,
    "float": floats,
    "bool": st.booleans(),
    "none": st.none(),
}


def tuples_of_one_shape() -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Tuples that Python can compare: the same kind at each place; some a prefix of others."""
    shapes = st.lists(st.sampled_from(["str", "bytes", "int", "float", "bool"]), min_size=1, max_size=3)
    return shapes.flatmap(
        lambda shape: st.lists(
            st.tuples(st.tuples(*(scalars[kind] for kind in shape)), st.integers(0, len(shape))).map(
                lambda drawn: drawn[0][: drawn[1]]
            ),
            min_size=1,
            max_size=8,
        )
    )


def check_order(keys: Sequence[Any]) -> None:
    """Sorted by bytes is sorted by key, and equal exactly together."""
    for left in keys:
        for right in keys:
            raw_left, raw_right = encode_key(left), encode_key(right)
            assert (left < right) == (raw_left < raw_right), (left, right)
            assert (left == right) == (raw_left == raw_right), (left, right)


@pytest.mark.parametrize("kind", scalars)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_kind_comes_back_as_it_was_and_one_by_one_is_as_all_at_once(kind: str, data: st.DataObject) -> None:
    keys = data.draw(st.lists(scalars[kind], min_size=1, max_size=8))
    found, raws = encode_keys(keys)
    assert found == kind
    assert raws.to_pylist() == [encode_key(key) for key in keys]
    decoded = decode_keys(found, raws)
    assert decoded == keys
    assert set(map(type, decoded)) == set(map(type, keys))
    assert [decode_key(found, raw) for raw in raws.to_pylist()] == keys


@pytest.mark.parametrize("kind", ["str", "bytes", "int", "float", "bool"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_order_of_the_bytes_is_the_order_of_the_keys(kind: str, data: st.DataObject) -> None:
    check_order(data.draw(st.lists(scalars[kind], min_size=1, max_size=6)))


def test_ints_keep_their_order_across_all_lengths() -> None:
    check_order(EDGES)


@settings(max_examples=60, deadline=None)
@given(tuples_of_one_shape())
def test_tuples_sort_as_tuples_and_come_back(keys: list[tuple[Any, ...]]) -> None:
    check_order(keys)
    kind, raws = encode_keys(keys)
    assert decode_keys(kind, raws) == keys


@pytest.mark.parametrize(
    "key", [((1, "a"), (2,)), ("a\x00b", b"\x00\xff\x00", None), ((), ((),)), (True, 1, 1.0), (("a",), "b")]
)
def test_nested_tuples_come_back_with_their_types(key: tuple[Any, ...]) -> None:
    decoded = decode_key("tuple", encode_key(key))
    assert decoded == key
    assert repr(decoded) == repr(key)


def test_tuples_tell_apart_what_python_merges() -> None:
    assert len({encode_key((one,)) for one in (1, 1.0, True)}) == 3


def test_minus_zero_is_zero_and_nan_is_refused() -> None:
    assert encode_key(-0.0) == encode_key(0.0)
    assert math.copysign(1, decode_keys(*encode_keys([-0.0]))[0]) == 1
    for keys in ([math.nan], [1.0, math.nan], [(math.nan,)]):
        with pytest.raises(BadKey, match="NaN"):
            encode_keys(keys)


@pytest.mark.parametrize(
    ("keys", "names"), [([1, True], "int and bool"), ([1, 1.0], "int and float"), (["a", b"a"], "str and bytes")]
)
def test_two_kinds_are_refused_by_name(keys: list[object], names: str) -> None:
    with pytest.raises(BadKey, match=names):
        encode_keys(keys)


@pytest.mark.parametrize("key", [[1], {"a": 1}, {1}, object(), bytearray(b"a"), ([1],), frozenset([1])])
def test_other_types_are_refused_and_the_message_says_what_to_emit(key: object) -> None:
    with pytest.raises(BadKey, match=r"keys are str, bytes"):
        encode_keys([key])


def test_a_lone_surrogate_is_refused_and_the_key_named() -> None:
    with pytest.raises(BadKey, match=r"'\\ud800x' holds a lone surrogate"):
        encode_keys(["fine", "\ud800x"])


class Colour(enum.IntEnum):
    RED = 7


class Word(str):
    """A subclass of str."""


@pytest.mark.parametrize(
    ("key", "plain"),
    [
        (Colour.RED, 7),
        (Word("w"), "w"),
        (np.int32(5), 5),
        (np.float64(1.5), 1.5),
        (np.str_("s"), "s"),
        (np.True_, True),
    ],
)
def test_subclasses_count_as_what_they_extend(key: object, plain: object) -> None:
    kind, raws = encode_keys([key, plain])
    assert decode_keys(kind, raws) == [plain, plain]
    assert encode_key(key) == encode_key(plain)


def test_a_tuple_nested_without_end_is_refused() -> None:
    key: tuple[Any, ...] = ()
    for _ in range(100):
        key = (key,)
    with pytest.raises(BadKey, match="nested"):
        encode_key(key)


def test_no_keys_are_of_no_kind() -> None:
    kind, raws = encode_keys([])
    assert (kind, len(raws)) == ("none", 0)


# ---------------------------------------------------------------------------------------------- partitions

GOLDEN_KEYS = [b"", b"a", b"the", b"onerack", "é".encode(), b"\x00" * 9]
GOLDEN_PARTITIONS = [0, 94, 5, 48, 44, 16]


def test_the_hash_never_changes() -> None:
    assert [partition_of(raw, 97) for raw in GOLDEN_KEYS] == GOLDEN_PARTITIONS


@pytest.mark.parametrize("accelerate", [False, True])
def test_all_at_once_is_as_one_by_one(accelerate: bool) -> None:
    raws = [f"word-{number}".encode() for number in range(500)] + GOLDEN_KEYS
    for reducers in (1, 2, 7, 1000):
        found = partitions_of(pa.array(raws, pa.binary()), reducers, accelerate=accelerate)
        assert found.tolist() == [partition_of(raw, reducers) for raw in raws]


def test_partitions_are_about_equally_full() -> None:
    raws = pa.array([f"{number}".encode() for number in range(20_000)], pa.binary())
    counts = np.bincount(partitions_of(raws, 8), minlength=8)
    assert counts.min() > 2_300
    assert counts.max() < 2_700


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(max_size=12), max_size=20),
    st.lists(st.binary(max_size=12), min_size=1, max_size=6, unique=True),
    st.binary(max_size=9),
)
def test_ranges_hold_the_keys_between_their_splitters(keys: list[bytes], splitters: list[bytes], common: bytes) -> None:
    keys = [common + key for key in keys]
    splitters = sorted({common + splitter for splitter in splitters})
    found = ranges_of(pa.array(keys, pa.binary()), splitters)
    assert found.tolist() == [sum(splitter <= key for splitter in splitters) for key in keys]


@given(st.binary(max_size=10), st.binary(max_size=10))
@settings(max_examples=60, deadline=None)
def test_prefixes_never_contradict_the_keys(left: bytes, right: bytes) -> None:
    # The first row of the sliced array must not show.
    low, high = sorted([left, right])
    prefixes = prefixes_of(pa.array([b"padding", low, high], pa.binary()).slice(1))
    assert prefixes[0] <= prefixes[1]


def test_partitions_do_not_depend_on_the_hash_seed() -> None:
    program = (
        "from onerack.mapreduce.keys import *\n"
        "print(partitions_of(encode_keys([(f'k{i}', i) for i in range(50)])[1], 13, accelerate=False).tolist())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
