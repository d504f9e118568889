"""The door: a split and its format become a reader.

The idea: everything that depends on the format is behind one table, so that a worker knows nothing of formats.

The rule: opening a split opens no file; a missing file is reported when its turn comes, with its name.
"""

from __future__ import annotations

from typing import Final

from onerack.mapreduce.inputs.csv_reader import CsvReader
from onerack.mapreduce.inputs.fixed import FixedReader
from onerack.mapreduce.inputs.jsonl import JsonlReader
from onerack.mapreduce.inputs.pairs import PairsReader
from onerack.mapreduce.inputs.records import ByteBlock, OnBad, RecordBlock, RecordUnreadable
from onerack.mapreduce.inputs.split_reader import SplitReader
from onerack.mapreduce.inputs.text import TextReader
from onerack.mapreduce.inputs.whole import WholeReader
from onerack.mapreduce.messages import InputFormat, Split

__all__ = ["ByteBlock", "OnBad", "RecordBlock", "RecordUnreadable", "SplitReader", "open_split"]

READERS: Final[dict[str, type[SplitReader]]] = {
    "text": TextReader,
    "file": WholeReader,
    "jsonl": JsonlReader,
    "csv": CsvReader,
    "fixed": FixedReader,
    "pairs": PairsReader,
}


def open_split(split: Split, format: InputFormat) -> SplitReader:
    """The reader of one split. Raises: UsageError: the format's settings make no sense."""
    if format.name == "parquet":
        # Imported when needed: Arrow's Parquet brings all of its remote file systems, which every worker would pay for.
        from onerack.mapreduce.inputs.parquet import ParquetReader

        return ParquetReader(split, format)
    return READERS[format.name](split, format)
