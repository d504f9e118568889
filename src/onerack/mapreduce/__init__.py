"""MapReduce: plain Python `map` and `reduce` over more bytes than one process holds.

    from onerack.mapreduce import run

    def words(key, line):
        for word in line.split():
            yield word, 1

    result = run(map=words, reduce="sum", input="books/*.txt", output="counts/")

The idea: these are all the names that users need. They are imported when first asked for, because importing this
package must not cost what running a job costs (numpy and pyarrow live in the workers).

Source: Dean & Ghemawat, "MapReduce: Simplified Data Processing on Large Clusters", OSDI 2004.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from onerack.mapreduce.context import TaskContext, count, current, side_file

if TYPE_CHECKING:
    from onerack.mapreduce.client import JobResult, run
    from onerack.mapreduce.job import Job
    from onerack.mapreduce.messages import InputFormat, OutputFormat

__all__ = [
    "InputFormat",
    "Job",
    "JobResult",
    "OutputFormat",
    "TaskContext",
    "count",
    "current",
    "run",
    "side_file",
]

_HOMES = {"Job": "job", "run": "client", "JobResult": "client", "InputFormat": "messages", "OutputFormat": "messages"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
