"""The user's functions, brought to one form each.

The idea: users write generators, plain functions, functions that return None or a dict; the engine wants a callable
whose result `itertools.chain` can consume from C. What a function is, is asked once, when the job is loaded. A
generator function goes to the engine as it is, without a Python frame around it; every other form is wrapped.

The rule: nothing a user's function does can end a loop of the engine silently. A `StopIteration` that leaves a plain
function would look to `map()` like the end of the input, so the wrappers turn it into an error; inside a generator
Python does that itself (PEP 479).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import GeneratorType
from typing import Any

from onerack.errors import BadPair, BadPartition, UsageError

Pairs = Iterable[Any]
MapCall = Callable[..., Pairs]
ReduceCall = Callable[[Any, Iterator[Any]], Pairs]


def is_generator_function(function: Any) -> bool:
    """Whether calling it only makes a generator; also for callable objects and partial functions."""
    if inspect.isgeneratorfunction(function):
        return True
    return callable(function) and inspect.isgeneratorfunction(type(function).__call__)


def check_call(owner: str, name: str, function: Any, *parameters: str) -> None:
    """Raises `UsageError` unless `function` can be called with `parameters`."""
    if not callable(function):
        raise UsageError(f"{owner}: {name} must be a function, and is {function!r}")
    forms = (function, type(function).__call__)
    if any(inspect.iscoroutinefunction(form) or inspect.isasyncgenfunction(form) for form in forms):
        raise UsageError(f"{owner}: {name} is `async`; the engine calls plain functions and generators only")
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return  # Functions written in C may not say what they take.
    try:
        signature.bind(*parameters)
    except TypeError:
        wanted = f"({', '.join(parameters)})"
        hint = "" if len(signature.parameters) >= len(parameters) else "; in a class, `self` comes before these"
        raise UsageError(f"{owner}: {name} must take {wanted}, and takes {signature}{hint}") from None


def pairs_of(result: Any, name: str) -> Pairs:
    """The pairs of what a plain function returned. The engine's loop checks the pairs themselves."""
    if result is None:
        return ()
    if isinstance(result, dict):
        return result.items()
    if hasattr(result, "num_rows"):  # `map_batch` may return one pyarrow.RecordBatch or Table.
        return (result,)
    if isinstance(result, (str, bytes)) or not hasattr(result, "__iter__"):
        raise BadPair(
            f"{name} returned {shorten(result)}; it must yield (key, value) pairs, or return a list or dict of them"
        )
    return result  # type: ignore[no-any-return]


def shorten(thing: object, length: int = 200) -> str:
    """`repr` of anything, cut, with its type; also when its `__repr__` fails."""
    try:
        text = repr(thing)
    except Exception:
        text = "<its repr() fails>"
    return f"{text if len(text) <= length else text[: length - 3] + '...'} ({type(thing).__name__})"


def map_call(function: Callable[..., Any], name: str) -> MapCall:
    """map, map_block, map_batch: called with the record, block or batch, gives its pairs."""
    if is_generator_function(function):
        return function

    def call(*arguments: Any) -> Pairs:
        try:
            return pairs_of(function(*arguments), name)
        except StopIteration as error:
            raise RuntimeError(f"{name} raised StopIteration") from error

    return call


def reduce_call(function: Callable[..., Any], name: str = "reduce") -> ReduceCall:
    """reduce: called with a key and its values, gives the pairs to write."""
    if is_generator_function(function):
        return function

    def call(key: Any, values: Iterator[Any]) -> Pairs:
        try:
            result = function(key, values)
        except StopIteration as error:
            raise RuntimeError(f"{name} raised StopIteration") from error
        if result is None:
            return ()
        if type(result) is GeneratorType:  # A function that returns another one's generator.
            return result
        return ((key, result),)

    return call


def combine_call(function: Callable[..., Any]) -> ReduceCall:
    """combine: as `reduce`, and the key must stay, for the run that it goes into is sorted by key already."""
    reduce = reduce_call(function, "combine")

    def call(key: Any, values: Iterator[Any]) -> Pairs:
        for pair in reduce(key, values):
            check_pair(pair, "combine")
            if pair[0] != key:
                raise BadPair(f"combine({key!r}, ...) emitted the key {pair[0]!r}; it must keep the key")
            yield pair

    return call


def partition_call(function: Callable[..., Any]) -> Callable[[Any, int], int]:
    """partition: checked at every call, since a wrong number would put a key where nobody reads it."""

    def call(key: Any, reducers: int) -> int:
        partition = function(key, reducers)
        if not isinstance(partition, int) or not 0 <= partition < reducers:
            raise BadPartition(
                f"partition({key!r}, {reducers}) returned {shorten(partition)}; it must be an int, "
                f"0 <= partition < {reducers}"
            )
        return int(partition)

    return call


def is_pair(emitted: object) -> bool:
    """A tuple or a list of two. (A str of two characters unpacks too, and is a mistake.)"""
    return isinstance(emitted, (tuple, list)) and len(emitted) == 2


def check_pair(emitted: object, name: str) -> None:
    """Raises `BadPair` for what is not a (key, value) pair."""
    if not is_pair(emitted):
        raise BadPair(f"{name} emitted {shorten(emitted)}, which is not a (key, value) pair")


def check_pairs(emitted: Sequence[object], name: str) -> None:
    """The same for many, at C speed while they are tuples."""
    if not set(map(type, emitted)) <= {tuple} or not set(map(len, emitted)) <= {2}:  # type: ignore[arg-type]
        for pair in emitted:
            check_pair(pair, name)
