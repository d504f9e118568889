"""The door for attempts: one part file, written under the attempt's own name.

The idea: a task may run twice at once, and both attempts may finish; so each writes to a name that holds its
attempt number, and only the client, which knows the one accepted attempt, gives final names (destination.py).

The rule: `close` gives a complete file and its checksum, `abort` leaves nothing, and a writer that failed is aborted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from onerack.errors import UsageError
from onerack.mapreduce.columns import Columns
from onerack.mapreduce.messages import AttemptId, OutputFormat, Part
from onerack.mapreduce.outputs.forms import Fixed, Form, JsonLines, Parquet, Text, Tsv, User, Write
from onerack.mapreduce.outputs.pairs import PairsForm
from onerack.mapreduce.outputs.sink import Sink

SUFFIXES: Final = {
    "tsv": "", "text": "", "fixed": "", "user": "", "jsonl": ".jsonl", "parquet": ".parquet", "pairs": ".pairs",
}  # fmt: skip
"""Plain lines and records are named as in the paper, part-00000; a format that needs a reader of its own says so."""
_COMPRESSED: Final = {"none": "", "gzip": ".gz", "zstd": ".zst"}


def suffix_of(format: OutputFormat) -> str:
    """The end of a part's name. Parquet compresses within, pairs are not compressed."""
    inner = SUFFIXES[format.name]
    return inner if format.name in ("parquet", "pairs") else inner + _COMPRESSED[format.compression]


def part_name(attempt: AttemptId, format: OutputFormat) -> str:
    """The name of an attempt's part while nobody has accepted it."""
    return f"{attempt.kind}-{attempt.index:05d}.{attempt.number}{suffix_of(format)}"


class PartWriter:
    """Writes one part."""

    def __init__(self, name: str, sink: Sink, form: Form, format_name: str = "") -> None:
        self._name = name
        self.format_name = format_name
        """For code that can write some format's bytes by itself (`write_raw`), but not every format's."""
        self._sink = sink
        self._form = form
        self.rows = 0

    @property
    def bytes_written(self) -> int:
        """Bytes in the file so far."""
        return self._sink.size

    def write_columns(self, columns: Columns) -> None:
        """A batch of pairs."""
        if columns.rows:
            self._form.write_columns(columns)
            self.rows += columns.rows

    def write_pairs(self, pairs: Sequence[tuple[object, object]]) -> None:
        """Pairs as objects."""
        if pairs:
            self._form.write_pairs(pairs)
            self.rows += len(pairs)

    def write_raw(self, buffer: Any, rows: int = 0) -> None:
        """Any contiguous buffer of bytes in the output's own format; it must not change afterwards."""
        if isinstance(self._form, Parquet | PairsForm):
            raise UsageError("raw bytes cannot be written into a parquet or pairs file")
        self._sink.write(memoryview(buffer).cast("B"))
        self.rows += rows

    def close(self) -> Part:
        """Completes the file. Raises: StorageFull, and then nothing is left of it."""
        try:
            self._sink.write(self._form.finish())
            self._sink.close()
        except BaseException:
            self._sink.abort()
            raise
        return Part(self._name, self.rows, self._sink.size, self._sink.checksum)

    def abort(self) -> None:
        """Removes what was written."""
        self._sink.abort()

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.abort()


def open_part(
    staging: str,
    attempt: AttemptId,
    format: OutputFormat,
    *,
    write: Write | None = None,
    allow_pickle: bool = False,
) -> PartWriter:
    """A new part in the staging directory. `write`: format "user" only. `allow_pickle`: the job's values="pickle".

    Raises: StorageFull: already now. UsageError: format "user" without a `write`.
    """
    name = part_name(attempt, format)
    separator = "" if staging.endswith("/") else "/"
    compression = "none" if format.name in ("parquet", "pairs") else format.compression
    if format.name == "user" and write is None:
        raise UsageError("output format 'user' needs the job's own write(file, key, value)")
    sink = Sink(f"{staging}{separator}{name}", compression)
    try:
        return PartWriter(name, sink, _form(sink, format, write, allow_pickle), format.name)
    except BaseException:
        sink.abort()
        raise


def _form(sink: Sink, format: OutputFormat, write: Write | None, allow_pickle: bool) -> Form:
    match format.name:
        case "parquet":
            return Parquet(sink, format.compression)
        case "pairs":
            return PairsForm(sink, allow_pickle)
        case "user":
            assert write is not None
            return User(sink, write)
        case "tsv":
            return Tsv(sink)
        case "text":
            return Text(sink)
        case "jsonl":
            return JsonLines(sink)
        case "fixed":
            return Fixed(sink)
