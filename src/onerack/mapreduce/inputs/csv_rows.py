"""CSV rows: which bytes of a file are one row, and what its fields are.

The idea: Python's own csv reader decides what a row is, behind every door, so that all doors agree. It pulls lines
from a feed, as many as a row needs, and the number of lines it has pulled tells where in the file the row lies.

The rules: with quotes a newline may be data, and nobody can tell from the middle of a file whether it is; so a CSV
file is ONE split, unless the job promises `options["newlines_in_values"] = False`. A row of another width than the
header, or of undecodable bytes, or one whose quote is never closed, is a bad record; an empty line is none at all.

Options: `delimiter` (","), `quotechar` ('"'), `header` (True; False: the fields are named by `columns`, or c0, c1,
...), `columns` (with a header: the names of those that are wanted), `newlines_in_values` (True).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from onerack.errors import InputError, UsageError
from onerack.mapreduce.inputs.chunks import LINE_BYTES_MAX
from onerack.mapreduce.inputs.line_reader import Stretch, undecodable
from onerack.mapreduce.inputs.records import ByteOrigin, PathOffsets
from onerack.mapreduce.messages import InputFormat

OPTIONS: Final = frozenset(("delimiter", "quotechar", "header", "columns", "newlines_in_values"))
FIELD_CHARACTERS_MAX: Final = 2**31 - 1
"""In place of the csv module's own limit (131,072), which is the process's, not the file's."""
_END: Final = "\n"
"""Fed after the last line: alone it makes an empty row, inside an open quote it is swallowed."""


def may_be_cut(format: InputFormat) -> bool:
    """Whether the job promises that no quoted field holds a newline."""
    return format.options.get("newlines_in_values", True) is False


def check_options(format: InputFormat) -> None:
    """Raises: UsageError: an option is unknown, or its value cannot be meant."""
    for name in format.options:
        if name not in OPTIONS:
            raise UsageError(f"csv has no option {name!r}; there are {', '.join(sorted(OPTIONS))}")
    for name in ("delimiter", "quotechar"):
        mark = format.options.get(name, ",")
        if not isinstance(mark, str) or len(mark) != 1 or mark in "\r\n":
            raise UsageError(f"csv option {name}={mark!r}: must be one character, and no line end")
    columns = format.options.get("columns")
    if columns is not None and not (isinstance(columns, list | tuple) and all(isinstance(c, str) for c in columns)):
        raise UsageError(f"csv option columns={columns!r}: must be a list of names")


class Rows(NamedTuple):
    """Parsed rows, empty lines left out; the origin has one place for each."""

    fields: list[list[str]]
    origin: ByteOrigin
    broken: dict[int, str]
    """Rows that are none, by index, and why."""


class LineFeed:
    """The lines of one fragment, pulled by the csv reader, and kept until it is known where their rows end."""

    def __init__(self, path: str, stretches: Iterator[Stretch], format: InputFormat) -> None:
        self.path = path
        self.chunks = 0
        """Stretches fed so far."""
        self.lines = 0
        """Lines fed so far."""
        self._stretches = stretches
        self._format = format
        self._data = b""
        self._base = 0
        """Offset in the file of the first kept byte."""
        self._starts: npt.NDArray[np.int64] = np.empty(0, np.int64)
        """Of the kept lines, in the file."""
        self._dropped = 0
        """Lines before the kept ones."""

    def stretches(self) -> Iterator[tuple[list[str], ByteOrigin]]:
        """Stretches of lines as they come, for a reader that keeps its own account of them."""
        for codec, origin in self._stretches:
            if len(origin.stops):
                lines = list(io.StringIO(self._decoded(codec.encoding, origin), newline="\n"))
                if len(lines) != len(origin.stops):
                    raise InputError(self.path, f"is not valid {codec.encoding}: its newlines are not its line ends")
                yield lines, origin

    def keeping(self, stretches: Iterator[tuple[list[str], ByteOrigin]]) -> Iterator[str]:
        """All lines of these stretches, kept until `take`, and the end mark."""
        return chain(chain.from_iterable(map(self._keep, stretches)), [_END])

    def _decoded(self, encoding: str, origin: ByteOrigin) -> str:
        """The text of all lines. Undecodable bytes of a strict job come as surrogates, so that their rows show."""
        data = origin.data[int(origin.starts[0]) :]
        errors = "surrogateescape" if self._format.errors == "strict" else self._format.errors
        try:
            return data.decode(encoding, errors)
        except UnicodeDecodeError as error:
            raise InputError(self.path, undecodable(encoding, error)) from error

    def _keep(self, stretch: tuple[list[str], ByteOrigin]) -> list[str]:
        lines, origin = stretch
        self.chunks += 1
        self.lines += len(lines)
        offsets = origin.keys.offsets
        if not self._data:
            self._base = int(offsets[0] - origin.starts[0])
        self._data += origin.data
        self._starts = np.concatenate([self._starts, offsets])
        if len(self._data) > LINE_BYTES_MAX:
            raise InputError(
                self.path,
                f"the row at byte {self._starts[0]} is longer than {LINE_BYTES_MAX} bytes; a quote that is never "
                "closed? set another quotechar",
            )
        return lines

    def take(self, lines: list[int]) -> ByteOrigin:
        """The places of the next rows, given how many lines had been pulled when each ended; forgets their lines."""
        stops = np.minimum(np.array(lines, np.int64), self.lines) - self._dropped
        kept = len(self._starts)
        bounds = np.append(self._starts, self._base + len(self._data))
        begins = bounds[np.concatenate([[0], stops[:-1]])]
        ends = bounds[stops]
        origin = ByteOrigin(
            PathOffsets([self.path], [0], begins), self._data, begins - self._base, ends - self._base, b"\n"
        )
        last = int(stops[-1])
        self._data = self._data[int(bounds[last]) - self._base :]
        self._base = int(bounds[last])
        self._starts = self._starts[min(last, kept) :]
        self._dropped += last
        return origin


