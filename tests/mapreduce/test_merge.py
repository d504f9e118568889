"""The reduce side: order of keys and values, huge keys, many runs, scattered ranges, damage, and who stops early."""

from __future__ import annotations

import functools
import os
import random
import resource
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onerack.mapreduce.columns import Columns
from onerack.mapreduce.keys import encode_keys
from onerack.mapreduce.messages import Section
from onerack.mapreduce.reducers import parse_reducer
from onerack.mapreduce.shuffle import groups, merge, runs, windows
from onerack.mapreduce.shuffle.arrays import cut_rows, key_order, lower_bound, upper_bound
from onerack.mapreduce.shuffle.collector import Collector
from onerack.mapreduce.shuffle.format import SectionUnreadable
from onerack.mapreduce.shuffle.merge import _Ranges, fold_partition, group_partition
from onerack.mapreduce.values import decode_values, encode_values
from tests.mapreduce.shuffling import ROOMY, TIGHT, Pair, flat, folded, grouped, shuffled

slow_fixture = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def groups_of(maps: list[list[Pair]], sort_key: Any = None) -> dict[Any, list[Any]]:
    """The sequential answer."""
    found: dict[Any, list[Any]] = {}
    for pairs in maps:
        for key, value in pairs:
            found.setdefault(key, []).append(value)
    if sort_key is not None:
        for key, values in found.items():
            values.sort(key=functools.partial(sort_key, key))
    return found


def as_dict(partitions: list[list[tuple[Any, list[Any]]]]) -> dict[Any, list[Any]]:
    return {key: values for partition in partitions for key, values in partition}


@slow_fixture
@given(
    maps=st.lists(
        st.lists(st.tuples(st.integers(-3, 3), st.none() | st.integers() | st.text(max_size=3)), max_size=15),
        max_size=5,
    )
)
def test_values_come_in_the_order_of_maps_and_emissions(tmp_path: Path, maps: list[list[Pair]]) -> None:
    assert as_dict(grouped(tmp_path, maps, block=4)) == groups_of(maps)


@slow_fixture
@given(maps=st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(-9, 9)), max_size=15), max_size=5))
def test_values_come_in_the_order_of_the_sort_key_and_equal_ones_as_emitted(
    tmp_path: Path, maps: list[list[Pair]]
) -> None:
    def sort_key(_: int, value: Any) -> int:
        return int(abs(value[0]))

    told_apart = [
        [(key, (value, map_index, row)) for row, (key, value) in enumerate(pairs)]
        for map_index, pairs in enumerate(maps)
    ]
    assert as_dict(grouped(tmp_path, told_apart, sort_key=sort_key, block=4)) == groups_of(told_apart, sort_key)


@pytest.mark.parametrize("sort_key", [None, lambda key, value: value % 10, lambda key, value: -value])
@pytest.mark.parametrize("accelerate", [False, True])
def test_hot_and_cold_keys_in_little_memory(tmp_path: Path, sort_key: Any, accelerate: bool) -> None:
    dice = random.Random(5)
    maps = [
        [(dice.choice(["hot", "hot", "warm", f"cold {dice.randrange(3000)}"]), number) for number in range(12_000)]
        for _ in range(3)
    ]
    found = grouped(tmp_path, maps, sort_key=sort_key, memory_bytes=TIGHT, accelerate=accelerate)
    assert as_dict(found) == groups_of(maps, sort_key)
    assert not (tmp_path / "scratch").exists() or not os.listdir(tmp_path / "scratch")


def test_one_key_only_and_all_values_equal(tmp_path: Path) -> None:
    maps = [[("k", 7)] * 20_000 for _ in range(2)]
    for sort_key in (None, lambda key, value: value):
        found = grouped(tmp_path, maps, sort_key=sort_key, memory_bytes=TIGHT, reducers=5)
        assert as_dict(found) == {"k": [7] * 40_000}


