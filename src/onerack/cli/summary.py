"""The summary of a finished job, for people and as an object.

    done: wordcount in 4.21 s, 119 MB/s
      input     500.0 MB, 11,234,567 records
      shuffled  93.1 MB in 4 partitions; the largest holds 1.1x the mean
      output    80.2 MB, 6,300,000 records in 4 files
      retries   1
      counters  blank_lines  2,114
      files     counts/part-00000 … part-00003
      job       20261123-101502-3f9a

The rule: a line appears only when it says something; the object of --json always has every field.
"""

from __future__ import annotations

from typing import Any

import msgspec

from onerack.cli.amounts import count_text, input_text, plural, rate_text, seconds_text
from onerack.mapreduce.result import JobResult
from onerack.mapreduce.sizes import format_size


def summary_object(result: JobResult) -> dict[str, Any]:
    """What `onerack run --json` prints for a job that is done."""
    return {
        "job": result.job,
        "name": result.name,
        "state": "done",
        "exit_code": 0,
        "output": result.output,
        "parts": list(result.parts),
        "seconds": round(result.seconds, 3),
        "bytes_per_second": round(result.throughput),
        "metrics": msgspec.to_builtins(result.metrics),
        "counters": dict(result.counters),
        "partition_bytes": list(result.partition_bytes),
        "skew": round(skew(result.partition_bytes), 2),
        "retries": result.retries,
        "workers_lost": result.workers_lost,
        "quarantined": len(result.quarantined),
        "warnings": list(result.warnings),
        "directory": result.directory,
    }


def summary_lines(result: JobResult) -> list[str]:
    """What `onerack run` prints for a job that is done."""
    metrics = result.metrics
    title = f"done: {result.name} in {seconds_text(result.seconds)}"
    if metrics.bytes_in:
        title += f", {rate_text(result.throughput)}"
    rows = [("input", input_text(metrics.bytes_in, metrics.records_in))]
    if result.partition_bytes:
        rows.append(("shuffled", _shuffled_text(metrics.bytes_shuffled, result.partition_bytes)))
    files = plural(len(result.parts), "file")
    rows.append(("output", f"{format_size(metrics.bytes_out)}, {plural(metrics.records_out, 'record')} in {files}"))
    if metrics.spills:
        rows.append(("spills", f"{count_text(metrics.spills)} (more than fitted into memory; see --memory)"))
    if result.retries:
        rows.append(("retries", count_text(result.retries)))
    if result.workers_lost:
        rows.append(("lost", f"{plural(result.workers_lost, 'worker')}; what they were running was run again"))
    if result.quarantined:
        bad_records = plural(len(result.quarantined), "bad record")
        rows.append(("skipped", f"{bad_records}, kept in {result.output}/_quarantine"))
    rows += counter_rows(result.counters)
    rows += [("note", warning) for warning in result.warnings]
    rows.append(("files", _files_text(list(result.parts))))
    rows.append(("job", f"{result.job}   (onerack show {result.job})"))
    return [title, *(f"  {name:<9} {text}" for name, text in rows)]


def skew(partition_bytes: tuple[int, ...] | list[int]) -> float:
    """Size of the largest partition in units of the mean; 1.0 is perfectly even, also when there is nothing."""
    total = sum(partition_bytes)
    return max(partition_bytes) * len(partition_bytes) / total if total else 1.0


def _shuffled_text(bytes_shuffled: int, partition_bytes: tuple[int, ...]) -> str:
    text = f"{format_size(bytes_shuffled)} in {plural(len(partition_bytes), 'partition')}"
    if len(partition_bytes) > 1 and any(partition_bytes):
        text += f"; the largest holds {skew(partition_bytes):.1f}x the mean"
    return text


def counter_rows(counters: dict[str, int]) -> list[tuple[str, str]]:
    """One row for each counter; only the first bears the heading."""
    width = max((len(name) for name in counters), default=0)
    lines = [f"{name:<{width}}  {count_text(count)}" for name, count in sorted(counters.items())]
    return [("" if number else "counters", line) for number, line in enumerate(lines)]


def _files_text(parts: list[str]) -> str:
    if not parts:
        return "none"
    return parts[0] if len(parts) == 1 else f"{parts[0]} … {parts[-1].rpartition('/')[2]}"
