"""The builtin reducers through a whole shuffle, against a plain sequential model; and what they refuse."""

from __future__ import annotations

import decimal
import fractions
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onerack.errors import IncomparableValues, UsageError
from onerack.mapreduce.reducers import NAMES, parse_reducer
from tests.mapreduce.shuffling import TIGHT, Pair, flat, folded, model, same

ALL = ["sum", "count", "min", "max", "mean", "first", "list", "set", "distinct", "topk:1", "topk:3"]
INT64 = 2**63
numbers: dict[str, st.SearchStrategy[Any]] = {
    "small ints": st.integers(-5, 5),
    "ints near the edge of 64 bits": st.sampled_from([INT64 - 1, -INT64, INT64, 1, -1, 2**70]),
    "floats": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "zeros and one third": st.sampled_from([0.0, -0.0, 1 / 3, -1 / 3, 1e16]),
    "fractions": st.fractions(max_denominator=9),
    "decimals": st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-99, max_value=99),
}
slow_fixture = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def maps_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[list[tuple[str, Any]]]]:
    return st.lists(st.lists(st.tuples(st.sampled_from(["a", "b", "", "é"]), values), max_size=12), max_size=4)


@pytest.mark.parametrize("values", numbers)
@pytest.mark.parametrize("reduce", ALL)
@slow_fixture
@given(data=st.data())
def test_numbers_give_what_the_sequential_model_gives(
    tmp_path: Path, reduce: str, values: str, data: st.DataObject
) -> None:
    maps = data.draw(maps_of(numbers[values]))
    if values == "zeros and one third" and reduce in ("set", "distinct"):
        maps = [[(key, value + 0.0) for key, value in pairs] for pairs in maps]
    assert same(flat(folded(tmp_path, maps, reduce, block=5)), model(maps, reduce))


@pytest.mark.parametrize("reduce", ["count", "min", "max", "first", "list", "set", "distinct", "topk:2"])
@slow_fixture
@given(data=st.data())
def test_everything_that_compares_works_as_well(tmp_path: Path, reduce: str, data: st.DataObject) -> None:
    values = st.text(max_size=3) | st.just("\ud800") if data.draw(st.booleans()) else st.tuples(st.integers(0, 2))
    maps = data.draw(maps_of(values))
    assert same(flat(folded(tmp_path, maps, reduce, block=5)), model(maps, reduce))


@pytest.mark.parametrize("reduce", ALL)
@pytest.mark.parametrize("values", ["ints", "floats"])
def test_results_do_not_depend_on_memory_or_kernels(tmp_path: Path, reduce: str, values: str) -> None:
    dice = random.Random(7)
    draw = (lambda: dice.randrange(100)) if values == "ints" else (lambda: dice.uniform(-1, 1))
    # All values of a key are close together, so that no map task spills between two of them: partial sums are made
    # for each spill, and a float sum shows it.
    maps = [[(f"key {key:05}", draw()) for key in range(1500) for _ in range(2)] for _ in range(3)]
    expected = model(maps, reduce)
    for memory_bytes in (TIGHT, 64 << 20):
        for accelerate in (False, True):
            found = folded(tmp_path, maps, reduce, memory_bytes=memory_bytes, accelerate=accelerate, block=500)
            assert same(flat(found), expected), (memory_bytes, accelerate)


@pytest.mark.parametrize("accelerate", [False, True])
def test_a_sum_of_ints_never_overflows(tmp_path: Path, accelerate: bool) -> None:
    maps = [[("a", INT64 - 1), ("b", 1)], [("a", 1), ("b", -INT64)], [("b", -5)]]
    assert flat(folded(tmp_path, maps, "sum", accelerate=accelerate)) == {b"a": INT64, b"b": -INT64 - 4}


@pytest.mark.parametrize("reduce", ["min", "max"])
@pytest.mark.parametrize("accelerate", [False, True])
def test_one_nan_makes_a_min_or_max_nan_wherever_it_comes(tmp_path: Path, reduce: str, accelerate: bool) -> None:
    for values in ([math.nan, 1.0], [1.0, math.nan], [1.0, math.nan, 0.0]):
        apart = [[("a", value), ("b", 2.0)] for value in values]
        together = [[pair for pairs in apart for pair in pairs]]
        for maps in (apart, together):
            found = flat(folded(tmp_path, maps, reduce, accelerate=accelerate))
            assert math.isnan(found[b"a"])
            assert found[b"b"] == 2.0


