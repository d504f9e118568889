"""CSV: a record is a row; key (path, byte offset of the row), value a dict of its columns, all of them text.

The idea: csv_rows.py cuts rows; here they get their names, and the header its rights. Types are not guessed, because
a guess would depend on where the file was cut: `int(row["price"])` says what is meant.

The rule: the header belongs to the file, not to a split; whoever reads a later piece of the file looks it up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple, cast

import pyarrow as pa

from onerack.errors import InputError
from onerack.mapreduce.inputs.csv_rows import LineFeed, Rows, check_options, may_be_cut, parsed_rows
from onerack.mapreduce.inputs.line_reader import LineReader
from onerack.mapreduce.inputs.lines import BYTES, LineCodec, line_codec
from onerack.mapreduce.inputs.records import ByteBlock, OnBad, Piece
from onerack.mapreduce.inputs.sources import Source
from onerack.mapreduce.inputs.split_reader import BATCH_BYTES, BYTE_BLOCK_BYTES
from onerack.mapreduce.messages import Fragment, InputFormat, Split

HEADER_BYTES = 64 * 1024
"""Read at once to find the header of a file from the middle of it."""


class _Named(NamedTuple):
    """Rows and the names of their fields."""

    names: Sequence[str]
    rows: Rows


class CsvReader(LineReader):
    """Rows of CSV files."""

    def __init__(self, split: Split, format: InputFormat) -> None:
        check_options(format)
        super().__init__(split, format)
        if self.codec.encoding in ("utf-8", BYTES):
            self.codec = line_codec("utf-8-sig", format.errors)
        options = format.options
        self._dialect = {"delimiter": options.get("delimiter", ","), "quotechar": options.get("quotechar", '"')}
        self._has_header = bool(options.get("header", True))
        self._columns = cast("Sequence[str] | None", options.get("columns"))  # `check_options` has looked at it

    def is_whole(self, fragment: Fragment, codec: LineCodec) -> bool:
        return not may_be_cut(self.format) or super().is_whole(fragment, codec)

    # ------------------------------------------------------------------------------------ doors

    def pieces(self, on_bad: OnBad | None) -> Iterator[Piece]:
        for names, rows in self._named(self.block_bytes):
            good = self._good(names, rows, on_bad)
            wanted = self._wanted(names)
            if wanted is None:
                values = list(map(dict, map(zip, repeat(names), good.fields)))
            else:
                values = [{name: row[place] for name, place in wanted} for row in good.fields]
            size = int(rows.origin.stops[-1] - rows.origin.starts[0]) if len(rows.origin.stops) else 0
            yield Piece(good.origin.keys, values, size, good.origin)

    def batches(self) -> Iterator[Any]:
        """The file's columns, as text."""
        for names, rows in self._named(BATCH_BYTES):
            good = self._good(names, rows, None)
            if good.fields:
                wanted = self._wanted(names) or list(zip(names, range(len(names)), strict=True))
                columns = [pa.array(list(map(itemgetter(place), good.fields)), pa.string()) for _, place in wanted]
                yield pa.RecordBatch.from_arrays(columns, [name for name, _ in wanted])

    def byte_blocks(self, block_bytes: int = BYTE_BLOCK_BYTES) -> Iterator[ByteBlock]:
        """Rows as they lie in the file, without its header."""
        for _, rows in self._named(block_bytes):
            origin = rows.origin
            if len(origin.starts):
                path, offset = origin.keys[0]
                yield ByteBlock(path, offset, origin.data[int(origin.starts[0]) : int(origin.stops[-1])])

    # ------------------------------------------------------------------------------------ rows and names

    def _named(self, chunk_bytes: int) -> Iterator[_Named]:
        return self.over_fragments(partial(self._named_of, chunk_bytes=chunk_bytes))

    def _named_of(self, source: Source, fragment: Fragment, chunk_bytes: int) -> Iterator[_Named]:
        names: Sequence[str] | None = None
        if fragment.start and self._has_header:
            names = self._header_from_start(source, fragment)
        feed = LineFeed(fragment.path, self.stretches_of(source, fragment, chunk_bytes), self.format)
        for rows in parsed_rows(feed, self._dialect):
            if names is None and rows.fields:
                names = self._names(fragment.path, rows)
                if self._has_header:
                    rows = _rest(rows)
            if names is not None and rows.fields:
                yield _Named(names, rows)

    def _header_from_start(self, source: Source, fragment: Fragment) -> Sequence[str]:
        """The names that the file's first row gives. Requires: no newline in a quoted field."""
        consumed = source.consumed
        head = Fragment(fragment.path, 0, min(HEADER_BYTES, fragment.start))
        feed = LineFeed(fragment.path, self.stretches_of(source, head, HEADER_BYTES), self.format)
        names = next((self._names(head.path, rows) for rows in parsed_rows(feed, self._dialect) if rows.fields), None)
        source.consumed = consumed
        if names is None:
            raise InputError(fragment.path, f"has no header in its first {head.length} bytes")
        return names

    def _names(self, path: str, rows: Rows) -> Sequence[str]:
        """The names of the fields, from a file's first rows."""
        first = rows.fields[0]
        if not self._has_header:
            if self._columns is not None:
                return self._columns
            return [f"c{place}" for place in range(len(first))]
        if 0 in rows.broken:
            raise InputError(path, f"its header {rows.broken[0]}")
        twice = next((name for place, name in enumerate(first) if name in first[:place]), None)
        if twice is not None:
            raise InputError(path, f"its header has two columns named {twice!r}; name them apart")
        missing = [name for name in self._columns or () if name not in first]
        if missing:
            raise InputError(path, f"has no column {missing[0]!r}; it has {', '.join(first)}")
        return first

    def _wanted(self, names: Sequence[str]) -> list[tuple[str, int]] | None:
        """The columns that the job wants and their places; None for all."""
        if self._columns is None or not self._has_header:
            return None
        return [(name, names.index(name)) for name in self._columns]

    def _good(self, names: Sequence[str], rows: Rows, on_bad: OnBad | None) -> Rows:
        """The rows that are rows of this file; the others are reported."""
        fields, origin, broken = rows
        width = len(names)
        strange = dict(broken)
        if set(map(len, fields)) != {width}:
            for index, row in enumerate(fields):
                if len(row) != width:
                    strange.setdefault(index, f"has {len(row)} fields where {width} are expected")
        if self.format.errors == "strict" and not origin.data.isascii():
            reason = f"is not valid {self.format.encoding}"
            strange |= {index: reason for index, row in enumerate(fields) if _has_surrogates(row)}
        for index in sorted(strange):
            self.bad(on_bad, origin, index, strange[index])
        self.records += len(fields)
        if not strange:
            return rows
        kept = [index for index in range(len(fields)) if index not in strange]
        return Rows([fields[index] for index in kept], origin.only(kept), {})


def _rest(rows: Rows) -> Rows:
    """All rows but the first, which was the header."""
    kept = range(1, len(rows.fields))
    broken = {index - 1: why for index, why in rows.broken.items()}
    return Rows(rows.fields[1:], rows.origin.only(kept), broken)


def _has_surrogates(row: Sequence[str]) -> bool:
    """Whether a field holds bytes that were no text."""
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return True
    return False
