"""The builtin reducers: what `reduce = "sum"` and its sisters mean, in plain Python.

    sum count min max mean first topk:N     fold: one small state for each key, made on the map side already
    list set distinct                       gather: all values of a key must meet

The idea: this file is the specification. The loops here run whenever values are not plain numbers; the native paths
(shuffle/fold.py) must give the same results bit for bit, and the tests compare them.

The rule: the meaning is Python's: sums of ints never overflow, floats are added in (map index, emission) order (first
within a map task, then the tasks' sums), `min`, `max` and `topk` work on whatever can be compared and keep the first
of equals. Where Python's answer would hang on the order of comparisons it is fixed: one NaN makes a min or max NaN,
and `topk` counts NaN as less than everything. `set` and `distinct` tell values apart as keys are told apart: 1, 1.0
and True are three values; 0.0 and -0.0 are one, and so are all NaNs.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from onerack.errors import IncomparableValues, UsageError
from onerack.mapreduce import plain

Table = dict[Any, Any]
"""Key -> state. Keys are Python objects on the map side, canonical bytes on the reduce side."""
Show = Callable[[Any], str]
_MISSING: Final = object()


def _incomparable(verb: str, key: str, left: object, right: object) -> IncomparableValues:
    return IncomparableValues(
        f"cannot {verb} values of types {type(left).__name__} and {type(right).__name__} of the key {key}; "
        "emit values of one type, or write reduce as a function"
    )


class Reducer:
    """One builtin reducer. Equal to any other of the same text."""

    gathers = False
    """Whether all values of a key must come together; then there are no states."""
    state_is_value = True
    """Whether a state is a value already, with nothing to finish."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reducer) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"<reducer {self.text}>"

    def add_values(self, table: Table, keys: Sequence[Any], values: Sequence[Any], show: Show = repr) -> None:
        """Folds values, in order, into the states of their keys."""
        raise NotImplementedError(self.text)

    def add_states(self, table: Table, keys: Sequence[Any], states: Sequence[Any], show: Show = repr) -> None:
        """Folds later tasks' states into the table."""
        self.add_values(table, keys, states, show)

    def rows(self, table: Table) -> tuple[list[Any], list[Any]]:
        """The states as rows that `add_states` takes; a key may have several."""
        return list(table), list(table.values())

    def finish(self, state: Any) -> Any:
        """The result, from the last state."""
        return state

    def reduce(self, values: Iterable[Any]) -> Any:
        """The result for the values of one key, at least one, from one map task."""
        table: Table = {}
        held = list(values)
        self.add_values(table, [None] * len(held), held)
        return self.finish(table[None])


class Sum(Reducer):
    def add_values(self, table: Table, keys: Sequence[Any], values: Sequence[Any], show: Show = repr) -> None:
        get = table.get
        try:
            for key, value in zip(keys, values, strict=True):
                table[key] = get(key, 0) + value
        except TypeError:
            raise _incomparable("add", show(key), get(key, 0), value) from None


class Count(Reducer):
    def add_values(self, table: Table, keys: Sequence[Any], values: Sequence[Any], show: Show = repr) -> None:
        counts: Counter[Any] = Counter(keys)
        if not table:
            table.update(counts)
        else:
            self.add_states(table, list(counts), list(counts.values()))

    def add_states(self, table: Table, keys: Sequence[Any], states: Sequence[Any], show: Show = repr) -> None:
        get = table.get
        for key, state in zip(keys, states, strict=True):
            table[key] = get(key, 0) + state


class Min(Reducer):
    def add_values(self, table: Table, keys: Sequence[Any], values: Sequence[Any], show: Show = repr) -> None:
        get = table.get
        try:
            for key, value in zip(keys, values, strict=True):
                best = get(key, _MISSING)
                if best is _MISSING or value < best or value != value:
                    table[key] = value
        except TypeError:
            raise _incomparable("compare", show(key), best, value) from None


class Max(Reducer):
    def add_values(self, table: Table, keys: Sequence[Any], values: Sequence[Any], show: Show = repr) -> None:
        get = table.get
        try:
            for key, value in zip(keys, values, strict=True):
                best = get(key, _MISSING)
                if best is _MISSING or value > best or value != value:
                    table[key] = value
        except TypeError:
            raise _incomparable("compare", show(key), best, value) from None


