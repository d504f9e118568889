"""`Job`: all that a user may say about a job, attribute by attribute.

The idea: a job is plain Python. Only one attribute is required, a `map`; a module with a function `map`, or any class
that has one, is as good a job as a subclass of `Job`. The class below gives nothing but defaults and words, so that
an editor can show them; the checks are in `loaded.py`.

The rule: `map` and `reduce` depend on their arguments only. Then the output equals that of a sequential run, whatever
failed and was executed again (Dean & Ghemawat 2004, section 3.3). A job object is made afresh for every attempt of
every task, so what `setup` puts on `self` never leaks from one task into another.

    class WordCount(Job):
        def map(self, key, line):
            for word in line.split():
                yield word, 1
        reduce = "sum"

Functions a job may have ("pairs": an iterable of (key, value) tuples, a dict, or None for nothing; generators are
best). In a class they take `self` first, in a module they do not:

    map(key, value) -> pairs            One record. text, jsonl, csv, fixed: key is (path, offset); parquet: (path,
                                        row); file: path; after another stage: the key it wrote. value: the line
                                        (str), dict, bytes, file's content, or the value that stage wrote.
    map_block(data: bytes) -> pairs     Instead of `map`, for speed: whole records, as bytes, several MB at a time.
                                        Blocks are cut wherever the engine likes, so the result must not depend on it.
    map_batch(batch) -> pairs           Instead of `map`: a `pyarrow.RecordBatch` of records. May also give record
                                        batches or tables with two columns, key and value.
    reduce(key, values)                 Once per key, keys in increasing order; `values` is an iterator over the
                                        key's values, in the order of the input. A generator yields the pairs to
                                        write; a plain function returns the key's value, None for nothing. Or the
                                        name of a builtin reducer: "sum", "count", "min", "max", "mean", "first",
                                        "list", "set", "distinct", "topk:N".
    combine(key, values)                As `reduce`, but run on parts of a key's values beside the map, 0 or more
                                        times; must give the same key. Or "sum", "min", "max". Builtin reducers
                                        combine by themselves.
    partition(key, reducers) -> int     Which reduce partition a key goes to, 0 <= partition < reducers. Or "hash"
                                        (the default), or "range": part i + 1 continues where part i ends.
    sort_key(key, value)                Something to order the values of one key by (secondary sort).
    setup(), teardown()                 Before the first and after the last record of each attempt of each task.
                                        `teardown` may yield pairs too: a map that adds up on `self` emits them there.
    write(file, key, value)             Writes one result to `file` (binary, buffered), instead of `output_format`.

What user code can call: `onerack.mapreduce.count`, `side_file`, `current`. `random` is seeded alike for every attempt
of a task. What it prints goes to the attempt's log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onerack.mapreduce.loaded import LoadedJob as LoadedJob
from onerack.mapreduce.loaded import normalise as normalise
from onerack.mapreduce.messages import InputFormat, OutputFormat


class Job:
    """Base of a job; see above for the functions that it may have. All attributes are optional."""

    input: str | Sequence[str] | None = None
    """Files, folders, globs (`**` too) or fsspec URLs. The command line and `run(input=...)` go before it."""
    output: str | None = None
    """The folder for the results; must be empty or absent. `run(output=...)` and `--out` go before it."""
    reducers: int | None = None
    """How many reduce partitions, so how many part files. 0: no reduce; each map task writes its own part. None: chosen
    by the size of the input, or 0 when the job has neither `reduce` nor `partition` nor `sort_key`."""

    input_format: str | InputFormat = "text"
    """text (a record is a line), file (a whole file), jsonl, csv, parquet, or an `InputFormat` for its options, e.g.
    `InputFormat("fixed", record_bytes=100)`, `InputFormat("csv", options={"delimiter": ";"})`."""
    encoding: str | None = None
    """Of text inputs; any codec that Python knows. None: what `input_format` says, else utf-8."""
    errors: str | None = None
    """What to do about bytes that are not of that encoding: strict (the record is a bad one), replace, ignore, ..."""
    compression: str | None = None
    """Of the input: infer (by the file's name), none, gzip, bz2, xz, zstd."""
    output_format: str | OutputFormat = "tsv"
    """tsv, jsonl, parquet, text (the value alone, a line each), pairs, or an `OutputFormat`."""

    reduce: Any = None
    partition: Any = None
    combine: Any = None
    values: str = "plain"
    """plain: values are None, bool, int, float, str, bytes, and tuples, lists, sets and dicts of them. pickle: anything
    that cloudpickle can take; slower, and only for those who trust their own values."""
    files: Sequence[str] = ()
    """Side files: read in a task as `open(side_file("stopwords.txt"))`."""
    on_error: str = "fail"
    """fail: a record on which the code fails twice ends the job. skip:N: up to N of them are set aside in the output's
    `_quarantine`, each with its file, offset and traceback."""
    counters: Sequence[str] = ()
    """Names of counters that are to be shown even if nothing was counted."""
    block_bytes: int = 4 << 20
    """About how many bytes `map_block` gets at a time."""
    then: Any = None
    """The next stage: a job (class, or object) or a list of them. It reads the (key, value) pairs that this one wrote;
    its input, input_format and output are not looked at, except the last one's output."""
