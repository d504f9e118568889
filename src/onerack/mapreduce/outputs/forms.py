"""Forms: how pairs become bytes, one class for each output format.

The idea: a form is given pairs as objects or as columns and writes into a sink; some go columns-first (TSV, Parquet,
pairs), some objects-first (JSON Lines, the user's own writer), and each turns the other kind into its own.

The rule: columns and pairs of equal content give equal bytes, whichever way they came.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa

from onerack.errors import UsageError
from onerack.mapreduce.columns import Columns
from onerack.mapreduce.keys import decode_keys, encode_keys
from onerack.mapreduce.outputs import tsv
from onerack.mapreduce.outputs.sink import Sink
from onerack.mapreduce.values import decode_values, encode_values

Pairs = Sequence[tuple[object, object]]
Write = Callable[[Any, Any, Any], object]
"""The user's writer: write(file, key, value)."""


def pairs_of(columns: Columns) -> list[tuple[Any, Any]]:
    """Columns as Python objects."""
    keys = decode_keys(columns.key_kind, columns.keys)
    return list(zip(keys, decode_values(columns.value_kind, columns.values), strict=True))


def columns_of(pairs: Pairs, allow_pickle: bool = False) -> Columns:
    """Python objects as columns. Requires: at least one pair. Raises: BadPair."""
    keys, values = zip(*pairs, strict=True)
    return Columns(*encode_keys(keys), *encode_values(values, allow_pickle))


class Form(ABC):
    """One output format at work on one file."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    @abstractmethod
    def write_pairs(self, pairs: Pairs) -> None:
        """Pairs as objects. Requires: at least one."""

    @abstractmethod
    def write_columns(self, columns: Columns) -> None:
        """Pairs as columns. Requires: at least one."""

    def finish(self) -> bytes:
        """What comes last in the file."""
        return b""


class Tsv(Form):
    """key TAB value."""

    def write_pairs(self, pairs: Pairs) -> None:
        self.sink.write(tsv.pairs_tsv(pairs))

    def write_columns(self, columns: Columns) -> None:
        for lines in tsv.columns_tsv(columns):
            self.sink.write(lines)


class Text(Form):
    """The value alone, as it is, and a newline."""

    def write_pairs(self, pairs: Pairs) -> None:
        self.sink.write(b"".join([_text(value) + b"\n" for _, value in pairs]))

    def write_columns(self, columns: Columns) -> None:
        for part in tsv.slices(columns):
            values = decode_values(part.value_kind, part.values)
            self.sink.write(b"".join([_text(value) + b"\n" for value in values]))


def _text(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, tuple | list | dict | set | frozenset):
        return tsv.as_json(value)
    return str(value).encode("utf-8", "surrogatepass")


class Fixed(Form):
    """The bytes of key and value, nothing between."""

    def write_pairs(self, pairs: Pairs) -> None:
        self.sink.write(b"".join([_raw(key) + _raw(value) for key, value in pairs]))

    def write_columns(self, columns: Columns) -> None:
        for part in tsv.slices(columns):
            self.write_pairs(pairs_of(part))


def _raw(field: object) -> bytes:
    if isinstance(field, bytes):
        return field
    if field is None:
        return b""
    raise UsageError(f"output format 'fixed' writes bytes (or None for nothing), not {type(field).__name__}: {field!r}")


class JsonLines(Form):
    """{"key": ..., "value": ...} on each line. Bytes stand as text; tuples and sets as lists; NaN as null."""

    _encoder: Final = msgspec.json.Encoder()

    def write_pairs(self, pairs: Pairs) -> None:
        try:
            plain = [{"key": _json(key), "value": _json(value)} for key, value in pairs]
            self.sink.write(self._encoder.encode_lines(plain))
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"output format 'jsonl' cannot write one of these pairs: {error}") from error

    def write_columns(self, columns: Columns) -> None:
        for part in tsv.slices(columns):
            self.write_pairs(pairs_of(part))


def _json(value: object) -> object:
    """`value` with lists for sets, text for bytes and for keys of dicts; most values are as they are."""
    if isinstance(value, str | int | float) or value is None:
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(_json(key)): _json(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(_json, value), key=lambda item: (type(item).__name__, item))
    if isinstance(value, list | tuple):
        return list(map(_json, value))
    raise TypeError(f"{type(value).__name__} has no JSON form")


class UserFile:
    """What a user's `write` gets: a file that takes text (as UTF-8) and bytes."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, content: str | bytes) -> int:
        self._sink.write(content.encode() if isinstance(content, str) else bytes(content))
        return len(content)