def test_a_key_with_very_many_values_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, block = 600_000, 20_000
    collector = Collector(str(tmp_path / "m0"), reducers=1, reduce=None, memory_bytes=4 << 20, accelerate=False)
    keys = encode_keys(["key"] * block)
    for start in range(0, count, block):
        collector.add_columns(Columns(*keys, *encode_values(list(range(start, start + block)))))
    sections = collector.close()
    assert collector.spills > 3
    decoded: list[int] = []

    def watched(kind: Any, array: Any) -> list[Any]:
        decoded.append(len(array))
        return decode_values(kind, array)

    monkeypatch.setattr(groups, "decode_values", watched)
    ((key, total),) = (
        (key, sum(values))
        for key, values in group_partition(
            sections, memory_bytes=4 << 20, scratch=str(tmp_path / "s"), sorted_by_order=False, accelerate=False
        )
    )
    assert (key, total) == ("key", sum(range(count)))
    assert sum(decoded) == count
    assert max(decoded) <= 1 << 16, "so many values are Python objects at once"


def test_a_function_need_not_read_its_values(tmp_path: Path) -> None:
    maps = [[(key, number) for number in range(5000) for key in ("a", "b", "c")] for _ in range(2)]
    (sections,) = shuffled(tmp_path, maps, reducers=1)
    for read in (0, 1, 3):
        seen = {
            key: list(islice(values, read))
            for key, values in group_partition(
                sections, memory_bytes=TIGHT, scratch=str(tmp_path / "s"), sorted_by_order=False, accelerate=False
            )
        }
        assert seen == {key: list(range(read)) for key in "abc"}


def test_who_stops_early_leaves_no_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "FAN_IN", 2)
    maps = [[(number, number) for number in range(300)] for _ in range(5)]
    (sections,) = shuffled(tmp_path, maps, reducers=1)
    scratch = tmp_path / "scratch"
    found = group_partition(sections, memory_bytes=TIGHT, scratch=str(scratch), sorted_by_order=False, accelerate=False)
    next(found)
    assert os.listdir(scratch)
    found.close()  # type: ignore[attr-defined]
    assert not os.listdir(scratch)


@pytest.mark.parametrize("sort_key", [None, lambda key, value: -value])
def test_more_runs_than_can_be_merged_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sort_key: Any) -> None:
    monkeypatch.setattr(runs, "FAN_IN", 3)
    maps = [[(f"k{number % 11}", number + index) for number in range(40)] for index in range(20)]
    assert as_dict(grouped(tmp_path, maps, sort_key=sort_key)) == groups_of(maps, sort_key)
    assert flat(folded(tmp_path, maps, "list")) == {key.encode(): values for key, values in groups_of(maps).items()}


def test_kinds_of_values_may_differ_from_map_to_map_and_block_to_block(tmp_path: Path) -> None:
    maps: list[list[Pair]] = [[("a", 1), ("a", 2)], [("a", "x")], [("a", (1, 2)), ("a", None)], [("a", 0.5)]]
    assert as_dict(grouped(tmp_path, maps, block=1)) == {"a": [1, 2, "x", (1, 2), None, 0.5]}


def test_objects_come_back_where_pickles_are_allowed(tmp_path: Path) -> None:
    maps: list[list[Pair]] = [[("a", complex), ("a", 1)], [("b", 2)]]
    assert as_dict(grouped(tmp_path, maps, allow_pickle=True)) == {"a": [complex, 1], "b": [2]}
    assert flat(folded(tmp_path, maps, "list", allow_pickle=True)) == {b"a": [complex, 1], b"b": [2]}
    assert flat(folded(tmp_path, maps, "first", allow_pickle=True)) == {b"a": complex, b"b": 2}


