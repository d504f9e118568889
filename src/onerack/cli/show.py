"""`onerack show`: all that is known of one job, running or over."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from onerack.mapreduce.history import JobRecord
    from onerack.mapreduce.messages import JobStatus

EXAMPLES = """\b
Examples:
  onerack show last
  onerack show 20261123-1015
  onerack show last --json | jq .counters
"""


def show(
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="The job's id, the beginning of it, its directory, or `last`.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show one job: how far it is, or how it ended.

    State, stages, counters, skew, output files, and why it failed if it did.
    """
    import msgspec

    from onerack.mapreduce.history import load_job

    record = load_job(job)
    if as_json:
        print(json.dumps(msgspec.to_builtins(record)))
    else:
        print("\n".join(record_lines(record)))


def record_lines(record: JobRecord) -> list[str]:
    """A job's record as text; a line appears only when it says something."""
    from onerack.cli.amounts import count_text, plural, seconds_text
    from onerack.cli.summary import counter_rows, skew
    from onerack.mapreduce.sizes import format_size

    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.began_at))
    rows = [
        ("began", f"{began}, took {seconds_text(record.seconds)} with {plural(record.workers, 'worker')}"),
        ("input", " ".join(record.inputs)),
        ("output", record.output),
    ]
    for number, stage in enumerate(record.stages, start=1):
        rows += _stage_rows(number if len(record.stages) > 1 else 0, stage)
    if sum(record.partition_bytes):
        sizes = ", ".join(format_size(size) for size in record.partition_bytes[:8])
        more = ", ..." if len(record.partition_bytes) > 8 else ""
        rows.append(("skew", f"{skew(record.partition_bytes):.1f}x the mean: {sizes}{more}"))
    if record.quarantined:
        rows.append(("skipped", f"{plural(record.quarantined, 'bad record')}, kept in {record.output}/_quarantine"))
    rows += counter_rows(record.counters)
    if record.parts:
        rows.append(("files", f"{count_text(len(record.parts))}: {record.parts[0]} ..."))
    rows.append(("directory", record.directory))
    lines = [f"{record.job}  {record.name}  {record.state}"]
    lines += [f"  {name:<9} {text}" for name, text in rows if text]
    return [*lines, "", record.error] if record.error else lines


def _stage_rows(number: int, stage: JobStatus) -> list[tuple[str, str]]:
    """The two phases of one stage; `number` 0: the job has only this stage."""
    from onerack.cli.amounts import input_text, plural
    from onerack.cli.live import troubles_text
    from onerack.mapreduce.sizes import format_size

    rows = []
    if number:
        rows.append((f"stage {number}", stage.name))
    metrics = stage.metrics
    rows.append(
        (
            "map",
            f"{stage.maps.completed}/{stage.maps.tasks} tasks, {input_text(metrics.bytes_in, metrics.records_in)}",
        )
    )
    if stage.reduces.tasks:
        rows.append(
            (
                "reduce",
                f"{stage.reduces.completed}/{stage.reduces.tasks} tasks, {format_size(metrics.bytes_shuffled)} "
                f"shuffled, {plural(metrics.records_out, 'record')} out",
            )
        )
    rows.append(("troubles", troubles_text(stage)))
    return rows
