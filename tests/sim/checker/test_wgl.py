"""The search: known anomalies are found and explained, everything possible is accepted, and two checkers agree."""

from __future__ import annotations

import random
from typing import Any

import pytest

from onerack.sim.checker import APPENDS, REGISTER, History, Model, Operation, check_linearizable, check_zones
from tests.sim.checker.histories import make_history, spoil


def op(call: int, end: int | None, kind: str, argument: Any = None, result: Any = None, key: str = "x") -> Operation:
    return Operation(f"c{call}", key, kind, argument, result, call, end)


GOOD: dict[str, tuple[Model, list[Operation]]] = {
    "nothing": (REGISTER, []),
    "a_read_may_overlap_its_write": (REGISTER, [op(0, 10, "write", 1), op(5, 6, "read", result=1)]),
    "or_miss_it": (REGISTER, [op(0, 10, "write", 1), op(5, 6, "read", result=None)]),
    "touching_is_overlapping": (REGISTER, [op(0, 10, "write", 1), op(10, 12, "read", result=None)]),
    "a_pending_write_may_take_effect_late": (
        REGISTER,
        [op(0, None, "write", 1), op(1, 2, "write", 2), op(3, 4, "read", result=2), op(5, 6, "read", result=1)],
    ),
    "or_never": (REGISTER, [op(0, None, "write", 1), op(3, 4, "read", result=None)]),
    "a_pending_delete_may_never_happen_though_nothing_was_seen_before_all_writes": (
        REGISTER,
        [
            op(0, 1, "read", result=None),
            op(2, 3, "write", 1),
            op(4, None, "write", None),
            op(5, 6, "read", result=1),
        ],
    ),
    "a_pending_cas_may_have_worked": (
        REGISTER,
        [op(0, 1, "write", 1), op(2, None, "cas", (1, 2)), op(3, 4, "read", result=2)],
    ),
    "a_pending_read_says_nothing": (REGISTER, [op(0, None, "read"), op(3, 4, "write", 1)]),
    "keys_are_apart": (
        REGISTER,
        [op(0, 1, "write", 1, key="x"), op(2, 3, "read", key="y"), op(4, 5, "read", result=1, key="x")],
    ),
    "the_same_value_again": (
        REGISTER,
        [op(0, 1, "write", 1), op(2, 9, "write", 1), op(3, 8, "write", 2), op(10, 11, "read", result=1)],
    ),
    "appends_in_any_order": (
        APPENDS,
        [op(0, 9, "append", "a"), op(1, 9, "append", "b"), op(10, 11, "read", result=("b", "a"))],
    ),
}
GOOD["a_pending_append_that_was_seen"] = (
    APPENDS,
    [
        op(0, None, "append", "a"),
        op(1, 2, "append", "b"),
        op(3, 4, "read", result=("b",)),
        op(5, 6, "read", result=("b", "a")),
    ],
)
GOOD["pending_appends_that_nobody_saw"] = (
    APPENDS,
    [*(op(at, None, "append", at) for at in range(40)), op(50, 51, "append", "b"), op(52, 53, "read", result=("b",))],
)
BAD: dict[str, tuple[Model, list[Operation]]] = {
    "stale_read": (
        REGISTER,
        [op(0, 1, "write", 1), op(2, 3, "write", 2), op(4, 5, "read", result=1), op(6, 7, "read", result=2)],
    ),
    "lost_write": (REGISTER, [op(0, 1, "write", 1), op(4, 5, "read", result=None)]),
    "two_reads_that_disagree": (
        REGISTER,
        [op(0, 20, "write", 1), op(1, 2, "read", result=1), op(3, 4, "read", result=None)],
    ),
    "from_the_future": (REGISTER, [op(0, 1, "read", result=1), op(2, 3, "write", 1)]),
    "two_locks": (REGISTER, [op(0, 5, "cas", (None, 1), True), op(1, 6, "cas", (None, 2), True)]),
    "a_cas_that_failed_without_cause": (REGISTER, [op(0, 1, "write", 1), op(2, 3, "cas", (1, 2), False)]),
    "lost_append": (
        APPENDS,
        [op(0, 1, "append", "a"), op(2, 3, "append", "b"), op(4, 5, "read", result=("b",))],
    ),
    "a_pending_append_that_vanished": (
        APPENDS,
        [op(0, None, "append", "a"), op(3, 4, "read", result=("a",)), op(5, 6, "read", result=())],
    ),
    "a_pending_append_that_was_seen_before_it_was_sent": (
        APPENDS,
        [op(0, 1, "read", result=("a",)), op(2, None, "append", "a")],
    ),
    "a_pending_write_that_was_seen_before_it_was_sent": (
        REGISTER,
        [op(0, 1, "read", result=7), op(2, None, "write", 7)],
    ),
    "doubled_append": (APPENDS, [op(0, 1, "append", "a"), op(4, 5, "read", result=("a", "a"))]),
}


