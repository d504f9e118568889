"""The map side: what pairs become, spills, combiners, partitions, sort keys, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from onerack.errors import BadKey, BadPair, BadPartition, UnserialisableValue
from onerack.mapreduce.columns import Columns
from onerack.mapreduce.keys import encode_key, encode_keys, partition_of
from onerack.mapreduce.reducers import parse_reducer
from onerack.mapreduce.shuffle.collector import Collector
from onerack.mapreduce.shuffle.format import verify_file
from onerack.mapreduce.shuffle.merge import fold_partition
from onerack.mapreduce.values import encode_values
from tests.mapreduce.shuffling import ROOMY, TIGHT, flat, folded, grouped, same, shuffled


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Callable[..., Collector]]:
    """Makes collectors; those that a test does not close are aborted."""
    made: list[Collector] = []

    def make(reduce: str | None = "sum", **options: Any) -> Collector:
        options = {"reducers": 2, "memory_bytes": ROOMY, "accelerate": False, **options}
        reducer = None if reduce is None else parse_reducer(reduce)
        made.append(Collector(str(tmp_path / f"m{len(made)}"), reduce=reducer, **options))
        return made[-1]

    yield make
    for one in made:
        one.abort()


@pytest.mark.parametrize("reduce", ["sum", "count"])
@pytest.mark.parametrize("accelerate", [False, True])
@pytest.mark.parametrize("letter", ["w", "é"])
def test_words_are_counted_whatever_the_blocks_and_the_memory(
    tmp_path: Path, reduce: str, accelerate: bool, letter: str
) -> None:
    words = [f"{letter}{(number * number) % 977}" for number in range(6000)]
    pairs = [(word, 1) for word in words]
    expected = {encode_key(word): count for word, count in Counter(words).items()}
    for block in (1, 300, 6000):
        for memory_bytes in (TIGHT, ROOMY):
            few = pairs if block > 1 else pairs[:50]
            found = flat(folded(tmp_path, [few], reduce, block=block, memory_bytes=memory_bytes, accelerate=accelerate))
            assert found == (expected if block > 1 else {encode_key(w): c for w, c in Counter(words[:50]).items()})


@pytest.mark.parametrize(
    "values", [[1, True], [True, True], [1, 1.0], [1.0, 1.0], [1, 2], [1, np.int64(1)], [np.bool_(True), 1]]
)
@pytest.mark.parametrize("accelerate", [False, True])
def test_what_equals_one_is_not_taken_for_the_int_one(tmp_path: Path, values: list[Any], accelerate: bool) -> None:
    (total,) = flat(folded(tmp_path, [[("a", value) for value in values]], "sum", accelerate=accelerate)).values()
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    assert total == sum(plain)
    assert type(total) is type(sum(plain))


@pytest.mark.parametrize("reduce", ["sum", "count", "first", "list", None])
@pytest.mark.parametrize(
    "pairs",
    [
        [("a", 1), (1, 1)], [(1, 1), (True, 1)], [(1, 1), (1.0, 1)], [(True, 1), (0, 1)], [("a", 1), (b"a", 1)],
        [(None, 1), (0, 1)], [(("a",), 1), ("a", 1)], [("a", 1), (("a",), 1)], [("a", 1), (None, 1)],
    ],
)  # fmt: skip
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("accelerate", [False, True])
def test_keys_of_two_kinds_are_refused_in_one_block_and_in_two(
    collector: Callable[..., Collector], reduce: str | None, pairs: list[Any], block: int, accelerate: bool
) -> None:
    collects = collector(reduce, accelerate=accelerate)

    def add() -> None:
        for start in range(0, len(pairs), block):
            collects.add_pairs(pairs[start : start + block])

    with pytest.raises(BadKey, match="two kinds"):
        add()


def test_keys_of_two_kinds_are_refused_even_from_two_map_tasks(tmp_path: Path) -> None:
    for reduce in ("sum", "list"):
        with pytest.raises(BadKey, match="two kinds in one job: int and float"):
            folded(tmp_path, [[(1, 1)], [(1.0, 1)]], reduce, reducers=1)


@pytest.mark.parametrize("values", [[1, 1, 0.1, 1], [1, 1, 2], [1, True], [1, 2**70, 1]])
@pytest.mark.parametrize("accelerate", [False, True])
def test_counting_turns_into_adding_without_a_seam(tmp_path: Path, values: list[Any], accelerate: bool) -> None:
    maps = [[(key, value) for value in values for key in ("é", "a", "")]]
    for block in (1, 2, 3):
        found = flat(folded(tmp_path, maps, "sum", block=block, accelerate=accelerate))
        assert same(found, {key.encode(): sum(values) for key in ("é", "a", "")})


@pytest.mark.parametrize("accelerate", [False, True])
def test_long_keys_subclasses_and_bytes_are_counted_too(tmp_path: Path, accelerate: bool) -> None:
    long = "x" * (9 << 20)
    texts = [["a", np.str_("a"), "b"], [long, long], ["a", long]]
    maps = [[(key, 1) for block in texts for key in block]]
    found = flat(folded(tmp_path, maps, "sum", block=1, accelerate=accelerate))
    assert found == {b"a": 3, b"b": 1, long.encode(): 3}
    assert flat(folded(tmp_path, maps, "sum", block=7, accelerate=accelerate)) == found
    raws = [[(key, 1) for key in (b"", b"\xff", b"\x00", b"\xff")]]
    assert flat(folded(tmp_path, raws, "count", block=2, accelerate=accelerate)) == {b"": 1, b"\xff": 2, b"\x00": 1}


@pytest.mark.parametrize("reduce", ["sum", "count", "list", None])
@pytest.mark.parametrize("key", [[1], {"a": 1}, ("a", [1]), object()])
@pytest.mark.parametrize("first", [None, "a"])
@pytest.mark.parametrize("accelerate", [False, True])
def test_keys_that_are_none_are_refused(
    collector: Callable[..., Collector], reduce: str | None, key: object, first: object, accelerate: bool
) -> None:
    collects = collector(reduce, accelerate=accelerate)
    pairs: list[Any] = [(key, 1)] if first is None else [(first, 1), (key, 1)]
    with pytest.raises(BadKey):
        collects.add_pairs(pairs)


@pytest.mark.parametrize("key", ["\ud800", float("nan"), (float("nan"),)])
@pytest.mark.parametrize("reduce", ["sum", "first", None])
@pytest.mark.parametrize("accelerate", [False, True])
def test_keys_without_canonical_bytes_are_refused_in_their_own_block(
    collector: Callable[..., Collector], key: object, reduce: str | None, accelerate: bool
) -> None:
    with pytest.raises(BadKey):
        collector(reduce, accelerate=accelerate).add_pairs([(key, 1)])


@pytest.mark.parametrize("emitted", ["ab", ("a",), ("a", 1, 2), 5, None, "abc", {"a": 1, "b": 2}, {1, 2}])
@pytest.mark.parametrize("reduce", ["sum", "count", "first", None])
def test_what_is_no_pair_is_refused_and_shown(
    collector: Callable[..., Collector], emitted: Any, reduce: str | None
) -> None:
    collects = collector(reduce)
    with pytest.raises(BadPair, match=r"was emitted where a \(key, value\) pair must be"):
        collects.add_pairs([("a", 1), emitted])


def test_a_value_that_cannot_be_written_is_refused_in_its_own_block(collector: Callable[..., Collector]) -> None:
    with pytest.raises(UnserialisableValue):
        collector(None).add_pairs([("a", object())])


def test_counting_does_not_look_at_values(tmp_path: Path) -> None:
    maps: list[Any] = [[("a", object()), ("b", None)], [("a", [])]]
    assert flat(folded(tmp_path, maps, "count")) == {b"a": 2, b"b": 1}


def test_the_size_of_a_table_follows_what_it_holds(collector: Callable[..., Collector]) -> None:
    collects = collector("sum", memory_bytes=8 << 20)
    for start in range(0, 120_000, 2000):
        collects.add_pairs([(f"{number:060}", 1) for number in range(start, start + 2000)])
    assert 2 <= collects.spills <= 6
    collects = collector("max", memory_bytes=8 << 20)
    for start in range(0, 2_000, 200):
        collects.add_pairs([(number, "x" * 10_000) for number in range(start, start + 200)])
    assert 4 <= collects.spills <= 10
    collects = collector("max", memory_bytes=8 << 20)
    for start in range(0, 2_000, 200):
        collects.add_pairs([(number, (number, ["x" * 10_000])) for number in range(start, start + 200)])
    assert 4 <= collects.spills <= 10


def test_the_same_pairs_spill_at_the_same_rows(tmp_path: Path) -> None:
    pairs = [(f"{number % 5000}", number / 7) for number in range(20_000)]
    first, second = (
        [section for of in shuffled(tmp_path, [pairs], reduce="sum", memory_bytes=TIGHT) for section in of]
        for _ in range(2)
    )
    assert first == second
    assert len(first[0].extents) > 2


def test_files_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    program = """
import sys, zlib
from onerack.mapreduce.reducers import parse_reducer
from onerack.mapreduce.shuffle.collector import Collector
for reduce in ("sum", "set", None):
    reducer = parse_reducer(reduce) if reduce else None
    collector = Collector(sys.argv[1], reducers=3, reduce=reducer, memory_bytes=1, accelerate=False)
    collector.add_pairs([(f"k{n % 900}", n % 7) for n in range(5000)])
    collector.close()
    print(zlib.crc32(open(sys.argv[1], "rb").read()))
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "m0")],
            env={"PYTHONHASHSEED": seed}, capture_output=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outputs) == 1


