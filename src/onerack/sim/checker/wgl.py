"""The search for an order that explains a history (Wing & Gong, with Lowe's improvements).

The idea: walk through calls and returns in order of time. At a call, try whether the operation may take effect now; if
so take it out of the list, and begin again at its head. At the return of an operation that has not taken effect, some
earlier choice was wrong: undo the last one and go on behind it. What was tried once, the same operations done and the
same state reached, is not tried again.

Three things make it fast enough to be used on every run:
- Keys are searched apart, for linearizability is local.
- The set of operations done is remembered as the XOR of a random number for each; two sets may then be taken for one,
  which can only hide an explanation. So every alarm is searched again with exact sets before it is believed.
- An operation that can never change the state (a read, a compare that failed) is done as soon as it fits, and that
  choice is never undone: in any explanation in which it comes later it can be moved to here.

The rule: a history is good, or bad with a reason, or unknown when the search took `steps_max` steps; never wrong.

Source: Wing & Gong, Testing and Verifying Concurrent Objects, 1993; Lowe, Testing for Linearizability, 2016.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from msgspec.structs import replace

from onerack.sim.checker.history import Anomaly, Operation, Verdict, by_key, window_of

STEPS_MAX: Final = 30_000_000
REFUSED: Final = object()
"""What a model says when an operation cannot have had this result in this state."""


class Model(Protocol):
    """What one key of the system should be, if there were only one of it and one client at a time."""

    initial: Hashable

    def step(self, state: Any, operation: Operation) -> Any:
        """The next state, or REFUSED. An operation whose result nobody knows is accepted whatever it did."""

    def is_idle(self, operation: Operation) -> bool:
        """Whether the operation, with the result that it had, leaves every state as it was."""

    def settle(self, operations: Sequence[Operation]) -> Sequence[Operation]:
        """Says of operations without return what follows from what others saw: see `settled`."""


_NOTHING: Final = object()


def settled(
    operations: Sequence[Operation], shown_until: dict[Hashable, int], initial: Hashable = _NOTHING
) -> list[Operation]:
    """Changes whose answer was lost double the search each, so it is worth while to think about them first. Whose
    value somebody saw had taken effect when that answer came; whose value nobody ever saw may be left out, for the
    next change hid it. Who sees the `initial` value may have seen what was there before all changes.

    Requires: whoever sees another value sees which change made it.
    """
    found = []
    for each in operations:
        if each.end is not None or (each.argument == initial and initial in shown_until):
            found.append(each)
        elif each.argument in shown_until:
            # A value that was seen before it was written will be found by the search.
            found.append(replace(each, end=max(each.call, shown_until[each.argument])))
    return found


class Register:
    """One value. Kinds: `write` (value), `read`, `cas` ((expected, value), result True or False)."""

    initial: Hashable = None

    def step(self, state: Any, operation: Operation) -> Any:
        kind = operation.kind
        if kind == "write":
            return operation.argument
        if kind == "read":
            return state if operation.end is None or operation.result == state else REFUSED
        assert kind == "cas", kind
        argument: Any = operation.argument
        expected, value = argument
        if operation.end is not None and (state == expected) is not operation.result:
            return REFUSED
        return value if state == expected else state

    def is_idle(self, operation: Operation) -> bool:
        failed = operation.kind == "cas" and operation.result is False and operation.end is not None
        return operation.kind == "read" or failed

    def settle(self, operations: Sequence[Operation]) -> Sequence[Operation]:
        written = [each.argument for each in operations if each.kind == "write"]
        if any(each.kind == "cas" for each in operations) or len(set(written)) < len(written):
            return operations
        shown_until: dict[Hashable, int] = {}
        for each in operations:
            if each.kind == "read" and each.end is not None:
                shown_until[each.result] = min(each.end, shown_until.get(each.result, each.end))
        return settled(operations, shown_until, self.initial)


class Appends:
    """A list. Kinds: `append` (value), `read` (result: all values, as a tuple)."""

    initial: Hashable = ()

    def step(self, state: Any, operation: Operation) -> Any:
        if operation.kind == "append":
            return (*state, operation.argument)
        assert operation.kind == "read", operation.kind
        return state if operation.end is None or operation.result == state else REFUSED

    def is_idle(self, operation: Operation) -> bool:
        return operation.kind == "read"

    def settle(self, operations: Sequence[Operation]) -> Sequence[Operation]:
        appended = [each.argument for each in operations if each.kind == "append"]
        if len(set(appended)) < len(appended):
            return operations
        shown_until: dict[Hashable, int] = {}
        for each in operations:
            if each.kind == "read" and each.end is not None:
                for value in each.result:
                    shown_until[value] = min(each.end, shown_until.get(value, each.end))
        return settled(operations, shown_until)


REGISTER: Final = Register()
APPENDS: Final = Appends()


def check_linearizable(operations: Iterable[Operation], model: Model, steps_max: int = STEPS_MAX) -> Verdict:
    """Whether each key behaves as the model, for some order of its operations that agrees with time."""
    anomalies: list[Anomaly] = []
    unknown: list[str] = []
    steps = 0
    for key, mine in by_key(operations).items():
        found = _check_key(mine, model, steps_max - steps)
        steps += found.steps
        if found.is_unknown:
            unknown.append(key)
        elif found.stuck is not None:
            anomalies.append(_explain(key, mine, found))
    return Verdict(tuple(anomalies), tuple(unknown), steps)


class _Found(NamedTuple):
    """`stuck`: of all tries the one that came furthest could not place this operation; None: there is an order."""

    steps: int
    stuck: Operation | None = None
    state: Any = None
    done: int = 0
    is_unknown: bool = False


def _check_key(operations: Sequence[Operation], model: Model, steps_max: int) -> _Found:
    # A read without an answer says nothing and changes nothing.
    wanted = [each for each in operations if each.end is not None or not model.is_idle(each)]
    wanted = list(model.settle(wanted))
    chance = random.Random(len(wanted))  # noqa: S311 - any numbers will do, the same every time
    found = _search(wanted, model, [chance.getrandbits(62) for _ in wanted], steps_max)
    if found.stuck is None or found.is_unknown:
        return found
    exact = _search(wanted, model, [1 << number for number in range(len(wanted))], steps_max)
    return exact._replace(steps=exact.steps + found.steps)


class _Line:
    """Calls and returns in order of time, as a list from which one can be taken out and put back. Place 0 is both
    ends. Operations without return are not in it."""

    __slots__ = ("after", "before", "returns", "who")

    def __init__(self, operations: Sequence[Operation]) -> None:
        # At equal times calls come before returns.
        moments = [(each.call, 0, number) for number, each in enumerate(operations) if each.end is not None]
        moments += [(each.end, 1, number) for number, each in enumerate(operations) if each.end is not None]
        moments.sort()
        size = len(moments) + 1
        self.after = [*range(1, size), 0]
        self.before = [size - 1, *range(size - 1)]
        self.who = [-1, *(number for _, _, number in moments)]
        """The operation of each place."""
        self.returns = [0] * size
        """Of a call: the place of its return. Of a return: -1."""
        calls = [0] * len(operations)
        for place, (_, is_return, number) in enumerate(moments, 1):
            if is_return:
                self.returns[calls[number]] = place
                self.returns[place] = -1
            else:
                calls[number] = place

    def put_back(self, call: int) -> None:
        """What was taken out last must be put back first."""
        after, before = self.after, self.before
        for place in (self.returns[call], call):
            after[before[place]] = before[after[place]] = place

    def first_return(self) -> int:
        at: int = self.after[0]
        while self.returns[at] >= 0:
            at = self.after[at]
        return at


Choice = tuple[int, int, Any]
"""Its place, or -1 minus its number among those without an end; and what was done and reached before it."""


def _undo_last_choice(
    line: _Line, undo: list[Choice], is_idle: Sequence[bool], used: list[bool]
) -> tuple[int, int, Any, int] | None:
    """The last choice that could have been another one, and how many operations were put back; None: there is none."""
    put_back = 0
    while undo:
        at, done, state = undo.pop()
        if at < 0:
            used[-1 - at] = False
            return at, done, state, put_back
        line.put_back(at)
        put_back += 1
        if not is_idle[line.who[at]]:
            return at, done, state, put_back
    return None


def _search(operations: Sequence[Operation], model: Model, marks: Sequence[int], steps_max: int) -> _Found:
    """One loop, written for speed: the lists of `_Line` are changed in place here.

    What nobody knows the end of is tried last, when nothing else fits: most of it is not needed for an explanation.
    """
    line = _Line(operations)
    after, before, returns, who = line.after, line.before, line.returns, line.who
    step, is_idle = model.step, [model.is_idle(each) for each in operations]
    late = sorted((each.call, number) for number, each in enumerate(operations) if each.end is None)
    used = [False] * len(late)
    next_late = 0
    left = len(operations) - len(late)
    state: Any = model.initial
    done, steps = 0, 0
    seen: set[tuple[int, Any]] = set()
    undo: list[Choice] = []
    deepest = _Found(0, done=-1)
    at = after[0]
    while left:
        steps += 1
        if steps > steps_max:
            return _Found(steps, is_unknown=True)
        back = returns[at]
        if back >= 0:
            number, choice = who[at], at
        elif next_late < len(late) and late[next_late][0] <= operations[who[at]].end:
            number, choice = late[next_late][1], -1 - next_late
            next_late += 1
            if used[-1 - choice]:
                continue
        else:
            if len(undo) > deepest.done:
                deepest = _Found(0, operations[who[at]], state, len(undo))
            undone = _undo_last_choice(line, undo, is_idle, used)
            if undone is None:
                return deepest._replace(steps=steps)
            at, done, state, put_back = undone
            left += put_back
            # The calls before a return have been tried; then it goes on with the next of those without an end.
            next_late, at = (-at, line.first_return()) if at < 0 else (0, after[at])
            continue
        reached = step(state, operations[number])
        if reached is not REFUSED:
            mark = done ^ marks[number]
            if (mark, reached) not in seen:
                seen.add((mark, reached))
                undo.append((choice, done, state))
                done, state = mark, reached
                if choice < 0:
                    used[-1 - choice] = True
                else:
                    left -= 1
                    after[before[at]], before[after[at]] = after[at], before[at]
                    after[before[back]], before[after[back]] = after[back], before[back]
                next_late, at = 0, after[0]
                continue
        if choice >= 0:
            at = after[at]
    return _Found(steps)


def _explain(key: str, operations: Sequence[Operation], found: _Found) -> Anomaly:
    stuck = found.stuck
    assert stuck is not None
    assert stuck.end is not None
    detail = f"no order of all operations explains {stuck}; the best one has {found.done} before it and reaches "
    witnesses = [str(each) for each in window_of(operations, stuck)]
    return Anomaly(
        "linearizability", key, (stuck.call, stuck.end), detail + repr(found.state), tuple(_shortened(witnesses))
    )


def _shortened(lines: Sequence[str], most: int = 24) -> Sequence[str]:
    return lines if len(lines) <= most else [*lines[:most], f"... and {len(lines) - most} more"]
