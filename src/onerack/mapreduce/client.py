"""The client: `run`, the one function with which jobs are run from Python.

    from onerack.mapreduce import run

    def words(key, line):
        for word in line.split():
            yield word, 1

    result = run(map=words, reduce="sum", input="books/*.txt", output="counts")
    for word, count in result.rows(): ...

Settings:

    input           a file, a folder, a glob, a URL, or a list of them
    output          the folder for the results; must be absent or empty, unless `overwrite`
    input_format    text, file, jsonl, csv, parquet, or an InputFormat; with `encoding`, `errors`, `compression`
    output_format   tsv, jsonl, parquet, text, or an OutputFormat
    reducers        R, the number of part files; default: as many as workers, and at least one for 64 MB of input
    workers         processes; default: as many as cores may be used
    split_size      input of one map task, such as "64MB"
    memory          for all workers together, such as "2GB"; beyond their share of it they spill to disk
    files           side files, opened in a task as `open(side_file("name"))`
    on_error        "fail", or "skip:N": up to N bad records go to `_quarantine` in the output
    backup_tasks    run a second attempt of tasks that take far longer than the others
    accelerate      use compiled kernels when numba is installed; the output is the same
    seed            of `random` in the tasks
    on_status       called with a `JobStatus` some times a second, in this thread

The idea: a call like any other. It returns when the output is complete, raises one of errors.py when there is none,
and leaves no process, no server and no half-written file behind either way. It works in a script (no
`if __name__ == "__main__"` is needed, for the workers never import the script), in a notebook, and in a thread.

The rule: this file only collects what the caller said; request.py checks it, jobrun.py does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from onerack.config import MapReduceConfig
from onerack.errors import UsageError
from onerack.mapreduce.jobrun import JobRun
from onerack.mapreduce.messages import InputFormat, JobStatus, OutputFormat
from onerack.mapreduce.nursery_process import NurseryProcess
from onerack.mapreduce.request import make_request
from onerack.mapreduce.result import JobResult

__all__ = ["JobResult", "run"]

_FUNCTIONS = (
    "map",
    "map_block",
    "map_batch",
    "reduce",
    "combine",
    "partition",
    "sort_key",
    "setup",
    "teardown",
    "write",
    "values",
    "then",
)
"""Arguments of `run` that make a job when none is given."""


def run(
    job: Any = None,
    *,
    map: Callable[..., Any] | None = None,
    map_block: Callable[..., Any] | None = None,
    map_batch: Callable[..., Any] | None = None,
    reduce: str | Callable[..., Any] | None = None,
    combine: str | Callable[..., Any] | None = None,
    partition: str | Callable[..., int] | None = None,
    sort_key: Callable[..., Any] | None = None,
    setup: Callable[[], Any] | None = None,
    teardown: Callable[[], Any] | None = None,
    write: Callable[..., Any] | None = None,
    values: str | None = None,
    then: Any = None,
    arguments: Sequence[str] = (),
    input: Any = None,
    output: Any = None,
    input_format: str | InputFormat | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    compression: str | None = None,
    output_format: str | OutputFormat | None = None,
    reducers: int | None = None,
    workers: int | None = None,
    split_size: int | str | None = None,
    memory: int | str | None = None,
    files: Sequence[str] | None = None,
    on_error: str | None = None,
    overwrite: bool = False,
    backup_tasks: bool = False,
    accelerate: bool = True,
    seed: int | None = None,
    name: str | None = None,
    config: MapReduceConfig | None = None,
    on_status: Callable[[JobStatus], None] | None = None,
) -> JobResult:
    """Runs a job on this machine and returns when its output is complete.

    What to run: either `job` (a `Job` class or object, any class or module with a `map`, the name of a builtin such as
    "wordcount" with its `arguments`, a path "job.py" or "job.py:Class", a dotted name), or the functions themselves:
    `map`, `reduce` and so on, as described in `onerack.mapreduce.job`. The
    settings are listed at the top of this file.

    Raises:
        UsageError: (and InputError, OutputExists) something was wrong with the request; nothing was run.
        JobFailed: the message begins with the traceback of the job's own code.
        JobInterrupted: Ctrl-C or SIGTERM; all processes have ended and nothing of the output is left.
        StorageFull: a disk is full; names the path.
    """
    given = dict(locals())
    functions = {key: given.pop(key) for key in _FUNCTIONS}
    del given["job"], given["arguments"], given["on_status"]
    chosen = _chosen(job, {key: value for key, value in functions.items() if value is not None}, name)
    nursery = NurseryProcess()  # The slowest to start comes first: it imports while we check and plan.
    try:
        job_run = JobRun(make_request(chosen, arguments=arguments, settings=given), nursery, on_status)
    except BaseException:
        nursery.stop(0.0, ())
        raise
    return job_run.execute()


def _chosen(job: Any, functions: dict[str, Any], name: str | None) -> Any:
    """The job itself, or one made of functions."""
    if job is not None:
        if functions:
            raise UsageError(
                f"run() was given a job and {', '.join(functions)} beside it; the functions belong into the job"
            )
        return job
    if not functions:
        raise UsageError('run() needs a job, or functions: run(map=..., reduce="sum", input=..., output=...)')
    door = next((functions[key] for key in ("map", "map_block", "map_batch") if key in functions), None)
    named = getattr(door, "__name__", "job")
    return SimpleNamespace(**functions, job_name=name or ("job" if named == "<lambda>" else named))