def test_first_and_list_follow_the_sort_key(tmp_path: Path) -> None:
    maps = [[("a", 3), ("a", 1), ("b", 5)], [("a", 0), ("b", 9)]]

    def descending(_: str, value: int) -> int:
        return -value

    assert flat(folded(tmp_path, maps, "first", sort_key=descending)) == {b"a": 3, b"b": 9}
    assert flat(folded(tmp_path, maps, "list", sort_key=descending)) == {b"a": [3, 1, 0], b"b": [9, 5]}
    hot = [[("a", number) for number in range(30_000)] for _ in range(2)]
    assert flat(folded(tmp_path, hot, "first", sort_key=descending, memory_bytes=TIGHT)) == {b"a": 29_999}


# ---------------------------------------------------------------------------------------------- scattering


@pytest.mark.parametrize("reduce", ["sum", "mean", "topk:2", "first"])
def test_distinct_keys_beyond_memory_are_folded_range_by_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reduce: str
) -> None:
    scattered: list[int] = []
    real = merge._Folding._scatter

    def counted(folding: Any, *args: Any) -> Any:
        scattered.append(1)
        return real(folding, *args)

    monkeypatch.setattr(merge._Folding, "_scatter", counted)
    monkeypatch.setattr(merge, "_RANGES_MAX", 4)
    maps = [[(f"{number * 7919 % 30_000:09}", number / 3) for number in range(15_000)] for _ in range(2)]
    roomy = flat(folded(tmp_path, maps, reduce))
    assert not scattered
    tight = flat(folded(tmp_path, maps, reduce, memory_bytes=TIGHT))
    assert len(scattered) >= 3, "ranges that are still too large are scattered again"
    assert tight == roomy


@pytest.mark.parametrize(("values", "scattered"), [((1, 2), False), (("", "x"), True), (((), (1,)), True)])
def test_values_that_are_no_numbers_are_given_the_room_of_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: tuple[Any, Any], scattered: bool
) -> None:
    made: list[_Ranges] = []

    def make(*arguments: Any) -> _Ranges:
        made.append(_Ranges(*arguments))
        return made[-1]

    monkeypatch.setattr(merge, "_Ranges", make)
    maps = [[(f"key {number}", value) for number in range(20_000)] for value in values]
    found = flat(folded(tmp_path, maps, "max", reducers=1, memory_bytes=merge._NATIVE_FACTOR << 20))
    assert found == {f"key {number}".encode(): values[1] for number in range(20_000)}
    assert bool(made) == scattered


@pytest.mark.parametrize(
    ("reduce", "pairs"),
    [
        ("sum", [(key, 1) for key in range(20_000)]),
        ("mean", [(key, 1) for key in range(20_000)]),
        ("list", [(key, 1) for key in range(20_000)]),
        ("distinct", [("one", value) for value in range(50_000)]),
        (None, [("one", value) for value in range(50_000)]),
    ],
)
def test_work_before_the_first_result_is_progress(tmp_path: Path, reduce: str | None, pairs: list[Pair]) -> None:
    steps = 0

    def progress() -> None:
        nonlocal steps
        steps += 1

    ((*sections,),) = shuffled(tmp_path, [pairs] * 5, reducers=1, reduce=reduce, memory_bytes=TIGHT)
    settings: Any = {"memory_bytes": TIGHT, "scratch": str(tmp_path / "s"), "progress": progress}
    if reduce is None:
        next(group_partition(sections, sorted_by_order=False, **settings))
    else:
        next(fold_partition(sections, parse_reducer(reduce), **settings))
    assert steps > 2 * len(sections), "runs are read, and then folded or merged"


def test_a_single_key_too_large_is_not_scattered_for_ever(tmp_path: Path) -> None:
    maps = [[("k", number) for number in range(40_000)] for _ in range(2)]
    found = flat(folded(tmp_path, maps, "topk:30000", memory_bytes=TIGHT))
    assert found == {b"k": [value for value in range(39_999, 24_999, -1) for _ in range(2)]}


# ---------------------------------------------------------------------------------------------- damage


