"""What a user may call a job, and what he is told when it is none."""

from __future__ import annotations

import functools
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onerack.errors import InputError, UsageError
from onerack.mapreduce.job import Job, normalise
from onerack.mapreduce.loaded import stages_of
from onerack.mapreduce.messages import InputFormat, OutputFormat
from onerack.mapreduce.settings import input_format_of, resolve_files
from tests.mapreduce.sequential_run import function_job


def job_with(**attributes: Any) -> type[Job]:
    """A subclass of Job with a map and `attributes`."""

    def a_map(self: Any, key: Any, value: Any) -> Iterator[tuple[Any, Any]]:
        yield key, value

    return type("Made", (Job,), {"map": a_map, **attributes})


def refused(job: Any) -> str:
    with pytest.raises(UsageError) as caught:
        normalise(job)
    return str(caught.value)


def test_the_defaults() -> None:
    job = normalise(job_with())

    assert (job.name, job.door, job.reduce, job.then, job.skip_max) == ("Made", "map", None, (), 0)
    assert (job.input, job.output, job.reducers, job.files) == ((), None, None, ())
    assert (job.input_format, job.output_format) == (InputFormat(), OutputFormat())
    assert job.is_map_only
    assert not job.allow_pickle


def test_only_builtin_jobs_have_the_engine_s_own_attributes() -> None:
    def own(self: Any) -> None: ...

    names = ("check", "sample", "plan_splits", "make_collector", "reduce_partition")
    job = normalise(job_with(uses_kernels=False, **dict.fromkeys(names, own)))

    assert [getattr(job, name) for name in names] == [None] * len(names)
    assert job.uses_kernels


def test_a_plain_class_an_object_and_a_module_are_jobs() -> None:
    class Plain:
        reduce = "sum"

        def map(self, key: Any, value: Any) -> Iterator[tuple[Any, int]]:
            yield value, 1

    module = types.ModuleType("words")
    exec("def map(key, value): yield value, 1\nreduce = 'count'\ninput = 'here/*.txt'", module.__dict__)

    assert normalise(Plain).reduce == "sum"
    assert normalise(Plain()).name == "Plain"
    assert normalise(module).reduce == "count"
    assert normalise(module).input == ("here/*.txt",)


def test_a_module_may_import_names_that_mean_something_here() -> None:
    module = types.ModuleType("words")
    exec("from functools import reduce\ndef map(key, value): return ()", module.__dict__)

    assert normalise(module).reduce is None


def test_static_and_class_methods_and_partial_functions() -> None:
    def three(word: str, key: Any, value: Any) -> list[tuple[str, int]]:
        return [(word, 1)]

    class Static(Job):
        @staticmethod
        def map(key: Any, value: Any) -> list[tuple[Any, int]]:
            return [(value, 1)]

        @classmethod
        def reduce(cls, key: Any, values: Iterator[int]) -> int:
            return sum(values)

    assert list(normalise(Static).map(0, "x")) == [("x", 1)]
    assert list(normalise(function_job(map=functools.partial(three, "w"))).map(0, 0)) == [("w", 1)]


def test_an_object_whose_call_is_a_generator() -> None:
    class Splitter:
        def __call__(self, key: Any, value: str) -> Iterator[tuple[str, int]]:
            for word in value.split():
                yield word, 1

    job = normalise(function_job(map=Splitter(), reduce="sum"))

    assert list(job.map(0, "a b")) == [("a", 1), ("b", 1)]


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"map": None}, "no map"),
        ({"map": "words"}, "map must be a function"),
        ({"map_block": lambda self, data: ()}, "map and map_block; a job has exactly one"),
        ({"map": lambda key, value: ()}, "must take (key, value)"),
        ({"map": lambda self, line: ()}, "takes (line)"),
        ({"reduce": "summ"}, "sum"),
        ({"reduce": "topk"}, "topk:N"),
        ({"reduce": 7}, "reduce must be"),
        ({"reduce": lambda self, key: 1}, "reduce must take (key, values)"),
        ({"reduce": "sum", "combine": lambda self, key, values: 1}, "combines by itself"),
        ({"combine": lambda self, key, values: 1}, "combine without a reduce"),
        ({"reduce": lambda self, key, values: 1, "combine": "mean"}, "sum, min, max"),
        ({"reduce": "sum", "sort_key": lambda self, key, value: 1}, "sort_key"),
        ({"partition": "modulo"}, '"hash", "range"'),
        ({"partition": 3}, "partition must be a function"),
        ({"partition": lambda self, key: 1}, "partition must take (key, reducers)"),
        ({"reducers": "8"}, "reducers must be a whole number"),
        ({"reducers": -1}, "at least 0"),
        ({"reducers": True}, "reducers"),
        ({"input": 3}, "input must be"),
        ({"output": 3}, "output must be"),
        ({"input_format": "txt"}, "text, file, jsonl"),
        ({"input_format": "fixed"}, "record_bytes"),
        ({"output_format": "txt"}, "tsv, jsonl"),
        ({"output_format": "user"}, "write(file, key, value)"),
        ({"encoding": "utf-9"}, "utf-9"),
        ({"errors": "relaxed"}, "relaxed"),
        ({"compression": "zip"}, "gzip"),
        ({"values": "json"}, '"plain" or "pickle"'),
        ({"on_error": "skip"}, "skip:N"),
        ({"on_error": "skip:-1"}, "skip:N"),
        ({"on_error": "ignore"}, '"fail"'),
        ({"files": 3}, "files must be"),
        ({"setup": lambda self, context: None}, "setup must take ()"),
        ({"reducer": "sum"}, "`reducer`, which means nothing here; it is called `reduce`"),
        ({"combiner": lambda self, key, values: 1, "reduce": lambda self, key, values: 1}, "called `combine`"),
        ({"then": "sort"}, "then is 'sort'"),
        ({"block_bytes": 0}, "block_bytes"),
        ({"write": lambda self, key, value: None}, "write must take (file, key, value)"),
    ],
)
def test_what_is_refused_and_how(attributes: dict[str, Any], said: str) -> None:
    message = refused(job_with(**attributes))

    assert said in message
    assert "Made" in message


