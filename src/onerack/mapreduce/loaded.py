"""From whatever a user calls a job to `LoadedJob`, the one form that the engine runs.

The idea: a module, a class, an object and a set of functions are all just names that lead to attributes; `normalise`
reads the attributes once, checks all of them, and keeps the calls in the forms of `calls.py`. So every mistake is
found in the user's process, before anything was started, and the worker needs no checks of its own.

The rule: one attempt, one fresh object. `LoadedJob.fresh` makes the job again from where it came from, so that an
attempt that failed leaves no trace in the next one. (A module's globals cannot be made afresh; they live as long as
their worker.)
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

from onerack.errors import UsageError
from onerack.mapreduce.calls import (
    MapCall,
    ReduceCall,
    check_call,
    combine_call,
    is_generator_function,
    map_call,
    partition_call,
    reduce_call,
)
from onerack.mapreduce.messages import InputFormat, OutputFormat, Split
from onerack.mapreduce.settings import input_format_of, output_format_of, parse_on_error, strings_of

Door = Literal["map", "map_block", "map_batch", "map_split"]
DOORS: dict[Door, tuple[str, ...]] = {
    "map": ("key", "value"),
    "map_block": ("data",),
    "map_batch": ("batch",),
    "map_split": ("reader", "out", "context"),
}
"""How records can reach user code, and what each door takes. `map_split` is for the builtin jobs."""

MISTAKEN_NAMES = {
    "mapper": "map",
    "map_fn": "map",
    "map_blocks": "map_block",
    "map_batches": "map_batch",
    "reducer": "reduce",
    "reduce_fn": "reduce",
    "combiner": "combine",
    "partitioner": "partition",
    "num_reducers": "reducers",
    "reduces": "reducers",
    "on_errors": "on_error",
    "teardown_": "teardown",
    "tear_down": "teardown",
    "set_up": "setup",
}
"""What other systems call these; silently passing over them would run another job than the user wrote."""

COMBINES: dict[str, Callable[..., Any]] = {
    "sum": lambda key, values: sum(values),
    "min": lambda key, values: min(values),
    "max": lambda key, values: max(values),
}
ORDERED_REDUCERS: dict[str, Callable[..., Any]] = {
    "list": lambda key, values: list(values),
    "first": lambda key, values: next(values),
}
"""Builtin reducers whose result depends on the order of values, as functions: with `sort_key` these run."""


@dataclass(frozen=True)
class LoadedJob:
    """A job that was found to be in order. Functions are None when the job has none."""

    name: str
    source: Any = field(repr=False)
    """What the user gave: a class, an object or a module."""
    door: Door
    map: MapCall
    """The door's function. map, map_block, map_batch: as `calls.map_call`. map_split: as it is."""
    reduce: str | ReduceCall | None
    """A builtin reducer's name, or as `calls.reduce_call`."""
    combine: ReduceCall | None
    partition: Callable[[Any, int], int] | None
    """None: by the stable hash, unless `ranged`."""
    ranged: bool
    """partition = "range": keys go to partitions by splitters, which a sample of the input gives."""
    sort_key: Callable[[Any, Any], Any] | None
    setup: Callable[[], Any] | None
    teardown: MapCall | None
    """Gives pairs, as the doors do."""
    write: Callable[[Any, Any, Any], Any] | None
    check: Callable[[int | None, InputFormat, OutputFormat], None] | None
    """Builtin jobs: refuses settings against the job's nature. Reducers None: the caller did not say."""
    sample: Callable[[Any, int], list[bytes]] | None
    """Builtin jobs: canonical keys of some of a split's records, for the splitters of partition = "range"."""
    plan_splits: Callable[[tuple[str, ...], int, int], tuple[Split, ...]] | None
    """Builtin jobs that read nothing: (arguments, split_bytes, slots) -> the splits."""
    uses_kernels: bool
    """False: a builtin job that gains nothing from compiled kernels, so none need be loaded for it."""
    make_collector: Callable[[str, Any], Any] | None
    reduce_partition: Callable[[Any, Any, Any], Any] | None

    input: tuple[str, ...]
    output: str | None
    reducers: int | None
    input_format: InputFormat
    output_format: OutputFormat
    allow_pickle: bool
    files: tuple[str, ...]
    """As the user wrote them; `settings.resolve_files` makes them absolute."""
    skip_max: int
    counters: tuple[str, ...]
    block_bytes: int
    then: tuple[Any, ...] = field(repr=False)
    """The next stages, as the user wrote them; `stages_of` makes jobs of them."""
    make_target: Callable[[], Any] = field(repr=False)

    @property
    def is_map_only(self) -> bool:
        """Nothing in the job asks for a shuffle, so unless the user gives a number of reducers, there is none."""
        return (
            self.reduce is None
            and self.reduce_partition is None
            and self.partition is None
            and not self.ranged
            and self.sort_key is None
        )

    def fresh(self) -> LoadedJob:
        """The same job, its object made again."""
        return normalise(self.make_target(), name=self.name, make_target=self.make_target)