# ---------------------------------------------------------------------------------------------- combine


def summing(key: Any, values: Iterator[int]) -> Iterator[tuple[Any, int]]:
    yield key, sum(values)


@pytest.mark.parametrize("reduce", ["sum", None])
@pytest.mark.parametrize("memory_bytes", [TIGHT, ROOMY])
def test_a_combiner_runs_on_every_spill_and_changes_nothing(
    tmp_path: Path, reduce: str | None, memory_bytes: int
) -> None:
    maps = [[(f"k{number % 50}", number) for number in range(8000)] for _ in range(2)]
    expected = {f"k{key}": 2 * sum(range(key, 8000, 50)) for key in range(50)}
    if reduce is None:
        groups = grouped(tmp_path, maps, combine=summing, memory_bytes=memory_bytes)
        found = {key: sum(values) for partition in groups for key, values in partition}
        assert max(len(values) for partition in groups for _, values in partition) <= 20
    else:
        results = folded(tmp_path, maps, reduce, combine=summing, memory_bytes=memory_bytes)
        found = {key: value for partition in results for key, value in partition}
    assert found == expected


def test_a_combiner_need_not_read_its_values_and_may_drop_or_rename_keys(tmp_path: Path) -> None:
    def combine(key: str, values: Iterator[int]) -> Iterator[tuple[str, int]]:
        if key != "drop":
            yield key[0], next(values)

    maps = [[("a1", 1), ("a2", 2), ("drop", 3), ("a1", 4), ("b", 5)]]
    groups = grouped(tmp_path, maps, combine=combine)
    assert {key: sorted(values) for partition in groups for key, values in partition} == {"a": [1, 2], "b": [5]}


