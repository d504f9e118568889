"""Pairs: the file between two stages of a chain. It gives back exactly the keys and values that were written.

    magic | block | block | ... | footer | u32 length of the footer | u32 its crc32 | magic      (little-endian)

A block is an Arrow IPC stream of one batch (k: canonical key bytes, v: typed values) whose schema's metadata names the
kinds; the footer is msgpack, a list of (offset, size, rows, crc32) for each block.

The idea: the shuffle's own columns are stored as they are, so a chain neither prints nor parses anything between its
stages; and a file of many blocks can be read by several map tasks, each block by the one in whose range it starts.

The rule: a block is used only if its checksum is right; what is damaged is `Corruption`.
"""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from itertools import groupby
from typing import Any, Final, NamedTuple, cast

import msgspec
import pyarrow as pa

from onerack.errors import BadKey, Corruption, InputError
from onerack.mapreduce.canonical import kind_of
from onerack.mapreduce.columns import Columns, KeyKind, ValueKind
from onerack.mapreduce.inputs.sources import Source
from onerack.mapreduce.outputs.forms import Form, Pairs, columns_of
from onerack.mapreduce.outputs.sink import Sink
from onerack.mapreduce.outputs.tsv import slices

MAGIC: Final = b"1RPAIRS1"
TAIL: Final = struct.Struct("<II8s")
FOOTER_BYTES_MAX: Final = 64 * 1024 * 1024


class Block(NamedTuple):
    """Where one block lies."""

    offset: int
    size: int
    rows: int
    checksum: int


class PairsForm(Form):
    """Writes such a file."""

    def __init__(self, sink: Sink, allow_pickle: bool) -> None:
        super().__init__(sink)
        self._allow_pickle = allow_pickle
        self._blocks: list[Block] = []
        self._offset = sink.write(MAGIC)

    def write_pairs(self, pairs: Pairs) -> None:
        for columns in self._columns_of(pairs):
            self.write_columns(columns)

    def _columns_of(self, pairs: Pairs) -> list[Columns]:
        """In one piece, as nearly always; else in stretches of one kind of key, as the next stage's map needs no more.

        Raises: BadKey: a key is of no kind at all.
        """
        with suppress(BadKey):
            return [columns_of(pairs, self._allow_pickle)]
        stretches = groupby(pairs, key=lambda pair: kind_of([pair[0]])[0])
        return [columns_of(list(of_one_kind), self._allow_pickle) for _, of_one_kind in stretches]

    def write_columns(self, columns: Columns) -> None:
        for part in slices(columns):
            content = encode_block(part)
            self._blocks.append(Block(self._offset, len(content), part.rows, zlib.crc32(content)))
            self._offset += self.sink.write(content)

    def finish(self) -> bytes:
        footer = msgspec.msgpack.encode(self._blocks)
        return footer + TAIL.pack(len(footer), zlib.crc32(footer), MAGIC)


def encode_block(columns: Columns) -> Any:
    """One block's bytes."""
    kinds: Any = {"key_kind": columns.key_kind, "value_kind": columns.value_kind}
    schema = pa.schema([("k", columns.keys.type), ("v", columns.values.type)], metadata=kinds)
    batch = pa.RecordBatch.from_arrays([columns.keys, columns.values], schema=schema)
    target = pa.BufferOutputStream()
    with pa.ipc.new_stream(target, schema) as stream:
        stream.write_batch(batch)
    return memoryview(target.getvalue())


def decode_block(path: str, block: Block, content: bytes) -> Columns:
    """What `encode_block` had been given. Raises: Corruption."""
    found = zlib.crc32(content)
    if found != block.checksum:
        raise Corruption(path, block.offset, f"crc32 {block.checksum:08x}", f"{found:08x}")
    with pa.ipc.open_stream(content) as stream:
        kinds = stream.schema.metadata
        keys, values = stream.read_next_batch().columns
    key_kind, value_kind = kinds[b"key_kind"].decode(), kinds[b"value_kind"].decode()
    return Columns(cast(KeyKind, key_kind), keys, cast(ValueKind, value_kind), values)


def read_footer(source: Source) -> list[Block]:
    """The blocks of a file. Raises: InputError: it is none of ours. Corruption: it is damaged."""
    size = source.size()
    tail = source.read_at(max(size - TAIL.size, 0), TAIL.size)
    if len(tail) < TAIL.size or source.read_at(0, len(MAGIC)) != MAGIC:
        raise InputError(source.path, "is no file of pairs (format 'pairs' reads what a job with that output wrote)")
    length, checksum, magic = TAIL.unpack(tail)
    start = size - TAIL.size - length
    if magic != MAGIC or length > FOOTER_BYTES_MAX or start < len(MAGIC):
        raise Corruption(source.path, max(size - TAIL.size, 0), "a footer's tail", tail.hex())
    footer = source.read_at(start, length)
    if zlib.crc32(footer) != checksum:
        raise Corruption(source.path, start, f"crc32 {checksum:08x}", f"{zlib.crc32(footer):08x}")
    return msgspec.msgpack.decode(footer, type=list[Block])