def normalise(job: Any, *, name: str = "", make_target: Callable[[], Any] | None = None) -> LoadedJob:
    """Reads and checks every attribute of `job`: a class, an object, a module, or a `LoadedJob`.

    Raises: UsageError: names the attribute that is wrong, what was found and what is allowed.
    """
    if isinstance(job, LoadedJob):
        return job
    owner = name or name_of(job)
    target = make_object(job, owner) if inspect.isclass(job) else job
    if make_target is None:
        make_target = _remake(job, owner)
    read = _Reader(owner, target)
    read.refuse_mistaken_names()
    door = _door(read)
    reduce, sort_key = _reduce(read), read.function("sort_key", "key", "value")
    if isinstance(reduce, str) and sort_key is not None:
        if reduce not in ORDERED_REDUCERS:
            raise UsageError(f'{owner}: sort_key orders the values of a key; reduce = "{reduce}" does not look at that')
        reduce = reduce_call(ORDERED_REDUCERS[reduce])
    partition = read.value("partition", None)
    ranged = partition == "range" if isinstance(partition, str) else False
    return LoadedJob(
        name=owner,
        source=job,
        door=door,
        map=read.attribute(door) if door == "map_split" else map_call(read.attribute(door), door),
        reduce=reduce,
        combine=_combine(read, reduce),
        partition=_partition(read),
        ranged=ranged,
        sort_key=sort_key,
        setup=_setup(read),
        teardown=_teardown(read),
        write=read.function("write", "file", "key", "value"),
        make_target=make_target,
        **_native(read, door == "map_split"),
        **_settings(read),
    )


def _native(read: _Reader, is_builtin: bool) -> dict[str, Any]:
    """What only builtin jobs may say. By these names other jobs may have functions of their own."""

    def function(name: str, *parameters: str) -> Callable[..., Any] | None:
        return read.function(name, *parameters) if is_builtin else None

    return {
        "check": function("check", "reducers", "input_format", "output_format"),
        "sample": function("sample", "reader", "limit"),
        "plan_splits": function("plan_splits", "arguments", "split_bytes", "slots"),
        "uses_kernels": not is_builtin or read.value("uses_kernels", True) is not False,
        "make_collector": function("make_collector", "path", "spec"),
        "reduce_partition": function("reduce_partition", "sections", "writer", "context"),
    }


