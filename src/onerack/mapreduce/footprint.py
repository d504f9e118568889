"""Footprint: about how much memory Python objects take.

The idea: whoever holds objects back must know when they are too much, and their number says nothing: one value is an
int, the next a document. `sys.getsizeof` sees a tuple but not the strings in it, so whatever contains others is
looked into. Of many objects a few, evenly spread, stand for all.

The rule: the answer follows from the objects alone, so that a repeated task holds back, and spills, at the same rows
(only which members of a set stand for it may differ); and it costs hardly more for a million objects than for some.
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import getsizeof
from typing import Any, Final

_LEAVES: Final = frozenset((int, float, bool, str, bytes, type(None)))
_SOME: Final = 16
_LOOKED_INTO_MAX: Final = 64
"""So much is looked at for one object, the outermost first; whatever lies deeper is passed over."""


def footprint(objects: Sequence[Any], looks: int = _SOME) -> int:
    """The memory of all `objects`, of which about `looks` are looked at; their sequence itself is not counted."""
    chosen = _some(objects, looks)
    if _LEAVES.issuperset(map(type, chosen)):
        total: float = sum(map(getsizeof, chosen))
    else:
        total = sum(map(_of_one, chosen))
    return int(total * len(objects) / max(len(chosen), 1))


def _some(objects: Sequence[Any], looks: int) -> Sequence[Any]:
    return objects if len(objects) <= looks else objects[:: len(objects) // looks]


def _of_one(value: Any) -> float:
    total = 0.0
    reached: list[tuple[Any, float]] = [(value, 1.0)]
    for each, times in reached:  # It grows while it is walked.
        total += times * getsizeof(each, 0)
        if type(each) not in _LEAVES and len(reached) < _LOOKED_INTO_MAX:
            inside = _inside(each)
            chosen = _some(inside, _SOME)
            reached += [(inner, times * len(inside) / len(chosen)) for inner in chosen]
    return total


def _inside(value: Any) -> Sequence[Any]:
    if isinstance(value, (tuple, list)):
        return value
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, (set, frozenset)):
        return list(value)
    attributes = getattr(value, "__dict__", None)  # Of an object that travels as a pickle.
    return list(attributes.values()) if type(attributes) is dict else ()
