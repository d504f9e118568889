"""Parquet: a record is a row; key (path, row), value a dict, or batches as they are.

The idea: a row group belongs to the fragment in which its first byte lies, so the planner cuts a file like any other
and several tasks read it. `map_batch` gets Arrow's batches untouched; only `map` pays for Python objects.

The rule: a file whose row groups are larger than a split gives some splits without rows, which costs next to nothing
(the footer is read) and changes nothing. Options: `columns`, the names of those that are wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq

from onerack.errors import InputError
from onerack.mapreduce.inputs.records import OnBad, Piece, RowOrigin
from onerack.mapreduce.inputs.sources import RemoteSource, Source, local_path
from onerack.mapreduce.inputs.split_reader import SplitReader
from onerack.mapreduce.messages import Fragment

BATCH_ROWS = 64 * 1024
RECORD_ROWS = 4096
"""Rows turned into Python objects at once."""


class _Rows(NamedTuple):
    """Some rows of one file."""

    path: str
    first: int
    batch: Any


class ParquetReader(SplitReader):
    """Rows of Parquet files."""

    def pieces(self, on_bad: OnBad | None) -> Iterator[Piece]:
        for path, first, batch in self.over_fragments(self._rows):
            for start in range(0, batch.num_rows, RECORD_ROWS):
                part = batch.slice(start, RECORD_ROWS)
                values = part.to_pylist()
                keys = [(path, first + start + row) for row in range(len(values))]
                self.records += len(values)
                yield Piece(keys, values, part.nbytes, RowOrigin(path, first + start, values))

    def batches(self) -> Iterator[Any]:
        """The file's own columns."""
        for rows in self.over_fragments(self._rows):
            yield rows.batch

    def _rows(self, source: Source, fragment: Fragment) -> Iterator[_Rows]:
        """The rows of the row groups that start in the fragment."""
        with self._opened(source) as file:
            columns = self._columns(file, fragment.path)
            row = 0
            for index in range(file.metadata.num_row_groups):
                group = file.metadata.row_group(index)
                if fragment.start <= _first_byte(group) < fragment.start + fragment.length:
                    yield from self._group(file, index, fragment.path, row, columns)
                    source.consumed += _stored_bytes(group)
                row += group.num_rows

    def _group(self, file: Any, index: int, path: str, first: int, columns: list[str] | None) -> Iterator[_Rows]:
        batches = file.iter_batches(BATCH_ROWS, row_groups=[index], columns=columns, use_threads=False)
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise InputError(path, f"its row group {index} is damaged: {error}") from error
            if batch is None:
                return
            yield _Rows(path, first, batch)
            first += batch.num_rows

    def _opened(self, source: Source) -> Any:
        try:
            if isinstance(source, RemoteSource):
                return pq.ParquetFile(source.file)
            return pq.ParquetFile(pa.OSFile(local_path(source.path), "rb"))
        except (pa.ArrowException, OSError) as error:
            raise InputError(source.path, f"is no readable Parquet file: {error}") from error

    def _columns(self, file: Any, path: str) -> list[str] | None:
        wanted = cast("list[str] | None", self.format.options.get("columns"))
        missing = [name for name in wanted or () if name not in file.schema_arrow.names]
        if missing:
            raise InputError(path, f"has no column {missing[0]!r}; it has {', '.join(file.schema_arrow.names)}")
        return wanted


def _first_byte(group: Any) -> int:
    """Where a row group begins: at the first page of its first column."""
    if not group.num_columns:
        return 0
    column = group.column(0)
    return int(column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset)


def _stored_bytes(group: Any) -> int:
    return sum(group.column(index).total_compressed_size for index in range(group.num_columns))