@pytest.mark.parametrize("name", sorted(GOOD))
def test_what_is_possible_is_accepted(name: str) -> None:
    model, operations = GOOD[name]
    assert check_linearizable(operations, model).is_good


@pytest.mark.parametrize("name", sorted(BAD))
def test_what_is_impossible_is_found(name: str) -> None:
    model, operations = BAD[name]
    assert check_linearizable(operations, model).anomalies


def test_an_anomaly_names_key_window_and_witnesses() -> None:
    model, operations = BAD["stale_read"]
    noise = [op(at, at + 1, "write", at, key="quiet") for at in range(100, 200, 2)]
    (anomaly,) = check_linearizable([*operations, *noise], model).anomalies
    assert anomaly.key == "x"
    assert anomaly.window == (4, 5)
    assert "reaches 2" in str(anomaly)
    assert "[4, 5] c4 read x() -> 1" in anomaly.witnesses


def test_a_search_that_takes_too_long_is_unknown_and_not_good() -> None:
    history = make_history(random.Random(1), 200, keys=1)
    verdict = check_linearizable(history, REGISTER, steps_max=50)
    assert verdict.unknown == ("k0",)
    assert not verdict.is_good
    assert not verdict.anomalies


@pytest.mark.parametrize("part", range(4))
def test_search_and_zones_agree(part: int) -> None:
    """On small histories, where much overlaps, good and bad ones."""
    bad = 0
    for number in range(1000):
        chance = random.Random(part * 1000 + number)
        history = make_history(
            chance,
            chance.choice([6, 12, 40]),
            clients=chance.choice([2, 3, 8]),
            keys=chance.choice([1, 2]),
            pending=0.1,
        )
        for _ in range(chance.choice([0, 1, 1, 2])):
            history = spoil(chance, history)
        searched, compared = check_linearizable(history, REGISTER), check_zones(history)
        assert not searched.unknown
        assert [each.key for each in searched.anomalies] == [each.key for each in compared.anomalies], (part, number)
        bad += bool(searched.anomalies)
    assert 200 < bad < 800


def test_an_order_found_by_brute_force_is_found_by_the_search() -> None:
    """Against the definition itself: every permutation that agrees with time, for cas and writes of equal values."""
    good = 0
    for number in range(1000):
        chance = random.Random(number)
        history = [_any_operation(chance) for _ in range(5)]
        possible = _is_possible(None, history)
        assert check_linearizable(history, REGISTER).is_good == possible, number
        good += possible
    assert 100 < good < 900


def _any_operation(chance: random.Random) -> Operation:
    call = chance.randint(0, 12)
    end = None if chance.random() < 0.15 else call + chance.randint(0, 8)
    kind = chance.choice(["read", "write", "cas"])
    if kind == "read":
        return op(call, end, "read", result=chance.choice([None, 1, 2]))
    if kind == "write":
        return op(call, end, "write", chance.choice([None, 1, 2]))
    return op(call, end, "cas", (chance.choice([None, 1, 2]), chance.choice([1, 2])), chance.random() < 0.5)


def _is_possible(state: Any, left: list[Operation]) -> bool:
    if all(each.end is None for each in left):
        return True
    first_end = min(each.end for each in left if each.end is not None)
    for place, each in enumerate(left):
        rest = [*left[:place], *left[place + 1 :]]
        if each.call > first_end:
            continue
        if each.end is None and each.kind == "read":
            reached = state
        elif each.kind == "read":
            if each.result != state:
                continue
            reached = state
        elif each.kind == "write":
            reached = each.argument
        else:
            argument: Any = each.argument
            expected, value = argument
            if each.end is not None and each.result != (state == expected):
                continue
            reached = value if state == expected else state
        if _is_possible(reached, rest):
            return True
    return False


def test_a_long_history_takes_few_steps() -> None:
    """Steps, not seconds: the count is the same on every machine."""
    history = make_history(random.Random(7), 20_000)
    verdict = check_linearizable(history, REGISTER)
    assert verdict.is_good
    assert verdict.steps < 20 * len(history)


def test_one_crowded_key_takes_few_steps() -> None:
    history = make_history(random.Random(8), 3_000, clients=10, keys=1)
    verdict = check_linearizable(history, REGISTER)
    assert verdict.is_good
    assert verdict.steps < 1_000 * len(history)


def test_a_history_is_what_clients_wrote_down() -> None:
    history = History()
    first = history.begin("a", "x", "write", 1, 5)
    refused = history.begin("b", "x", "write", 2, 6)
    history.begin("c", "x", "write", 3, 7)
    history.end(first, None, 9)
    history.forget(refused)
    assert [(each.client, each.end) for each in history.operations()] == [("a", 9), ("c", None)]
    assert len(history) == 2