def test_a_combiner_gets_all_values_of_a_key_with_many(tmp_path: Path) -> None:
    maps = [[("hot", number) for number in range(40_000)] + [("cold", 1)]]
    groups = grouped(tmp_path, maps, combine=summing, block=2000)
    assert {key: values for partition in groups for key, values in partition} == {
        "hot": [sum(range(40_000))],
        "cold": [1],
    }


# ---------------------------------------------------------------------------------------------- partition, sort key


def test_keys_go_to_the_partition_of_their_hash_or_of_their_range(tmp_path: Path) -> None:
    maps = [[(f"k{number}", 1) for number in range(300)]]
    for reduce in ("sum", "list"):
        for index, partition in enumerate(folded(tmp_path, maps, reduce, reducers=4)):
            assert partition
            assert all(partition_of(encode_key(key), 4) == index for key, _ in partition)
        found = folded(tmp_path, maps, reduce, reducers=3, splitters=(b"k2", b"k5"))
        assert {key[1] for key, _ in found[0]} == {"0", "1"}
        assert {key[1] for key, _ in found[1]} == {"2", "3", "4"}


@pytest.mark.parametrize("reduce", ["sum", None])
def test_the_users_partition_is_asked(tmp_path: Path, reduce: str | None) -> None:
    maps = [[((host, page), 1) for host in "abc" for page in range(20)]]

    def partition(key: Any, reducers: int) -> int:
        return zlib.crc32(key[0].encode()) % reducers

    results: list[Any] = (
        folded(tmp_path, maps, reduce, partition=partition) if reduce else grouped(tmp_path, maps, partition=partition)
    )
    assert sum(map(len, results)) == 60
    for index, found in enumerate(results):
        assert all(partition(key, 3) == index for key, _ in found)


@pytest.mark.parametrize("returned", [3, -1, 1.0, None, "1"])
def test_a_partition_out_of_range_is_refused(tmp_path: Path, returned: Any) -> None:
    with pytest.raises(BadPartition, match="must return an int from 0 to 2"):
        shuffled(tmp_path, [[("a", 1)]], partition=lambda key, reducers: returned)