def parsed_rows(feed: LineFeed, dialect: dict[str, Any]) -> Iterator[Rows]:
    """All rows of a feed, some for each stretch. From the first stretch on that has more in it, with more care."""
    csv.field_size_limit(FIELD_CHARACTERS_MAX)
    stretches = feed.stretches()
    for lines, origin in stretches:
        rows = _rows_of_lines(lines, dialect)
        if rows is None:
            yield from _rows_with_care(feed, chain([(lines, origin)], stretches), dialect)
            return
        yield _without_empty(rows, origin, {})


def _rows_of_lines(lines: list[str], dialect: dict[str, Any]) -> list[list[str]] | None:
    """One row for each line, in one call; None when a row has several lines, goes on behind them, or is none."""
    try:
        rows = list(csv.reader(chain(lines, [_END]), **dialect))
    except csv.Error:
        return None
    # Every row takes at least one line, so equal counts mean one line each, the end mark included.
    return rows[:-1] if len(rows) == len(lines) + 1 else None


def _rows_with_care(
    feed: LineFeed, stretches: Iterator[tuple[list[str], ByteOrigin]], dialect: dict[str, Any]
) -> Iterator[Rows]:
    """Rows of any number of lines, across the borders of stretches, broken ones among them."""
    reader = csv.reader(feed.keeping(stretches), **dialect)
    finished = False
    while not finished:
        rows: list[list[str]] = []
        lines: list[int] = []
        broken: dict[int, str] = {}
        finished = _pull(reader, feed, rows, lines, broken)
        if finished:
            _close(feed, rows, lines, broken)
        if rows:
            yield _without_empty(rows, feed.take(lines), broken)


def _pull(reader: Any, feed: LineFeed, rows: list[list[str]], lines: list[int], broken: dict[int, str]) -> bool:
    """Rows until the reader needs the stretch after the next; True when there are none any more."""
    chunks = feed.chunks + 1
    while True:
        try:
            for row in reader:
                rows.append(row)
                lines.append(reader.line_num)
                if feed.chunks > chunks:
                    return False
            return True
        except csv.Error as error:
            broken[len(rows)] = f"is no CSV row: {error}"
            rows.append([""])
            lines.append(reader.line_num)


def _close(feed: LineFeed, rows: list[list[str]], lines: list[int], broken: dict[int, str]) -> None:
    """Takes off the row that the end mark made; one that swallowed the mark has an open quote."""
    if rows and lines[-1] > feed.lines:
        if rows[-1]:
            broken.setdefault(len(rows) - 1, "has a quote that is never closed, so it runs to the end of the file")
        else:
            rows.pop()
            lines.pop()


def _without_empty(rows: list[list[str]], origin: ByteOrigin, broken: dict[int, str]) -> Rows:
    if [] not in rows:
        return Rows(rows, origin, broken)
    kept = [index for index, row in enumerate(rows) if row]
    places = {old: new for new, old in enumerate(kept)}
    return Rows(
        [rows[index] for index in kept], origin.only(kept), {places[index]: why for index, why in broken.items()}
    )
