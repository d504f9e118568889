"""Zones: the four ways in which a register can be wrong, each found by its own rule."""

from __future__ import annotations

import random

import pytest

from onerack.sim.checker import Operation, check_zones
from tests.sim.checker.histories import make_history


def write(value: int, call: int, end: int | None) -> Operation:
    return Operation(f"w{value}", "x", "write", value, None, call, end)


def read(value: int | None, call: int, end: int) -> Operation:
    return Operation(f"r{call}", "x", "read", None, value, call, end)


BAD = {
    "at the same time": [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5), read(2, 6, 7)],
    "come and gone": [write(1, 0, 1), write(2, 2, 5), read(2, 3, 4), read(1, 6, 7)],
    "nobody had written": [write(1, 0, 1), read(9, 2, 3)],
    "before its write began": [read(1, 0, 1), write(1, 2, 3)],
    "held None and 1": [write(1, 0, 1), read(1, 2, 3), read(None, 4, 5)],
}


@pytest.mark.parametrize("detail", sorted(BAD))
def test_each_rule_finds_its_anomaly(detail: str) -> None:
    (anomaly,) = check_zones(BAD[detail]).anomalies
    assert detail in anomaly.detail
    assert anomaly.key == "x"
    assert anomaly.witnesses


def test_touching_zones_are_fine() -> None:
    assert check_zones([write(1, 0, 1), read(1, 3, 4), write(2, 2, 3), read(2, 5, 6)]).is_good
    assert check_zones([write(1, 0, 4), read(1, 4, 5), write(2, 5, 8)]).is_good


def test_a_pending_write_that_nobody_read_is_no_zone() -> None:
    assert check_zones([write(1, 0, 1), write(2, 2, None), read(1, 3, 4), read(1, 50, 51)]).is_good


def test_a_pending_write_that_somebody_read_is_one() -> None:
    history = [write(1, 0, 1), write(2, 2, None), read(2, 3, 4), read(1, 50, 51)]
    assert not check_zones(history).is_good


def test_honest_registers_are_linearizable() -> None:
    assert check_zones(make_history(random.Random(3), 50_000, pending=0.05)).is_good
