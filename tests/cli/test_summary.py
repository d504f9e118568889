"""The summary: every figure of a finished job, each on a line only when it says something."""

from __future__ import annotations

import json

import msgspec
import pytest

from onerack.cli.summary import skew, summary_lines, summary_object
from onerack.mapreduce.messages import Metrics, OutputFormat, Quarantined, RecordAt
from onerack.mapreduce.result import JobResult

MB = 1024 * 1024
RESULT = JobResult(
    job="20261123-101502-3f9a",
    name="wordcount",
    output="counts",
    parts=("counts/part-00000", "counts/part-00001"),
    format=OutputFormat(),
    counters={"blank lines": 2114, "odd": 1},
    metrics=Metrics(records_in=1000, records_out=20, bytes_in=500 * MB, bytes_shuffled=90 * MB, bytes_out=3 * MB),
    seconds=4.0,
    partition_bytes=(60 * MB, 30 * MB),
    retries=1,
    workers_lost=2,
    quarantined=(Quarantined(RecordAt(3), b"x", "Traceback"),),
    warnings=("big.gz cannot be split",),
    directory="/jobs/20261123-101502-3f9a",
)


def test_the_summary_says_it_all() -> None:
    assert summary_lines(RESULT) == [
        "done: wordcount in 4.00 s, 125.0 MB/s",
        "  input     500.0 MB, 1,000 records",
        "  shuffled  90.0 MB in 2 partitions; the largest holds 1.3x the mean",
        "  output    3.0 MB, 20 records in 2 files",
        "  retries   1",
        "  lost      2 workers; what they were running was run again",
        "  skipped   1 bad record, kept in counts/_quarantine",
        "  counters  blank lines  2,114",
        "            odd          1",
        "  note      big.gz cannot be split",
        "  files     counts/part-00000 … part-00001",
        "  job       20261123-101502-3f9a   (onerack show 20261123-101502-3f9a)",
    ]


def test_what_did_not_happen_is_not_mentioned() -> None:
    plain = msgspec.structs.replace(
        RESULT,
        retries=0,
        workers_lost=0,
        quarantined=(),
        counters={},
        warnings=(),
        partition_bytes=(),
        parts=RESULT.parts[:1],
    )
    text = "\n".join(summary_lines(plain))
    for word in ("retries", "lost", "skipped", "counters", "shuffled", "note", "spills", "…"):
        assert word not in text
    spilled = msgspec.structs.replace(RESULT, metrics=msgspec.structs.replace(RESULT.metrics, spills=7))
    assert any(line.startswith("  spills    7 ") for line in summary_lines(spilled))


def test_records_that_nobody_counted_are_not_said_to_be_none() -> None:
    uncounted = msgspec.structs.replace(RESULT, metrics=msgspec.structs.replace(RESULT.metrics, records_in=0))
    assert summary_lines(uncounted)[1] == "  input     500.0 MB"
    empty = msgspec.structs.replace(RESULT, metrics=Metrics())
    assert summary_lines(empty)[1] == "  input     0 B, 0 records"


def test_the_object_has_every_field_and_is_json() -> None:
    described = json.loads(json.dumps(summary_object(RESULT)))
    assert described["exit_code"] == 0
    assert described["skew"] == 1.33
    assert described["metrics"]["records_in"] == 1000
    assert described["counters"] == {"blank lines": 2114, "odd": 1}
    assert described["quarantined"] == 1
    assert described["parts"] == list(RESULT.parts)
    assert described["bytes_per_second"] == 125 * MB


@pytest.mark.parametrize(
    ("sizes", "expected"), [((), 1.0), ((0, 0), 1.0), ((5,), 1.0), ((1, 1, 1, 1), 1.0), ((0, 0, 0, 8), 4.0)]
)
def test_skew_is_the_largest_in_units_of_the_mean(sizes: tuple[int, ...], expected: float) -> None:
    assert skew(sizes) == expected