def read_all(sections: list[Section], reduce: str | None, scratch: str) -> None:
    """Reads a partition to its end."""
    if reduce is not None:
        list(fold_partition(sections, parse_reducer(reduce), memory_bytes=ROOMY, scratch=scratch))
        return
    for _ in group_partition(sections, memory_bytes=ROOMY, scratch=scratch, sorted_by_order=False):
        pass


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_section_that_cannot_be_read_is_named(tmp_path: Path, damage: str) -> None:
    maps = [[(number, number) for number in range(100)] for _ in range(3)]
    for reduce in ("sum", None):
        (sections,) = shuffled(tmp_path, maps, reducers=1, reduce=reduce)
        path = Path(sections[1].path)
        content = bytearray(path.read_bytes())
        if damage == "gone":
            path.unlink()
        elif damage == "cut":
            path.write_bytes(content[:200])
        else:
            content[sections[1].extents[0].offset + 100] ^= 1
            path.write_bytes(content)
        with pytest.raises(SectionUnreadable) as caught:
            read_all(sections, reduce, str(tmp_path / "s"))
        assert caught.value.path == str(path)
        assert caught.value.corrupt == (damage != "gone")


def test_thousands_of_map_tasks_need_few_open_files(tmp_path: Path) -> None:
    maps = [[("a", number), ("b", number)] for number in range(400)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    partitions = shuffled(tmp_path, maps, reducers=1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 128), hard))
    try:
        found = {
            key: list(values)
            for key, values in group_partition(
                partitions[0], memory_bytes=ROOMY, scratch=str(tmp_path / "s"), sorted_by_order=False, accelerate=False
            )
        }
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == {"a": list(range(400)), "b": list(range(400))}


# ---------------------------------------------------------------------------------------------- arrays


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=2), max_size=20), st.binary(max_size=2))
def test_bounds_are_those_of_binary_search(keys: list[bytes], key: bytes) -> None:
    keys.sort()
    array = pa.array(keys, pa.binary())
    assert lower_bound(array, key) == sum(found < key for found in keys)
    assert upper_bound(array, key) == sum(found <= key for found in keys)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 60), st.integers(1, 10))
def test_pieces_are_whole_consecutive_and_within_both_limits(sizes: list[int], bytes_max: int, rows_max: int) -> None:
    array = pa.array([b"x" * size for size in sizes], pa.binary())
    pieces = list(cut_rows([array], bytes_max, rows_max))
    assert [row for start, rows in pieces for row in range(start, start + rows)] == list(range(len(sizes)))
    for start, rows in pieces:
        assert 1 <= rows <= rows_max
        assert rows == 1 or sum(size + 4 for size in sizes[start : start + rows]) <= bytes_max


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=2), st.binary(max_size=2)), max_size=30))
def test_rows_are_ordered_by_key_then_sort_key_then_as_they_came(rows: list[tuple[bytes, bytes]]) -> None:
    keys = pa.array([key for key, _ in rows], pa.binary())
    order = pa.array([sort_key for _, sort_key in rows], pa.binary())
    expected = sorted(range(len(rows)), key=lambda row: rows[row])
    assert key_order(keys, order, accelerate=False).tolist() == expected


def test_windows_are_small_whatever_the_number_of_rows(tmp_path: Path) -> None:
    maps = [[(number, "x" * 50) for number in range(5000)] for _ in range(4)]
    (sections,) = shuffled(tmp_path, maps, reducers=1)
    sorted_runs = [list(run.columns()) for _, run in runs.read_runs(sections)]
    sizes = [
        found.columns.keys.nbytes + found.columns.values.nbytes
        for found in windows.windows(sorted_runs, by_order=False, window_bytes=40_000, accelerate=False)
        if isinstance(found, windows.Window)
    ]
    assert sum(sizes) > 1_000_000
    assert max(sizes) <= 44_000