@pytest.mark.parametrize("reduce", ["min", "max"])
def test_the_first_of_equals_is_kept_down_to_the_sign_of_zero(tmp_path: Path, reduce: str) -> None:
    for zeros in ([0.0, -0.0], [-0.0, 0.0]):
        found = flat(folded(tmp_path, [[("a", zero)] for zero in zeros], reduce))
        assert same(found[b"a"], zeros[0])


def test_nan_ranks_below_everything_in_topk(tmp_path: Path) -> None:
    maps = [[("a", math.nan), ("a", 1.0)], [("a", -math.inf), ("a", math.nan)]]
    found = flat(folded(tmp_path, maps, "topk:3"))[b"a"]
    assert found[:2] == [1.0, -math.inf]
    assert math.isnan(found[2])


def test_topk_of_many_values_keeps_no_more_than_it_needs(tmp_path: Path) -> None:
    maps = [[("a", (number * 7919) % 10_007) for number in range(5000)] for _ in range(2)]
    assert same(flat(folded(tmp_path, maps, "topk:5", block=700)), model(maps, "topk:5"))


def test_sets_tell_values_apart_by_type_and_sort_what_python_can_sort(tmp_path: Path) -> None:
    maps: list[list[Pair]] = [
        [("a", 1), ("a", True), ("a", 1.0), ("b", "x"), ("b", 2)],
        [("a", 1), ("b", None), ("c", [2]), ("c", [1])],
    ]
    found = flat(folded(tmp_path, maps, "set"))
    assert sorted(map(repr, found[b"a"])) == ["1", "1.0", "True"]
    assert found[b"b"] == [None, 2, "x"]
    assert found[b"c"] == [[1], [2]]
    assert flat(folded(tmp_path, maps, "distinct")) == {b"a": 3, b"b": 3, b"c": 2}


def test_mixed_kinds_of_numbers_are_added_as_python_adds_them(tmp_path: Path) -> None:
    maps: list[list[tuple[str, Any]]] = [
        [("a", True), ("a", 2)], [("a", 0.5)], [("a", fractions.Fraction(1, 2))], [("b", True), ("b", True)],
        [("c", decimal.Decimal("0.1")), ("c", 1)],
    ]  # fmt: skip
    assert same(flat(folded(tmp_path, maps, "sum")), {b"a": 4.0, b"b": 2, b"c": decimal.Decimal("1.1")})


@pytest.mark.parametrize("reduce", ["sum", "mean", "min", "max", "topk:1"])
@pytest.mark.parametrize("apart", [False, True])
def test_values_that_do_not_go_together_are_refused_with_the_key_and_both_types(
    tmp_path: Path, reduce: str, apart: bool
) -> None:
    pairs = [("guilty", 1), ("guilty", "one"), ("innocent", 1)]
    if reduce == "topk:1":
        pairs[1:1] = [("guilty", number) for number in range(100)]
    with pytest.raises(IncomparableValues, match=r"types (int and str|str and int) of the key") as caught:
        folded(tmp_path, [[pair] for pair in pairs] if apart else [pairs], reduce)
    assert "guilty" in str(caught.value) or reduce == "topk:1"
    assert "innocent" not in str(caught.value)


@pytest.mark.parametrize("text", ["summ", "", "topk", "topk:", "topk:0", "topk:-1", "topk:x", "topk:1.5", "SUM"])
def test_an_unknown_name_is_refused_and_all_names_are_listed(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_reducer(text)
    for name in NAMES:
        assert name in str(caught.value)


@pytest.mark.parametrize("text", [*ALL, "topk:10"])
def test_one_key_at_a_time_is_the_same_as_a_job(tmp_path: Path, text: str) -> None:
    values = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
    found = flat(folded(tmp_path, [[("k", value) for value in values]], text))
    assert same(found[b"k"], parse_reducer(text).reduce(iter(values)))


def test_reducers_of_one_text_are_equal() -> None:
    assert parse_reducer("topk:3") == parse_reducer("topk:3")
    assert parse_reducer("topk:3") != parse_reducer("topk:4")
    assert len({parse_reducer("sum"), parse_reducer("sum"), parse_reducer("count")}) == 2
