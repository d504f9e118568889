"""`onerack history`: the jobs that were run on this machine, the newest first."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from onerack.mapreduce.history import JobRecord

EXAMPLES = """\b
Examples:
  onerack history
  onerack history --limit 5
  onerack history --json | jq -r '.jobs[].output'
"""

_HEADINGS = ("job", "name", "state", "began", "took", "input", "output")
_STATE = _HEADINGS.index("state")
_COLOURS = {"done": "green", "failed": "red", "lost": "red", "interrupted": "yellow", "running": "cyan"}


def history(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object: {jobs: [...]}.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="Show at most N jobs.")] = 20,
) -> None:
    """List the jobs that were run on this machine, the newest first.

    Jobs are kept in $ONERACK_HOME/jobs, by default ~/.local/state/onerack/jobs: the newest 1,000. Removing a job's
    directory there forgets the job; its output is not touched. What killed jobs have left on the disk is removed.
    """
    import msgspec

    from onerack.config import MapReduceConfig
    from onerack.mapreduce.history import jobs_directory, list_jobs
    from onerack.mapreduce.leftovers import remove_leftovers

    remove_leftovers(MapReduceConfig())
    records = list_jobs()[:limit]
    if as_json:
        print(json.dumps({"jobs": msgspec.to_builtins(records)}))
    elif not records:
        print(f"no jobs yet in {jobs_directory()}; try: onerack demo")
    else:
        _print_table(records)


def _print_table(records: list[JobRecord]) -> None:
    """Aligned columns. The last one, a path of any length, is not: what follows it on the line is nothing."""
    rows = [_HEADINGS, *(_row(record) for record in records)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS) - 1)]
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        if number:
            cells[_STATE] = typer.style(cells[_STATE], fg=_COLOURS[records[number - 1].state])
        typer.echo("  ".join([*cells, row[-1]]))  # which leaves colours out where nobody sees them


def _row(record: JobRecord) -> tuple[str, ...]:
    from onerack.cli.amounts import seconds_text
    from onerack.mapreduce.sizes import format_size

    return (
        record.job,
        record.name,
        record.state,
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.began_at)),
        seconds_text(record.seconds),
        format_size(record.stages[0].metrics.bytes_in if record.stages else 0),
        record.output,
    )