def test_a_forgotten_self_is_guessed() -> None:
    assert "`self`" in refused(job_with(map=lambda key, value: ()))


def test_async_functions_are_refused() -> None:
    async def words(key: Any, value: Any) -> None:
        return None

    async def pairs(key: Any, value: Any) -> Any:
        yield key, value

    assert "async" in refused(function_job(map=words))
    assert "async" in refused(function_job(map=pairs))


def test_a_setup_with_a_yield_is_refused() -> None:
    def setup(self: Any) -> Iterator[None]:
        yield None

    assert "setup has a `yield`" in refused(job_with(setup=setup))


def test_a_class_that_needs_arguments() -> None:
    class Grep(Job):
        def __init__(self, pattern: str) -> None:
            self.pattern = pattern

        def map(self, key: Any, value: str) -> Iterator[tuple[Any, str]]:
            if self.pattern in value:
                yield key, value

    message = refused(Grep)

    assert "'pattern'" in message
    assert "run(Grep(...))" in message
    assert normalise(Grep("x")).name == "Grep"


def test_things_that_are_no_jobs() -> None:
    things: tuple[Any, ...] = (3, [], None, lambda key, value: ())
    for thing in things:
        assert "no map" in refused(thing)


def test_settings_reach_the_engine() -> None:
    job = normalise(
        job_with(
            input=["a/*.gz", Path("b")],
            output="out",
            reducers=3,
            input_format=InputFormat("csv", options={"delimiter": ";"}),
            encoding="latin-1",
            compression="gzip",
            output_format="jsonl",
            values="pickle",
            on_error="skip:10",
            partition="range",
            counters=("a", "b"),
        )
    )

    assert job.input == ("a/*.gz", "b")
    assert (job.output, job.reducers, job.skip_max, job.ranged, job.allow_pickle) == ("out", 3, 10, True, True)
    assert job.input_format == InputFormat("csv", "latin-1", compression="gzip", options={"delimiter": ";"})
    assert job.output_format.name == "jsonl"
    assert job.counters == ("a", "b")
    assert not job.is_map_only


def test_a_writer_sets_the_format() -> None:
    assert normalise(job_with(write=lambda self, file, key, value: None)).output_format == OutputFormat("user")


def test_options_go_before_what_a_format_says() -> None:
    named = InputFormat("text", encoding="latin-1", errors="replace")

    assert input_format_of(named) == named
    assert input_format_of(named, encoding="utf-16").encoding == "utf-16"
    assert input_format_of("file", encoding="bytes").encoding == "bytes"


# ---------------------------------------------------------------------------------------------- stages


def test_stages_are_put_in_a_row() -> None:
    third, second = job_with(), job_with(reduce="sum")
    second.then = third
    last = job_with(reduce="count")()
    first = job_with(then=[second, last])

    assert [stage.source for stage in stages_of(normalise(first))] == [first, second, third, last]


def test_the_same_stage_may_come_again_but_not_lead_to_itself() -> None:
    step = job_with()
    assert len(stages_of(normalise(job_with(then=[step] * 10)))) == 11

    step.then = step
    with pytest.raises(UsageError, match="leads back"):
        stages_of(normalise(step))


def test_a_stage_that_is_no_job() -> None:
    with pytest.raises(UsageError, match="no map"):
        stages_of(normalise(job_with(then=[object()])))


# ---------------------------------------------------------------------------------------------- side files


def test_side_files_must_be_there_and_differ_in_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "stop").touch()
    monkeypatch.chdir(tmp_path)

    assert resolve_files(["a/stop"]) == (str(tmp_path / "a/stop"),)
    with pytest.raises(UsageError, match="two side files are called stop"):
        resolve_files(["a/stop", "b/stop"])
    with pytest.raises(InputError, match="c/stop"):
        resolve_files(["c/stop"])
    with pytest.raises(InputError, match="side file"):
        resolve_files(["a"])


def test_importing_the_package_imports_neither_numpy_nor_pyarrow() -> None:
    program = (
        "import sys, onerack.mapreduce as m; from onerack.mapreduce import Job, InputFormat, count\n"
        "from onerack.mapreduce import job, program, context\n"
        "assert not {'numpy', 'pyarrow', 'fsspec', 'cloudpickle'} & set(sys.modules), 'heavy'\n"
        "assert set(m.__all__) <= set(dir(m))\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
