"""`JobResult`: what `run` gives back when a job is done.

The idea: a plain picture of the finished job, and one door to its output, `rows()`, so that a notebook can go on with
the results without knowing how files of them look.

The rule: nothing here changes anything; the output lies in ordinary files that any other program may read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from onerack.errors import UsageError
from onerack.mapreduce.messages import Metrics, Quarantined

_UNESCAPED = {"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\\\": "\\"}


class JobResult(msgspec.Struct, frozen=True, kw_only=True):
    """A job that is done."""

    job: str
    name: str
    output: str
    """The output directory, or its URL."""
    parts: tuple[str, ...]
    """Its part files, in order of partition."""
    format: str
    """tsv, jsonl, parquet, ..."""
    counters: dict[str, int]
    metrics: Metrics
    """Sums over all tasks of all stages; `bytes_in` and `records_in` of the first stage, `_out` of the last."""
    seconds: float
    partition_bytes: tuple[int, ...]
    """Shuffled bytes of each partition of the last stage: the skew."""
    retries: int
    """Attempts that failed, or were lost with their worker, and were made again."""
    quarantined: tuple[Quarantined, ...]
    directory: str
    """The job's own directory in the history: logs, journal."""

    @property
    def throughput(self) -> float:
        """Input bytes per second."""
        return self.metrics.bytes_in / self.seconds if self.seconds else 0.0