class Mean(Reducer):
    """State: [sum, number of values], a list because that is what msgpack remembers."""

    state_is_value = False

    def add_values(self, table: Table, keys: Sequence[Any], values: Sequence[Any], show: Show = repr) -> None:
        get = table.get
        state: Any = None
        try:
            for key, value in zip(keys, values, strict=True):
                state = get(key)
                if state is None:
                    table[key] = [0 + value, 1]
                else:
                    state[0] += value
                    state[1] += 1
        except TypeError:
            raise _incomparable("add", show(key), state[0] if state else 0, value) from None

    def add_states(self, table: Table, keys: Sequence[Any], states: Sequence[Any], show: Show = repr) -> None:
        get = table.get
        state: Any = None
        try:
            for key, later in zip(keys, states, strict=True):
                state = get(key)
                if state is None:
                    table[key] = later
                else:
                    state[0] += later[0]
                    state[1] += later[1]
        except TypeError:
            raise _incomparable("add", show(key), state[0], later[0]) from None

    def finish(self, state: Any) -> Any:
        return state[0] / state[1]


class First(Reducer):
    def add_values(self, table: Table, keys: Sequence[Any], values: Sequence[Any], show: Show = repr) -> None:
        setdefault = table.setdefault
        for key, value in zip(keys, values, strict=True):
            setdefault(key, value)


class TopK(Reducer):
    """State: up to twice N values and some, in order of arrival behind those that were sorted before."""

    state_is_value = False
    _SPARE: Final = 64

    def __init__(self, text: str, count: int) -> None:
        super().__init__(text)
        self.count = count
        self.held_max = 2 * count + self._SPARE
        """No more values than this are ever held for one key."""

    def add_values(self, table: Table, keys: Sequence[Any], values: Sequence[Any], show: Show = repr) -> None:
        limit = self.held_max
        get = table.get
        for key, value in zip(keys, values, strict=True):
            held = get(key)
            if held is None:
                table[key] = [value]
                continue
            held.append(value)
            if len(held) > limit:
                held[:] = self._largest(held, show(key))

    def _largest(self, values: list[Any], key: str) -> list[Any]:
        try:
            numbers = [value for value in values if value == value]
            found = heapq.nlargest(self.count, numbers)
        except TypeError:
            first = values[0]
            other = next((value for value in values if type(value) is not type(first)), first)
            raise _incomparable("compare", key, first, other) from None
        if len(found) < self.count and len(numbers) < len(values):
            found += [value for value in values if value != value][: self.count - len(found)]
        return found

    def rows(self, table: Table) -> tuple[list[Any], list[Any]]:
        largest = {key: self._largest(values, repr(key)) for key, values in table.items()}
        keys = [key for key, values in largest.items() for _ in values]
        return keys, [value for values in largest.values() for value in values]

    def finish(self, state: Any) -> Any:
        return self._largest(state, "of a partition")


class Gather(Reducer):
    """All values of a key meet; `reduce` gets them in (map index, emission) order, or in that of the sort key."""

    gathers = True
    wants_distinct = False
    """Whether rows are ordered by the value's identity, and equal ones dropped as early as possible."""


class ListOf(Gather):
    def reduce(self, values: Iterable[Any]) -> Any:
        return list(values)


class SetOf(Gather):
    wants_distinct = True

    def reduce(self, values: Iterable[Any]) -> Any:
        distinct = list({plain.identity(value): value for value in reversed(list(values))}.values())
        return self.arrange(sorted(distinct, key=plain.identity))

    @staticmethod
    def arrange(values: list[Any]) -> list[Any]:
        """Distinct values in order of identity, put into Python's own order where there is one."""
        try:
            return values if any(value != value for value in values) else sorted(values)
        except TypeError:
            return values


class Distinct(Gather):
    wants_distinct = True

    def reduce(self, values: Iterable[Any]) -> Any:
        return len({plain.identity(value) for value in values})


_PLAIN: Final[dict[str, type[Reducer]]] = {
    "sum": Sum,
    "count": Count,
    "min": Min,
    "max": Max,
    "mean": Mean,
    "first": First,
    "list": ListOf,
    "set": SetOf,
    "distinct": Distinct,
}
NAMES: Final = (*_PLAIN, "topk:N")


def parse_reducer(text: str) -> Reducer:
    """The reducer that `text` names.

    Raises: UsageError: no such reducer; the message lists all.
    """
    if text in _PLAIN:
        return _PLAIN[text](text)
    name, colon, count = text.partition(":")
    if name == "topk" and colon and count.isascii() and count.isdigit() and int(count) > 0:
        return TopK(text, int(count))
    raise UsageError(
        f"there is no reducer {text!r}; the builtin ones are {', '.join(NAMES)} (N a number from 1), "
        "or give a function reduce(key, values)"
    )
