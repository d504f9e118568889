"""Values: every block comes back exactly, typed where it can be, and what cannot leave the process is named."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import fractions
import math
import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onerack.errors import UnserialisableValue
from onerack.mapreduce import plain
from onerack.mapreduce.values import decode_values, encode_values, unify

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.binary(max_size=6)
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.complex_numbers()
    | st.dates()
    | st.times()
    | st.datetimes(timezones=st.none() | st.just(datetime.timezone(datetime.timedelta(hours=-5, minutes=30))))
    | st.timedeltas()
    | st.uuids()
)
hashable = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.sets(hashable, max_size=3)
        | st.frozensets(hashable, max_size=3)
    ),
    max_leaves=8,
)


def exact(value: Any) -> Any:
    """A form in which values are equal only if all types within are, and in which NaN equals itself."""
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, [exact(item) for item in value])
    if isinstance(value, (set, frozenset)):
        return (type(value).__name__, sorted((exact(item) for item in value), key=repr))
    if isinstance(value, dict):
        return ("dict", [(exact(key), exact(item)) for key, item in value.items()])
    if isinstance(value, (datetime.datetime, datetime.time)):
        return (type(value).__name__, repr(value), value.fold)
    return (type(value).__name__, repr(value))


@settings(max_examples=150, deadline=None)
@given(st.lists(trees, max_size=4))
def test_plain_data_comes_back_with_all_its_types(values: list[Any]) -> None:
    kind, column = encode_values(values)
    assert len(column) == len(values)
    assert [exact(value) for value in decode_values(kind, column)] == [exact(value) for value in values]


@settings(max_examples=60, deadline=None)
@given(trees, trees)
def test_the_bytes_of_a_value_do_not_depend_on_its_block(value: Any, neighbour: Any) -> None:
    assert plain.encode_all([value]) == plain.encode_all([value, neighbour])[:1]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, -(2**63), 2**63 - 1], "int"),
        ([2**63], "plain"),
        ([1.5, math.inf, -0.0], "float"),
        (["a", ""], "str"),
        (["\ud800"], "plain"),
        ([b"\x00", b""], "bytes"),
        ([None, None], "none"),
        ([True, False], "plain"),
        ([1, True], "plain"),
        ([1, 1.0], "plain"),
        ([], "none"),
        ([np.int64(3), np.int8(-3)], "int"),
        ([np.float32(0.5)], "float"),
    ],
)
def test_a_block_has_the_narrowest_kind_that_holds_it(values: list[Any], kind: str) -> None:
    found, column = encode_values(values)
    assert found == kind
    decoded = decode_values(found, column)
    assert decoded == values
    assert not any(isinstance(value, np.generic) for value in decoded)


@dataclasses.dataclass
class Point:
    """An object that msgspec would silently turn into a dict."""

    x: int


@pytest.mark.parametrize("value", [Point(1), [Point(1)], object(), print, {"a": {1: Point(2)}}, np.zeros(2)])
def test_objects_are_refused_and_the_remedy_is_named(value: object) -> None:
    with pytest.raises(UnserialisableValue, match='values = "pickle"'):
        encode_values([1, value])


def test_objects_travel_as_pickles_where_the_job_allows() -> None:
    kind, column = encode_values([Point(1), "a"], allow_pickle=True)
    assert kind == "pickle"
    assert decode_values(kind, column) == [Point(1), "a"]


def test_what_not_even_pickle_takes_is_refused() -> None:
    with pytest.raises(UnserialisableValue, match="cannot be pickled"):
        encode_values([(number for number in range(3))], allow_pickle=True)


def test_a_value_that_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UnserialisableValue):
        encode_values([endless])


def test_columns_of_several_kinds_become_one() -> None:
    blocks: list[list[Any]] = [[1, 2], ["a"], [(1, 2)], [None]]
    kind, arrays = unify([encode_values(block) for block in blocks])
    assert kind == "plain"
    assert [decode_values(kind, array) for array in arrays] == blocks


def test_columns_of_one_kind_stay_as_they_are() -> None:
    kind, arrays = unify([encode_values([1]), encode_values([2])])
    assert kind == "int"
    assert [array.to_pylist() for array in arrays] == [[1], [2]]


def test_identities_tell_kinds_apart_but_not_the_order_of_dicts_and_sets() -> None:
    identity = plain.identity
    assert len({identity(value) for value in (1, 1.0, True, "1", b"1", None, (1,), [1])}) == 8
    assert identity(0.0) == identity(-0.0)
    assert identity(math.nan) == identity(-math.nan)
    assert identity({"a": 1, "b": 2}) == identity({"b": 2, "a": 1})
    assert identity({3, 1, 2}) == identity({2, 3, 1})
    assert identity([{"a": 1, "b": 2}]) == identity([{"b": 2, "a": 1}])
    assert identity((1, 2)) != identity([1, 2])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers()) | st.lists(st.floats(allow_nan=False)) | st.lists(st.text(max_size=5)))
def test_identities_of_one_kind_sort_as_the_values(values: list[Any]) -> None:
    assert sorted(values, key=plain.identity) == sorted(values)


def test_examples_that_msgpack_alone_would_forget() -> None:
    values = [
        (1, 2), {1}, {(1, 2): 3}, decimal.Decimal("1.50"), fractions.Fraction(1, 3), uuid.UUID(int=5), 2**80, 1j,
        datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    ]  # fmt: skip
    decoded = decode_values(*encode_values(values))
    assert [repr(value) for value in decoded] == [repr(value) for value in values]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (decimal.Decimal("1.5"), decimal.Decimal("1.50")),
        (decimal.Decimal("0"), decimal.Decimal("-0.00")),
        (decimal.Decimal("1E+3"), decimal.Decimal("1000")),
        (
            datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.UTC),
            datetime.datetime(2024, 1, 1, 13, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
        ),
        ((1, decimal.Decimal("2.0")), (1, decimal.Decimal("2"))),
    ],
)
def test_equal_values_have_one_identity_however_they_are_written(one: object, other: object) -> None:
    assert one == other
    assert plain.identity(one) == plain.identity(other)
    assert plain.identity(one) != plain.identity([one])
