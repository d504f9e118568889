"""The options of `onerack run`, one name for each, so that the command's signature reads as a list.

The idea: an option that is not given says nothing, and then the job's own attribute of the same name holds, and after
it onerack's default. So every default here is None, and each help text names what happens then.
"""

from __future__ import annotations

from typing import Annotated

import typer

JobName = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="A builtin (wordcount, grep, invertedindex, sort, terasort, teragen, teravalidate), a file `job.py` or "
        "`job.py:Class`, or a dotted name such as `mypackage.jobs.Daily`.",
    ),
]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="Files, directories, globs (quote them: 'logs/**/*.gz') or fsspec URLs. Builtins that need an argument "
        "take it first: the pattern of grep, the number of rows of teragen. Without any: the job's `input`.",
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Directory of the output; must be absent or empty. Default: the job's `output`.",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace the output directory when the job is done; until then the old one stays as it is.",
    ),
]
InputName = Annotated[
    str | None,
    typer.Option(
        "--input-format",
        metavar="NAME",
        help="text (a record is a line), file (a whole file), jsonl, csv, parquet, or fixed:N (N bytes). "
        "Default: the job's, else text.",
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", metavar="CODEC", help="Encoding of text. Default: utf-8."),
]
Errors = Annotated[
    str | None,
    typer.Option(
        "--errors",
        metavar="POLICY",
        help="What to do with bytes that are not text: strict, replace, ignore, surrogateescape, ... Default: strict.",
    ),
]
Compression = Annotated[
    str | None,
    typer.Option(
        "--compression",
        metavar="NAME",
        help="Of the input: infer (from the names of its files), none, gzip, bz2, xz or zstd. Default: infer.",
    ),
]
OutputName = Annotated[
    str | None,
    typer.Option(
        "--output-format",
        metavar="NAME",
        help="tsv (key, tab, value), jsonl, parquet, or text (the value alone); with :gzip or :zstd behind it "
        "(tsv:gzip) for compressed files. Default: the job's, else tsv.",
    ),
]
SideFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--file",
        metavar="PATH",
        help="A side file, which the job's code opens as open(side_file('NAME')). May be given several times. "
        "Default: the job's `files`.",
    ),
]
IgnoreCase = Annotated[bool, typer.Option("--ignore-case", "-i", help="grep: letters match in either case.")]
InvertMatch = Annotated[bool, typer.Option("--invert-match", "-v", help="grep: the lines that do not match.")]
FixedString = Annotated[bool, typer.Option("--fixed-string", "-F", help="grep: PATTERN is text, not a pattern.")]
Reduces = Annotated[
    int | None,
    typer.Option(
        "--reduces",
        "-r",
        metavar="R",
        min=0,
        help="Number of partitions and so of output files; 0 writes what map emits. Default: from the size of the "
        "input, at least one for each worker.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", "-w", metavar="N", min=1, help="Processes. Default: one per core."),
]
SplitSize = Annotated[
    str | None,
    typer.Option("--split-size", metavar="SIZE", help="Input of one map task. Default: 64MB."),
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        "-m",
        metavar="SIZE",
        help="Memory of all workers together; beyond it they spill to disk. Default: 2GB, at least 256MB each.",
    ),
]
Accelerate = Annotated[
    bool,
    typer.Option(
        "--accelerate/--no-accelerate",
        help="Use the compiled kernels when numba is installed. The output is the same either way.",
    ),
]
OnError = Annotated[
    str | None,
    typer.Option(
        "--on-error",
        metavar="POLICY",
        help="fail, or skip:N: up to N records on which the job's code fails twice are put into _quarantine/. "
        "Default: the job's, else fail.",
    ),
]
BackupTasks = Annotated[
    bool,
    typer.Option(
        "--backup-tasks/--no-backup-tasks",
        help="Near the end of a phase, run stragglers a second time; the first to finish wins.",
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object instead of text, also for an error."),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No progress and no summary; only errors."),
]
