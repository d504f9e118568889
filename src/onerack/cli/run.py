"""`onerack run`: one job from the command line, with progress while it runs and a summary when it is done.

The idea: this file only translates. What the words mean for a builtin (the pattern of grep) the builtin says; what a
job file's attributes say holds wherever the command line is silent; all the work is `onerack.mapreduce.run`'s.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from onerack.cli import options
from onerack.errors import UsageError

if TYPE_CHECKING:
    from onerack.mapreduce import JobResult
    from onerack.mapreduce.messages import InputFormat, OutputFormat

EXAMPLES = """\b
Examples:
  onerack run wordcount 'books/**/*.txt' --out counts
  onerack run grep -i 'error [45][0-9]{2}' 'logs/*.gz' --out found
  onerack run invertedindex articles/ --out index --reduces 8
  onerack run job.py:Daily events/ --out daily --on-error skip:10
  onerack run teragen 1000000 --out rows && onerack run terasort rows --out sorted
  onerack run mypackage.jobs.Daily --json | jq .counters
"""


def run(
    job: options.JobName,
    words: options.Words = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    input_format: options.InputName = None,
    encoding: options.Encoding = None,
    errors: options.Errors = None,
    compression: options.Compression = None,
    output_format: options.OutputName = None,
    file: options.SideFiles = None,
    ignore_case: options.IgnoreCase = False,
    invert_match: options.InvertMatch = False,
    fixed_string: options.FixedString = False,
    reduces: options.Reduces = None,
    workers: options.Workers = None,
    split_size: options.SplitSize = None,
    memory: options.Memory = None,
    accelerate: options.Accelerate = True,
    on_error: options.OnError = None,
    backup_tasks: options.BackupTasks = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Run a MapReduce job over files, on all cores of this machine.

    The output appears in DIR as part-00000, part-00001, ... and _SUCCESS when the job is done, all at once; a job
    that fails or is interrupted leaves nothing there. Exit codes: 0 done, 1 the job failed, 2 usage, 130 Ctrl-C.
    """
    from onerack import mapreduce
    from onerack.cli.display import display_for

    chosen = {"-i": ignore_case, "-v": invert_match, "-F": fixed_string}
    flags = [flag for flag, is_set in chosen.items() if is_set]
    if flags and job != "grep":
        raise UsageError(f"{' '.join(flags)}: only the job grep has these options")
    arguments, inputs = split_words(job, words or [])
    if is_dotted(job) and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # As `python -m` does: a command's own path has only the folder it lies in.
    # What a job file prints while it is loaded is no part of the answer.
    with display_for(quiet=quiet) as display, redirect_stdout(sys.stderr):
        result = mapreduce.run(
            job,
            arguments=[*flags, *arguments],
            input=inputs or None,
            output=out,
            overwrite=overwrite,
            input_format=input_format_of(input_format),
            encoding=encoding,
            errors=errors,
            compression=compression,
            output_format=output_format_of(output_format),
            files=file,
            reducers=reduces,
            workers=workers,
            split_size=split_size,
            memory=memory,
            accelerate=accelerate,
            on_error=on_error,
            backup_tasks=backup_tasks,
            on_status=display.show,
        )
    _report(result, as_json=as_json, quiet=quiet)


def split_words(job: str, words: list[str]) -> tuple[list[str], list[str]]:
    """The builtin's own arguments, which come first, and the inputs.

    Raises: UsageError: no such job, and a name that was probably meant.
    """
    from onerack.mapreduce.jobs import BUILTINS

    if job in BUILTINS:
        count = BUILTINS[job].arguments_count
        return words[:count], words[count:]
    meant = difflib.get_close_matches(job.lower(), BUILTINS, n=1)
    if job.isidentifier() and meant:
        raise UsageError(f"there is no job {job!r}; did you mean {meant[0]!r}?")
    return [], words


def is_dotted(job: str) -> bool:
    """Whether `job` reads as package.module[:Class] or package.module.Class, and no file has that name."""
    module, _, _ = job.partition(":")
    return not module.endswith(".py") and not os.path.isfile(module) and "." in job.replace(":", ".")


def input_format_of(text: str | None) -> str | InputFormat | None:
    """`fixed:100` is a format with its record size; every other name stands for itself."""
    if text is None or not text.startswith("fixed"):
        return text
    from onerack.mapreduce.messages import InputFormat

    _, _, size = text.partition(":")
    if not size.isdigit():
        raise UsageError(f"--input-format {text}: say how long a record is, e.g. fixed:100 for records of 100 bytes")
    return InputFormat("fixed", record_bytes=int(size))


def output_format_of(text: str | None) -> str | OutputFormat | None:
    """`tsv:gzip` is a format and how its files are compressed; every other name stands for itself."""
    if text is None or ":" not in text:
        return text
    import msgspec

    from onerack.mapreduce.messages import OutputFormat

    name, _, compression = text.partition(":")
    try:
        return msgspec.convert({"name": name, "compression": compression}, OutputFormat)
    except msgspec.ValidationError as error:
        raise UsageError(f"--output-format {text}: {error}; for example: jsonl, tsv:gzip, jsonl:zstd") from None


def _report(result: JobResult, *, as_json: bool, quiet: bool) -> None:
    from onerack.cli.summary import summary_lines, summary_object

    if as_json:
        print(json.dumps(summary_object(result)))
    elif not quiet:
        print("\n".join(summary_lines(result)))
    sys.stdout.flush()
