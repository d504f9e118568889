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

from onerack.config import GIB
from onerack.errors import UsageError
from onerack.mapreduce.messages import InputFormat, Metrics, OutputFormat, Quarantined

_READ_AS = {
    # What a job wrote as bytes may be no UTF-8; such bytes come back as they are, as Python's own `os.fsdecode` has it.
    "tsv": InputFormat("text", errors="surrogateescape"),
    "text": InputFormat("text", errors="surrogateescape"),
    "jsonl": InputFormat("jsonl"),
    "parquet": InputFormat("parquet"),
    "pairs": InputFormat("pairs"),
}


class JobResult(msgspec.Struct, frozen=True, kw_only=True):
    """A job that is done."""

    job: str
    name: str
    output: str
    """The output directory, or its URL."""
    parts: tuple[str, ...]
    """Its part files, in order of partition."""
    format: OutputFormat
    counters: dict[str, int]
    metrics: Metrics
    """Sums over all tasks of all stages; `bytes_in` and `records_in` of the first stage, `_out` of the last."""
    seconds: float
    partition_bytes: tuple[int, ...]
    """Shuffled bytes of each partition of the last stage: the skew."""
    retries: int
    """Attempts that failed and were made again."""
    workers_lost: int
    quarantined: tuple[Quarantined, ...]
    warnings: tuple[str, ...]
    """What the planner found odd about the input."""
    directory: str
    """The job's own directory in the history: logs, journal."""

    @property
    def throughput(self) -> float:
        """Input bytes per second."""
        return self.metrics.bytes_in / self.seconds if self.seconds else 0.0

    def rows(self) -> Iterator[tuple[Any, Any]]:
        """The output's (key, value) pairs, part by part, so in the order of the keys within each part.

        JSON Lines, Parquet and pairs give values of the types that were written. TSV has only text: keys stay text,
        and a value that reads as a number, or as the JSON of a list or object, is given as one. `text` has no keys:
        they are None.

        Raises: UsageError: the format is not one that can be read back.
        """
        from onerack.mapreduce.inputs.plan import plan
        from onerack.mapreduce.inputs.reader import open_split

        if self.format.name not in _READ_AS:
            raise UsageError(
                f"rows() cannot read output of the format {self.format.name!r}; read {self.output} yourself"
            )
        read_as = _READ_AS[self.format.name]
        for part in self.parts:
            for split in plan([part], read_as, split_bytes=GIB, slots=1).splits:
                for block in open_split(split, read_as).record_blocks():
                    yield from map(self._row, block.keys, block.values)

    def _row(self, key: Any, value: Any) -> tuple[Any, Any]:
        match self.format.name:
            case "tsv":
                return _parse_line(value)
            case "text":
                return None, value
            case "pairs":
                return key, value
            case _:
                return value["key"], value["value"]


def _parse_line(line: str) -> tuple[str, Any]:
    from onerack.mapreduce.outputs.tsv import unescape

    key, _, text = line.partition("\t")
    return unescape(key), _parse_value(unescape(text))


def _parse_value(text: str) -> Any:
    """`text` as the number, None, list or object that TSV writes so; everything else is text.

    Only what would be written exactly so again counts as a number: 007 and 1e3 stay text.
    """
    if text[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    for number in (int, float):
        try:
            if str(number(text)) == text:
                return number(text)
        except ValueError:
            continue
    return None if text == "None" else text
