"""Histories: what clients asked, what they were told, and when.

The idea: an operation is an interval. It begins with its call and ends with its answer; whatever it did, it did at one
moment between the two, if the system is linearizable. An operation without an answer may have happened at any time
after its call, or may happen still, or never.

The rules, on which all checkers rely:
1. One clock for all intervals (simulated time, or the monotonic clock of one host).
2. An operation that surely was not executed is forgotten; one of which nobody knows stays open, and whoever asked for
   it asks for nothing else under the same name, for a client does one thing at a time.
3. A retry of the same request is the same operation: it begins with the first attempt.
4. Two operations that touch (one ends in the moment in which another begins) count as concurrent: no false alarms.

Source: Herlihy & Wing, Linearizability: A Correctness Condition for Concurrent Objects, 1990.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import msgspec


class Operation(msgspec.Struct, frozen=True, gc=False):
    """One request of one client."""

    client: str
    key: str
    kind: str
    """What the model of the checker understands: `write`, `read`, `cas`, `append`."""
    argument: Hashable
    result: Any
    call: int
    end: int | None
    """None: nobody knows what became of it."""

    def __str__(self) -> str:
        asked = "" if self.argument is None else repr(self.argument)
        end = "?" if self.end is None else self.end
        answer = "?" if self.end is None else repr(self.result)
        return f"[{self.call}, {end}] {self.client} {self.kind} {self.key}({asked}) -> {answer}"


class Anomaly(msgspec.Struct, frozen=True):
    """Something that cannot have been: which property, where, between which moments, and what was seen there."""

    name: str
    key: str
    window: tuple[int, int]
    detail: str
    witnesses: tuple[str, ...] = ()
    """The operations of the window, as text."""

    def __str__(self) -> str:
        first, last = self.window
        lines = "".join(f"\n    {witness}" for witness in self.witnesses)
        return f"{self.name}: key {self.key!r}, between {first} and {last}: {self.detail}{lines}"


class Verdict(msgspec.Struct, frozen=True):
    """What a checker has to say about a history."""

    anomalies: tuple[Anomaly, ...] = ()
    unknown: tuple[str, ...] = ()
    """Keys whose search was given up at the limit of its steps; counted apart, never taken for good ones."""
    steps: int = 0

    @property
    def is_good(self) -> bool:
        return not self.anomalies and not self.unknown

    def __str__(self) -> str:
        if self.anomalies:
            return "\n".join(map(str, self.anomalies))
        return f"unknown: {', '.join(self.unknown)}" if self.unknown else "linearizable"


class History:
    """Where clients write down what they do."""

    def __init__(self) -> None:
        self._open: dict[int, Operation] = {}
        self._ended: list[Operation] = []
        self._begun = 0

    def __len__(self) -> int:
        return len(self._ended) + len(self._open)

    def begin(self, client: str, key: str, kind: str, argument: Hashable, now: int) -> int:
        """The number by which the operation is ended. Requires: the client has no open operation that may go on."""
        self._begun += 1
        self._open[self._begun] = Operation(client, key, kind, argument, None, now, None)
        return self._begun

    def end(self, number: int, result: Any, now: int) -> Operation:
        """The answer has come."""
        operation = self._open.pop(number)
        assert now >= operation.call, f"{operation} ends before it begins, at {now}"
        ended = msgspec.structs.replace(operation, result=result, end=now)
        self._ended.append(ended)
        return ended

    def forget(self, number: int) -> None:
        """It is certain that the operation was not executed, and never will be."""
        del self._open[number]

    def operations(self) -> list[Operation]:
        """All of them, by the time of their call."""
        return sorted([*self._ended, *self._open.values()], key=lambda operation: operation.call)


def by_key(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    """Linearizability is local: a history is linearizable if that of each key is. Keys are sorted."""
    found: dict[str, list[Operation]] = {}
    for operation in operations:
        found.setdefault(operation.key, []).append(operation)
    return dict(sorted(found.items()))


def window_of(operations: Iterable[Operation], around: Operation) -> list[Operation]:
    """The operations that overlap `around`, itself included, by time of call."""
    last = around.call if around.end is None else around.end
    found = [each for each in operations if each.call <= last and (each.end is None or each.end >= around.call)]
    return sorted(found, key=lambda each: each.call)