class User(Form):
    """The job's own `write(file, key, value)`."""

    def __init__(self, sink: Sink, write: Write) -> None:
        super().__init__(sink)
        self._write = write
        self._file = UserFile(sink)

    def write_pairs(self, pairs: Pairs) -> None:
        for key, value in pairs:
            self._write(self._file, key, value)

    def write_columns(self, columns: Columns) -> None:
        for part in tsv.slices(columns):
            self.write_pairs(pairs_of(part))


class Parquet(Form):
    """Columns `key` and `value`, typed by the first pairs; the rest of the file must fit these types."""

    ROWS_PER_GROUP: Final = 256 * 1024
    BYTES_PER_GROUP: Final = 32 * 1024 * 1024

    def __init__(self, sink: Sink, compression: str = "none") -> None:
        super().__init__(sink)
        self._compression: Any = {"gzip": "gzip", "zstd": "zstd"}.get(compression, "snappy")
        self._writer: Any = None
        self._schema: Any = None
        self._waiting: list[Any] = []
        self._rows = self._bytes = 0

    def write_pairs(self, pairs: Pairs) -> None:
        keys, values = zip(*pairs, strict=True)
        self._add(self._typed("key", keys), self._typed("value", values))

    def write_columns(self, columns: Columns) -> None:
        for part in tsv.slices(columns):
            keys = decode_keys(part.key_kind, part.keys)
            values = part.values
            if part.value_kind in ("plain", "pickle", "none"):
                values = decode_values(part.value_kind, part.values)
            self._add(self._typed("key", keys), self._typed("value", values))

    def _typed(self, name: str, column: Any) -> Any:
        """A column in the file's type, or in its own when it is the first."""
        try:
            if not isinstance(column, pa.Array):
                column = [_arrow(item) for item in column]
                return pa.array(column, None if self._schema is None else self._schema.field(name).type)
            return column if self._schema is None else column.cast(self._schema.field(name).type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            kind = "" if self._schema is None else f" of type {self._schema.field(name).type}, as the first ones were"
            raise UsageError(
                f"output format 'parquet': these {name}s do not fit one column{kind}: {error}; "
                "emit one type, or choose another output format"
            ) from error

    def _add(self, keys: Any, values: Any) -> None:
        batch = pa.RecordBatch.from_arrays([keys, values], ["key", "value"])
        self._schema = self._schema or batch.schema
        self._waiting.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= self.ROWS_PER_GROUP or self._bytes >= self.BYTES_PER_GROUP:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow.parquet as pq

        if self._writer is None:
            self._schema = self._schema or pa.schema([("key", pa.null()), ("value", pa.null())])
            sink: Any = self.sink
            target = pa.PythonFile(sink, mode="w")
            self._writer = pq.ParquetWriter(target, self._schema, compression=self._compression)
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting))
        self._waiting, self._rows, self._bytes = [], 0, 0

    def finish(self) -> bytes:
        self._write_group()
        self._writer.close()
        return b""


def _arrow(value: object) -> object:
    """Tuples and sets as lists, for Arrow."""
    if isinstance(value, set | frozenset):
        return _json(value)
    return list(value) if isinstance(value, tuple) else value