def _settings(read: _Reader) -> dict[str, Any]:
    """The fields that are no functions."""
    try:
        is_written_by_user = read.attribute("write") is not None
        return {
            "input": strings_of(read.value("input", ()) or (), "input"),
            "output": read.string("output", None),
            "reducers": read.number("reducers", None, least=0),
            "input_format": input_format_of(
                read.value("input_format", "text"),
                encoding=read.string("encoding", None),
                errors=read.string("errors", None),
                compression=read.string("compression", None),
            ),
            "output_format": OutputFormat("user")
            if is_written_by_user
            else output_format_of(read.value("output_format", "tsv")),
            "allow_pickle": _allow_pickle(read.value("values", "plain")),
            "files": strings_of(read.value("files", ()), "files"),
            "skip_max": parse_on_error(read.value("on_error", "fail")),
            "counters": strings_of(read.value("counters", ()), "counters"),
            "block_bytes": read.number("block_bytes", 4 << 20, least=1),
            "then": _then(read.attribute("then")),
        }
    except UsageError as error:
        raise UsageError(f"{read.owner}: {error}") from None


def stages_of(job: LoadedJob) -> tuple[LoadedJob, ...]:
    """The job and all that come after it, in order; each stage's own `then` comes right behind it.

    Raises: UsageError: a stage is no job, or leads back to itself.
    """
    return tuple(_walk(job, ()))


def _walk(job: LoadedJob, above: tuple[Any, ...]) -> Iterator[LoadedJob]:
    if any(job.source is each for each in above):
        raise UsageError(f"{job.name}: `then` leads back to the job itself; for a loop, give a list of stages")
    yield job
    for stage in job.then:
        yield from _walk(normalise(stage), (*above, job.source))


def name_of(job: Any) -> str:
    """What people call this job: the class's, the module's or the object's class's name."""
    if isinstance(job, ModuleType):
        return job.__name__.rpartition(".")[2]
    given = getattr(job, "job_name", None)
    if isinstance(given, str) and given:
        return given
    return job.__name__ if inspect.isclass(job) else type(job).__name__


def make_object(cls: type, owner: str) -> Any:
    """`cls()`, or a `UsageError` that says why it cannot be made so."""
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise UsageError(
            f"{owner} cannot be made without arguments ({error}); give its __init__ defaults, "
            f"or pass an object: run({owner}(...))"
        ) from None
    except ValueError:
        pass  # No signature to look at; then the call decides.
    return cls()


def _remake(job: Any, owner: str) -> Callable[[], Any]:
    """How to get a fresh target. An object is copied; the one given is never run itself, so it stays as it was."""
    if inspect.isclass(job):
        return lambda: make_object(job, owner)
    if isinstance(job, ModuleType):
        return lambda: job

    def copied() -> Any:
        try:
            return copy.deepcopy(job)
        except Exception:
            return job  # What cannot be copied (a lock, a connection) has to be shared.

    return copied


class _Reader:
    """Reads the attributes of one job, and knows whose they are for the messages."""

    def __init__(self, owner: str, target: Any) -> None:
        self.owner = owner
        self._target = target

    def attribute(self, name: str) -> Any:
        """The attribute, or None. In a module, what C code or a class gives (`from functools import reduce`) is not
        meant as part of the job."""
        found = getattr(self._target, name, None)
        if isinstance(self._target, ModuleType) and name != "then":
            return None if inspect.isbuiltin(found) or inspect.isclass(found) else found
        return found

    def value(self, name: str, default: Any) -> Any:
        found = self.attribute(name)
        return default if found is None else found

    def string(self, name: str, default: str | None) -> str | None:
        found = self.value(name, default)
        if found is not None and not isinstance(found, str) and not hasattr(found, "__fspath__"):
            raise UsageError(f"{name} must be a string, and is {found!r}")
        return None if found is None else str(found)

    def number(self, name: str, default: int | None, *, least: int) -> int | None:
        found = self.value(name, default)
        if found is not None and (not isinstance(found, int) or isinstance(found, bool) or found < least):
            raise UsageError(f"{name} must be a whole number of at least {least}, and is {found!r}")
        return None if found is None else int(found)

    def function(self, name: str, *parameters: str) -> Callable[..., Any] | None:
        found = self.attribute(name)
        if found is None:
            return None
        check_call(self.owner, name, found, *parameters)
        return found  # type: ignore[no-any-return]

    def refuse_mistaken_names(self) -> None:
        if isinstance(self._target, ModuleType):
            return  # A module may well have a helper function by such a name.
        for mistaken, name in MISTAKEN_NAMES.items():
            if hasattr(self._target, mistaken) and self.attribute(name) is None:
                raise UsageError(f"{self.owner} has `{mistaken}`, which means nothing here; it is called `{name}`")


