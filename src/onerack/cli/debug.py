"""`onerack debug`: one task of a job again, in this process, with the debugger where the user's code failed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from onerack.cli import failures

EXAMPLES = """\b
Examples:
  onerack debug last --task m17
  onerack debug last --task m17 --record 4711
  onerack debug 20261123-1015 --task r0 --no-pdb
"""


def debug(
    job: Annotated[
        str, typer.Argument(metavar="JOBDIR", help="The job's directory, its id, the beginning of it, or `last`.")
    ],
    task: Annotated[
        str,
        typer.Option(
            "--task", "-t", metavar="TASK", help="m17: map task 17; r3: reduce task 3; of a chain also stage-2/m17."
        ),
    ],
    record: Annotated[
        int | None,
        typer.Option("--record", metavar="N", help="Run only record N of the task, as its error message counts."),
    ] = None,
    pdb: Annotated[
        bool | None,
        typer.Option("--pdb/--no-pdb", help="Open pdb at the exception. Default: when this is a terminal."),
    ] = None,
) -> None:
    """Run one task of a job again in this process, under pdb.

    The task reads the same input as in the job and goes record by record. At the first exception of the job's own
    code pdb opens in the frame that raised it. Nothing is written to the job's output. The exit code is 1 if the task
    failed again.
    """
    from onerack.mapreduce.history import load_job
    from onerack.mapreduce.worker.debug import debug_task

    # The directory of a chain's later stage holds a spec and no job of its own; the error of a failed job names it.
    directory = job if Path(job, "spec.msgpack").exists() else load_job(job).directory
    failure = debug_task(directory, task, record, pdb=sys.stdin.isatty() if pdb is None else pdb)
    if failure is not None:
        raise typer.Exit(failures.FAILED)
