"""The builtin jobs: run by name, `onerack run wordcount ...`, and as fast as this engine can be.

    wordcount                how often each word occurs
    grep PATTERN             the lines in which a regular expression is found
    invertedindex            for each word the documents that hold it
    sort                     all lines in order
    terasort                 records of 100 bytes in order of their first 10
    teragen ROWS             records for terasort
    teravalidate             whether a directory is sorted, and its checksum

The idea: each is a Job like a user's, with a second, native form behind a private door (door.py); the plain form
stands beside it where it says in three lines what the native one does in a hundred.
"""

from __future__ import annotations

from collections.abc import Sequence

from onerack.errors import UsageError
from onerack.mapreduce.jobs.door import BuiltinJob
from onerack.mapreduce.jobs.grep import Grep
from onerack.mapreduce.jobs.invertedindex import InvertedIndex
from onerack.mapreduce.jobs.sort import Sort
from onerack.mapreduce.jobs.teragen import TeraGen
from onerack.mapreduce.jobs.terasort import TeraSort
from onerack.mapreduce.jobs.teravalidate import TeraValidate
from onerack.mapreduce.jobs.wordcount import WordCount

BUILTINS: dict[str, type[BuiltinJob]] = {
    "wordcount": WordCount,
    "grep": Grep,
    "invertedindex": InvertedIndex,
    "sort": Sort,
    "terasort": TeraSort,
    "teragen": TeraGen,
    "teravalidate": TeraValidate,
}


def make(name: str, arguments: Sequence[str] = ()) -> BuiltinJob:
    """The builtin job of that name. Raises: UsageError: no such job, or arguments it does not take."""
    if name not in BUILTINS:
        raise UsageError(f"there is no builtin job {name!r}; there are {', '.join(sorted(BUILTINS))}")
    return BUILTINS[name](*arguments)
