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

_STYLES = {"done": "green", "failed": "red", "interrupted": "yellow", "lost": "red", "running": "cyan"}


def history(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object: {jobs: [...]}.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="Show at most N jobs.")] = 20,
) -> None:
    """List the jobs that were run on this machine, the newest first.

    Jobs are kept in $ONERACK_HOME/jobs, by default ~/.local/state/onerack/jobs. Removing a job's directory there
    forgets the job; its output is not touched.
    """
    import msgspec

    from onerack.mapreduce.history import jobs_directory, list_jobs

    records = list_jobs()[:limit]
    if as_json:
        print(json.dumps({"jobs": msgspec.to_builtins(records)}))
    elif not records:
        print(f"no jobs yet in {jobs_directory()}; try: onerack demo")
    else:
        _print_table(records)


def _print_table(records: list[JobRecord]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from onerack.cli.amounts import seconds_text
    from onerack.mapreduce.sizes import format_size

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("job", "name", "state", "began"):
        table.add_column(heading, no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("input", justify="right", no_wrap=True)
    table.add_column("output", overflow="fold")
    for record in records:
        table.add_row(
            record.job,
            Text(record.name),
            Text(record.state, style=_STYLES.get(record.state, "")),
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.began_at)),
            seconds_text(record.seconds),
            format_size(record.stages[0].metrics.bytes_in if record.stages else 0),
            Text(record.output),
        )
    Console(soft_wrap=True).print(table)
