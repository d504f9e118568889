"""Records: what a reader hands out.

The idea: calling Python once per record is the price of a plain `map`; everything before that call is paid once per
block. So a `RecordBlock` holds some ten thousand keys and values made at C speed, and keeps the bytes they came from,
so that the one record on which user code fails can be shown and set aside as it was.

The rule: `keys`, `values` have equal lengths and the order of the file; nobody changes a block after it was made.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain, pairwise, repeat
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from onerack.errors import InputError
from onerack.mapreduce.messages import RecordAt

PREVIEW_CHARACTERS = 100

OnBad = Callable[[RecordAt, bytes, str], None]
"""Called with a record that is no record of its format, its bytes, and what is wrong with it."""


class RecordUnreadable(InputError):
    """A record's bytes are not what the format says; `record` and `raw` show which."""

    def __init__(self, record: RecordAt, raw: bytes, reason: str) -> None:
        super().__init__(record.path, f"record at byte {record.offset}: {reason}")
        self.record = record
        self.raw = raw
        self.why = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return (RecordUnreadable, (self.record, self.raw, self.why))


def preview_of(raw: bytes) -> str:
    """The first characters of a record for people, on one line."""
    text = raw[: PREVIEW_CHARACTERS * 4].decode("utf-8", "replace")
    if text.isprintable():  # A tracked attempt asks for every record; nearly all are such.
        return text[:PREVIEW_CHARACTERS]
    return "".join(c if c.isprintable() else "\N{MIDDLE DOT}" for c in text[:PREVIEW_CHARACTERS])


class ByteBlock(NamedTuple):
    """Whole records as they lie in the file (decompressed), for `map_block` and the builtin scanners."""

    path: str
    offset: int
    """Of the block's first byte, in the file's plain bytes."""
    data: Any
    """bytes, or a memoryview of the mapped file that stays valid as long as someone holds it."""


class PathOffsets(Sequence[tuple[str, int]]):
    """The keys (path, offset) of records of one file, or of several, made when they are asked for.

    Iterating goes through `zip`, which uses one tuple again and again when nobody keeps it: a `map` that ignores its
    key pays a few nanoseconds for it instead of an allocation.
    """

    __slots__ = ("_firsts", "_offsets", "_paths")

    def __init__(self, paths: Sequence[str], firsts: Sequence[int], offsets: npt.NDArray[np.int64]) -> None:
        self._paths = paths
        self._firsts = firsts
        """Index of the first record of each file, in order; equal where a file has none."""
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        if len(self._paths) == 1:
            return zip(repeat(self._paths[0]), self._offsets.tolist(), strict=False)
        runs = chain.from_iterable(map(repeat, self._paths, self.counts()))
        return zip(runs, self._offsets.tolist(), strict=True)

    @overload
    def __getitem__(self, index: int) -> tuple[str, int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[str, int]]: ...
    def __getitem__(self, index: int | slice) -> tuple[str, int] | list[tuple[str, int]]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        offset = int(self._offsets[index])
        place = index if index >= 0 else index + len(self)
        return (self._paths[bisect_right(self._firsts, place) - 1], offset)

    def counts(self) -> list[int]:
        """How many records each file has."""
        return [stop - start for start, stop in pairwise([*self._firsts, len(self._offsets)])]

    @property
    def paths(self) -> Sequence[str]:
        return self._paths

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        return self._offsets

    def only(self, kept: Sequence[int]) -> PathOffsets:
        """The keys of the records `kept`, which are in order."""
        firsts = [bisect_left(kept, first) for first in self._firsts]
        return PathOffsets(self._paths, firsts, self._offsets[list(kept)])


class ByteOrigin(NamedTuple):
    """Where the records of a piece lie: record i is data[starts[i]:stops[i]], and keys[i] says where in which file."""

    keys: PathOffsets
    data: bytes
    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]
    newline: bytes = b""
    """What ends a record and is no part of it."""

    def place(self, index: int) -> tuple[str, int]:
        return self.keys[index]

    def raw(self, index: int) -> bytes:
        return self.data[int(self.starts[index]) : int(self.stops[index])].removesuffix(self.newline)

    def only(self, kept: Sequence[int]) -> ByteOrigin:
        """The records `kept`, which are in order."""
        chosen = list(kept)
        return self._replace(keys=self.keys.only(kept), starts=self.starts[chosen], stops=self.stops[chosen])


class RowOrigin(NamedTuple):
    """Rows of a format whose records are not stretches of bytes: raw is the value's repr, offset the row."""

    path: str
    first: int
    values: Sequence[Any]

    def place(self, index: int) -> tuple[str, int]:
        return self.path, self.first + index

    def raw(self, index: int) -> bytes:
        return repr(self.values[index]).encode("utf-8", "backslashreplace")


class Piece(NamedTuple):
    """Records of one stretch of a file, or of some small files."""

    keys: Sequence[Any]
    values: Sequence[Any]
    size_bytes: int
    origin: ByteOrigin | RowOrigin


class RecordBlock:
    """Records in order, of one file or of several small ones."""

    __slots__ = ("_firsts", "_pieces", "keys", "size_bytes", "values")

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces
        self._firsts = list(accumulate((len(piece.values) for piece in pieces[:-1]), initial=0))
        self.size_bytes = sum(piece.size_bytes for piece in pieces)
        if len(pieces) == 1:
            self.keys, self.values = pieces[0].keys, pieces[0].values
        else:
            self.keys = list(chain.from_iterable(piece.keys for piece in pieces))
            self.values = list(chain.from_iterable(piece.values for piece in pieces))

    def __len__(self) -> int:
        return len(self.values)

    def _locate(self, index: int) -> tuple[Piece, int]:
        if not 0 <= index < len(self.values):
            raise IndexError(f"record {index} of a block of {len(self.values)}")
        place = bisect_right(self._firsts, index) - 1
        return self._pieces[place], index - self._firsts[place]

    def describe(self, index: int, number: int = -1) -> RecordAt:
        """Where record `index` of this block lies. `number`: its place in the split, which only the caller counts."""
        piece, within = self._locate(index)
        path, offset = piece.origin.place(within)
        return RecordAt(number, path, offset, preview_of(piece.origin.raw(within)))

    def raw(self, index: int) -> bytes:
        """The record's bytes as they lie in the file, without a line end."""
        piece, within = self._locate(index)
        return piece.origin.raw(within)