def test_sort_keys_that_do_not_compare_are_refused(tmp_path: Path) -> None:
    mixed = [("a", 1), ("a", "x")]
    with pytest.raises(BadKey, match="sort_key: keys of two kinds"):
        shuffled(tmp_path, [mixed], sort_key=lambda key, value: value)
    with pytest.raises(BadKey, match="sort_key: sort keys of two kinds"):
        shuffled(tmp_path, [mixed], sort_key=lambda key, value: value, block=1)
    with pytest.raises(BadKey, match="sort_key: sort keys of two kinds"):
        grouped(tmp_path, [[pair] for pair in mixed], sort_key=lambda key, value: value)
    with pytest.raises(BadKey, match="sort_key: a key of type list"):
        shuffled(tmp_path, [mixed], sort_key=lambda key, value: [value])


# ---------------------------------------------------------------------------------------------- columns


@pytest.mark.parametrize("reduce", ["sum", "count", "mean", "min", "first", "topk:2", "list", "set", "distinct"])
@pytest.mark.parametrize("memory_bytes", [TIGHT, ROOMY])
def test_columns_are_as_good_as_pairs(tmp_path: Path, reduce: str, memory_bytes: int) -> None:
    pairs = [(f"k{number % 700}", number % 13) for number in range(9000)]
    reducer = parse_reducer(reduce)
    collector = Collector(
        str(tmp_path / "columns"), reducers=1, reduce=reducer, memory_bytes=memory_bytes, accelerate=False
    )
    for start in range(0, len(pairs), 1000):
        keys, values = zip(*pairs[start : start + 1000], strict=True)
        if start % 2000:
            collector.add_pairs(pairs[start : start + 1000])
        else:
            collector.add_columns(Columns(*encode_keys(keys), *encode_values(values)))
    (section,) = collector.close()
    verify_file(section.path)
    found = [
        (columns.keys.to_pylist(), columns.values.to_pylist())
        for columns in fold_partition(
            [section], reducer, memory_bytes=memory_bytes, scratch=str(tmp_path / "scratch"), accelerate=False
        )
    ]
    expected = [
        (columns.keys.to_pylist(), columns.values.to_pylist())
        for columns in fold_partition(
            shuffled(tmp_path, [pairs], reduce=reduce, reducers=1)[0], reducer, memory_bytes=ROOMY,
            scratch=str(tmp_path / "scratch"), accelerate=False,
        )
    ]  # fmt: skip
    for side in (0, 1):
        assert [row for part in found for row in part[side]] == [row for part in expected for row in part[side]]


def test_columns_of_another_key_kind_are_refused(collector: Callable[..., Collector]) -> None:
    for reduce in ("sum", None):
        collects = collector(reduce)
        collects.add_columns(Columns(*encode_keys([1]), *encode_values([1])))
        with pytest.raises(BadKey, match="int and str"):
            collects.add_columns(Columns(*encode_keys(["a"]), *encode_values([1])))


# ---------------------------------------------------------------------------------------------- extremes


@pytest.mark.parametrize("reduce", ["sum", "list"])
def test_empty_long_and_many_zero_keys(tmp_path: Path, reduce: str) -> None:
    keys = ["", "\x00", "\x00\x00", "x" * (1 << 20), "x" * (1 << 20) + "y", "z"]
    maps = [[(key, 1) for key in keys] for _ in range(2)]
    found = flat(folded(tmp_path, maps, reduce, memory_bytes=TIGHT))
    assert found == {key.encode(): 2 if reduce == "sum" else [1, 1] for key in keys}


def test_no_pairs_make_a_file_with_empty_sections(tmp_path: Path) -> None:
    sections = shuffled(tmp_path, [[]], reduce="sum", reducers=3)
    assert [section.rows for partition in sections for section in partition] == [0, 0, 0]
    assert folded(tmp_path, [[], []], "sum") == [[], [], []]


def test_a_block_too_large_for_one_array_is_taken_in_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onerack.mapreduce.shuffle import collector as module

    def small_arrays(values: Any, allow_pickle: bool = False) -> Any:
        if len(values) > 3:
            raise pa.ArrowCapacityError("array cannot contain more than 2147483646 bytes")
        return encode_values(values, allow_pickle)

    monkeypatch.setattr(module, "encode_values", small_arrays)
    pairs = [(number, number) for number in range(40)]
    groups = grouped(tmp_path, [pairs])
    assert {key: values for partition in groups for key, values in partition} == {key: [key] for key, _ in pairs}


def test_an_aborted_collector_leaves_nothing(tmp_path: Path) -> None:
    collector = Collector(str(tmp_path / "m0"), reducers=2, reduce=None, memory_bytes=TIGHT, accelerate=False)
    collector.add_pairs([(number, "x" * 100) for number in range(3000)])
    assert collector.spills
    collector.abort()
    assert [name for name in os.listdir(tmp_path) if name != "home"] == []
