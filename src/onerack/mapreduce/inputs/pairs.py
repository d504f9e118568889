"""Pairs: a record is a pair that an earlier stage wrote; key and value come back as they were.

The idea: outputs/pairs.py wrote typed columns in blocks; a block belongs to the fragment in which its first byte
lies. The rule: each block's checksum is verified before a value of it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from onerack.errors import InputError
from onerack.mapreduce.columns import Columns
from onerack.mapreduce.inputs.records import OnBad, Piece, RowOrigin
from onerack.mapreduce.inputs.sources import Source
from onerack.mapreduce.inputs.split_reader import SplitReader
from onerack.mapreduce.keys import decode_keys
from onerack.mapreduce.messages import Fragment
from onerack.mapreduce.outputs.pairs import decode_block, read_footer
from onerack.mapreduce.values import decode_values


class PairsReader(SplitReader):
    """What a stage of a chain left for the next."""

    def pieces(self, on_bad: OnBad | None) -> Iterator[Piece]:
        for path, first, columns in self.over_fragments(self._blocks):
            keys, values = _objects(columns)
            size = columns.keys.nbytes + columns.values.nbytes
            self.records += len(keys)
            yield Piece(keys, values, size, RowOrigin(path, first, list(zip(keys, values, strict=True))))

    def batches(self) -> Iterator[Any]:
        """Columns `key` and `value`. Raises: InputError: values that no column holds."""
        for path, _, columns in self.over_fragments(self._blocks):
            try:
                yield pa.RecordBatch.from_arrays(list(map(pa.array, _objects(columns))), ["key", "value"])
            except (pa.ArrowException, TypeError, OverflowError) as error:
                raise InputError(path, f"has pairs that no column holds: {error}; use map instead") from error

    def _blocks(self, source: Source, fragment: Fragment) -> Iterator[tuple[str, int, Columns]]:
        row = 0
        for block in read_footer(source):
            if fragment.start <= block.offset < fragment.start + fragment.length:
                columns = decode_block(source.path, block, source.read_at(block.offset, block.size))
                source.consumed += block.size
                yield source.path, row, columns
            row += block.rows


def _objects(columns: Columns) -> tuple[list[Any], list[Any]]:
    keys = decode_keys(columns.key_kind, columns.keys)
    return keys, decode_values(columns.value_kind, columns.values)
