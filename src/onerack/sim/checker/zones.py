"""The comparison of zones: linearizability of registers whose written values are unique, in n log n.

The idea: who reads a value is bound to the one write of it. The value's zone is the interval from the first return to
the last call among them all. If it runs forwards (something had ended before something else began) the register held
the value throughout the zone, so two such zones must not overlap; if it runs backwards (all of them overlap in one
moment) the value needs but one moment, which must not lie entirely inside another value's forward zone.

The rule: exact for its kind of history, and written without a look at the search in wgl.py, so that the two can be
tried against each other.

Source: Gibbons & Korach, Testing Shared Memories, SIAM Journal on Computing 26(4), 1997, section 4 (read mapping).
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator, Sequence

from onerack.sim.checker.history import Anomaly, Operation, Verdict, by_key


class _Zone:
    """Of one value: first return and last call, and who wrote and read it."""

    __slots__ = ("first_return", "last_call", "operations", "value", "write_call")

    def __init__(self, value: Hashable, call: float, end: float) -> None:
        self.value = value
        self.write_call = self.last_call = call
        self.first_return = end
        self.operations: list[Operation] = []

    def add_read(self, operation: Operation) -> None:
        assert operation.end is not None
        self.first_return = min(self.first_return, operation.end)
        self.last_call = max(self.last_call, operation.call)
        self.operations.append(operation)

    @property
    def is_forward(self) -> bool:
        return self.first_return < self.last_call


def check_zones(operations: Iterable[Operation], initial: Hashable = None) -> Verdict:
    """Requires: only `write` and `read`; no value is written twice to a key, nor is `initial`."""
    anomalies: list[Anomaly] = []
    for key, mine in by_key(operations).items():
        anomaly = _check_key(key, mine, initial)
        if anomaly is not None:
            anomalies.append(anomaly)
    return Verdict(tuple(anomalies))


def _check_key(key: str, operations: Sequence[Operation], initial: Hashable) -> Anomaly | None:
    zones = _zones_of_writes(operations, initial)
    for operation in operations:
        if operation.kind != "read" or operation.end is None:
            continue
        zone = zones.get(operation.result)
        if zone is None:
            return _anomaly(key, "a value was read that nobody had written", operation)
        if operation.end < zone.write_call:
            return _anomaly(key, "a value was read before its write began", *zone.operations, operation)
        zone.add_read(operation)
    return next(_conflicts(key, list(zones.values())), None)


def _zones_of_writes(operations: Sequence[Operation], initial: Hashable) -> dict[Hashable, _Zone]:
    """The initial value was written before everything. A write without return ends at no time at all, so that it
    has no zone unless somebody reads its value."""
    zones = {initial: _Zone(initial, -math.inf, -math.inf)}
    for operation in operations:
        if operation.kind == "write":
            value = operation.argument
            assert value not in zones, f"{value!r} is written twice to {operation.key}"
            zone = zones[value] = _Zone(value, operation.call, math.inf if operation.end is None else operation.end)
            zone.operations.append(operation)
        else:
            assert operation.kind == "read", operation.kind
    return zones


def _conflicts(key: str, zones: list[_Zone]) -> Iterator[Anomaly]:
    forward = sorted((zone for zone in zones if zone.is_forward), key=lambda zone: zone.first_return)
    for earlier, later in itertools.pairwise(forward):
        # Before the first conflict zones are disjoint, so comparing neighbours is enough.
        if later.first_return < earlier.last_call:
            detail = f"the register held {earlier.value!r} and {later.value!r} at the same time"
            yield _anomaly(key, detail, *earlier.operations, *later.operations)
            return
    begins = [zone.first_return for zone in forward]
    for zone in zones:
        if zone.is_forward or not zone.operations:
            continue
        place = bisect_left(begins, zone.last_call) - 1
        if place >= 0 and zone.first_return < forward[place].last_call:
            around = forward[place]
            detail = f"{zone.value!r} must have come and gone while the register held {around.value!r}"
            yield _anomaly(key, detail, *around.operations, *zone.operations)


def _anomaly(key: str, detail: str, *operations: Operation) -> Anomaly:
    shown = sorted(operations, key=lambda each: each.call)
    first = shown[0].call
    last = max(each.call if each.end is None else each.end for each in shown)
    return Anomaly("linearizability", key, (first, last), detail, tuple(str(each) for each in shown[:24]))
