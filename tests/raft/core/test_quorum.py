"""Quorums: majorities, and both of them in the joint phase."""

from __future__ import annotations

from itertools import product

import pytest

from onerack.raft.core.quorum import all_voters, reached, verdict
from onerack.raft.messages import Configuration


def voters(count: int) -> tuple[str, ...]:
    return tuple(f"n{number}" for number in range(1, count + 1))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((5,), 5),
        ((5, 3), 3),
        ((5, 3, 1), 3),
        ((5, 5, 1), 5),
        ((9, 7, 5, 3), 5),
        ((9, 7, 5, 3, 1), 5),
        ((0, 0, 0, 9, 9), 0),
    ],
)
def test_how_far_a_majority_has_come(values: tuple[int, ...], expected: int) -> None:
    of = dict(zip(voters(len(values)), values, strict=True))
    assert reached(Configuration(voters=voters(len(values))), of.__getitem__, 0) == expected


def test_how_far_is_what_more_than_half_has_whatever_the_numbers() -> None:
    for values in product(range(3), repeat=4):
        of = dict(zip(voters(4), values, strict=True))
        far = reached(Configuration(voters=voters(4)), of.__getitem__, 0)
        assert sum(value >= far for value in values) >= 3
        assert sum(value >= far + 1 for value in values) < 3


def test_the_joint_phase_is_as_far_as_the_slower_majority() -> None:
    of = {"a": 9, "b": 9, "c": 0, "d": 4, "e": 4}
    joint = Configuration(voters=("a", "d", "e"), outgoing=("a", "b", "c"))
    assert reached(joint, of.__getitem__, 0) == 4


def test_nobody_reaches_nothing() -> None:
    assert reached(Configuration(), lambda node: 5, 0) == 0
    assert verdict(Configuration(), {"a": True}) is False


@pytest.mark.parametrize(
    ("granted", "refused", "expected"),
    [(2, 0, True), (1, 1, None), (1, 0, None), (0, 2, False), (1, 2, False), (3, 0, True), (0, 0, None)],
)
def test_votes_of_three(granted: int, refused: int, expected: bool | None) -> None:
    votes = {f"n{number}": number <= granted for number in range(1, granted + refused + 1)}
    assert verdict(Configuration(voters=voters(3)), votes) is expected


def test_votes_in_the_joint_phase() -> None:
    joint = Configuration(voters=("a", "d", "e"), outgoing=("a", "b", "c"))
    assert verdict(joint, {"a": True, "b": True}) is None
    assert verdict(joint, {"a": True, "b": True, "d": True}) is True
    assert verdict(joint, {"a": True, "b": False, "c": False, "d": True}) is False


def test_votes_of_strangers_do_not_count() -> None:
    assert verdict(Configuration(voters=voters(3)), {"n1": True, "x": True, "y": True}) is None


def test_all_voters() -> None:
    assert all_voters(Configuration(voters=("c", "a"), outgoing=("b", "a"), learners=("l",))) == ("a", "b", "c")