def _door(read: _Reader) -> Door:
    found: list[Door] = [door for door in DOORS if read.attribute(door) is not None]
    if not found:
        raise UsageError(
            f"{read.owner} is not a job: it has no map (nor map_block or map_batch), e.g. `def map(self, key, value): "
            "yield key, value`"
        )
    if "map_split" in found:
        found = ["map_split"]  # A builtin job may show a readable `map` beside its native form.
    if len(found) > 1:
        raise UsageError(f"{read.owner} has {' and '.join(found)}; a job has exactly one of them")
    read.function(found[0], *DOORS[found[0]])
    return found[0]


def _reduce(read: _Reader) -> str | ReduceCall | None:
    found = read.attribute("reduce")
    if found is None:
        return None
    if isinstance(found, str):
        from onerack.mapreduce.reducers import parse_reducer

        try:
            parse_reducer(found)
        except UsageError as error:
            raise UsageError(f"{read.owner}: {error}") from None
        return found
    if not callable(found):
        raise UsageError(f"{read.owner}: reduce must be a builtin reducer's name or a function, and is {found!r}")
    check_call(read.owner, "reduce", found, "key", "values")
    return reduce_call(found)


def _combine(read: _Reader, reduce: str | ReduceCall | None) -> ReduceCall | None:
    found = read.attribute("combine")
    if found is None:
        return None
    if reduce is None:
        raise UsageError(f"{read.owner}: combine without a reduce; what it gives would not be reduced further")
    if isinstance(reduce, str):
        raise UsageError(f'{read.owner}: reduce = "{reduce}" combines by itself; leave `combine` out')
    if isinstance(found, str):
        if found not in COMBINES:
            known = ", ".join(COMBINES)
            raise UsageError(f"{read.owner}: combine is {found!r}; it must be a function or one of {known}")
        return combine_call(COMBINES[found])
    check_call(read.owner, "combine", found, "key", "values")
    return combine_call(found)


def _partition(read: _Reader) -> Callable[[Any, int], int] | None:
    found = read.attribute("partition")
    if found is None or found in ("hash", "range"):
        return None
    if isinstance(found, str):
        raise UsageError(f'{read.owner}: partition is {found!r}; it must be "hash", "range" or a function')
    check_call(read.owner, "partition", found, "key", "reducers")
    return partition_call(found)


def _setup(read: _Reader) -> Callable[[], Any] | None:
    found = read.function("setup")
    if found is not None and is_generator_function(found):
        raise UsageError(f"{read.owner}: setup has a `yield`, so calling it would do nothing; only teardown may emit")
    return found


def _teardown(read: _Reader) -> MapCall | None:
    found = read.function("teardown")
    return None if found is None else map_call(found, "teardown")


def _allow_pickle(found: object) -> bool:
    if not isinstance(found, str):
        return False  # A function of this name is the user's own.
    if found not in ("plain", "pickle"):
        raise UsageError(f'values is {found!r}; it must be "plain" or "pickle"')
    return found == "pickle"


def _then(found: object) -> tuple[Any, ...]:
    if found is None:
        return ()
    stages = tuple(found) if isinstance(found, (list, tuple)) else (found,)
    for stage in stages:
        if isinstance(stage, (str, bytes)) or inspect.isroutine(stage):
            raise UsageError(f"then is {stage!r}; a stage is a job: a class, an object or a module")
    return stages
