r"""TSV: key, tab, value, newline; the default, for people and for every other tool.

The idea: a batch of typed columns is joined by Arrow and its data buffer written as it is; Python never sees a row.

The rules: text and bytes stand as they are, except that a tab, newline, carriage return or backslash inside is
written \t \n \r \\, so a line is always a pair and the first tab ends the key. Numbers, True and None stand as Python
prints them. Tuples, lists, dicts and sets stand as JSON (sets sorted), escaped like any text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onerack.mapreduce.columns import Columns
from onerack.mapreduce.keys import decode_keys
from onerack.mapreduce.values import decode_values

SLICE_ROWS: Final = 64 * 1024
SLICE_BYTES: Final = 8 * 1024 * 1024
"""Rows joined at once: enough to make the calls cheap, little enough to be a small part of a worker's memory."""

_ESCAPES: Final = ((b"\\", b"\\\\"), (b"\t", b"\\t"), (b"\n", b"\\n"), (b"\r", b"\\r"))
_JSON: Final = msgspec.json.Encoder()
_PLAIN_ITEMS: Final = frozenset((str, int))
"""Lists of these alone are encoded alike by msgspec, and fast."""


def escape(field: bytes) -> bytes:
    """One field without the four bytes that would break its line."""
    for plain, escaped in _ESCAPES:
        if plain in field:
            field = field.replace(plain, escaped)
    return field


def unescape(field: str) -> str:
    """What `escape` had been given."""
    if "\\" not in field:
        return field
    halves = field.split("\\\\")
    return "\\".join(half.replace("\\t", "\t").replace("\\n", "\n").replace("\\r", "\r") for half in halves)


def as_json(value: object) -> bytes:
    """JSON for people: keys of dicts become text, sets are sorted, and what JSON has no word for is shown by repr."""
    if isinstance(value, list | tuple) and _PLAIN_ITEMS.issuperset(map(type, value)):
        with suppress(ValueError):
            return _JSON.encode(value)
    text = json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def _plain(value: object) -> object:
    """`value` out of what JSON knows."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else repr(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        try:
            return [_plain(item) for item in sorted(value)]
        except TypeError:
            return [_plain(item) for item in sorted(value, key=repr)]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if value is None or isinstance(value, str | int | float) else repr(value)


def field_of(value: object) -> bytes:
    """A key or a value as one field."""
    if isinstance(value, str):
        return escape(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return escape(value)
    if isinstance(value, tuple | list | dict | set | frozenset):
        return escape(as_json(value))
    return escape(str(value).encode("utf-8", "surrogatepass"))


def pairs_tsv(pairs: Iterable[tuple[object, object]]) -> bytes:
    """The lines of pairs of Python objects."""
    return b"".join([field_of(key) + b"\t" + field_of(value) + b"\n" for key, value in pairs])


# ---------------------------------------------------------------------------------------------- columns


def columns_tsv(columns: Columns) -> Iterable[Any]:
    """The lines of a batch, as buffers of bounded size."""
    for part in slices(columns):
        yield _joined(_key_fields(part), _value_fields(part))


def slices(columns: Columns) -> Iterable[Columns]:
    """The batch in parts of bounded rows and bytes."""
    rows = columns.rows
    wide = max(1, (columns.keys.nbytes + columns.values.nbytes) // max(rows, 1))
    step = max(1, min(SLICE_ROWS, SLICE_BYTES // wide))
    for first in range(0, rows, step):
        yield columns._replace(keys=columns.keys.slice(first, step), values=columns.values.slice(first, step))


def _joined(keys: Any, values: Any) -> Any:
    """key TAB value NEWLINE for every row, as one buffer."""
    ended = pc.binary_join_element_wise(values, b"", pa.scalar(b"\n", pa.binary()))
    return content_of(pc.binary_join_element_wise(keys, ended, pa.scalar(b"\t", pa.binary())))


def content_of(array: Any) -> memoryview:
    """All bytes of a binary or text array, end to end, where they lie."""
    _, offsets, content = array.buffers()
    if content is None or not len(array):
        return memoryview(b"")
    places = np.frombuffer(offsets, np.int32)
    first, last = places[array.offset], places[array.offset + len(array)]
    return memoryview(content)[int(first) : int(last)]


def _key_fields(columns: Columns) -> Any:
    if columns.key_kind in ("str", "bytes"):
        return escaped(columns.keys)
    if columns.key_kind == "int" and (numbers := _small_ints(columns.keys)) is not None:
        return pa.array(numbers).cast(pa.string()).cast(pa.binary())
    return _fields(decode_keys(columns.key_kind, columns.keys))


def _small_ints(keys: Any) -> Any | None:
    """int64 keys from their canonical nine bytes; None when one of them is longer."""
    content = np.frombuffer(content_of(keys), np.uint8)
    if len(content) != 9 * len(keys):
        return None
    rows = content.reshape(-1, 9)
    if not (rows[:, 0] == 0x80).all():
        return None
    folded = np.ascontiguousarray(rows[:, 1:]).view(">u8").ravel().astype(np.uint64)
    return (folded ^ np.uint64(1 << 63)).view(np.int64)


def _value_fields(columns: Columns) -> Any:
    kind, values = columns.value_kind, columns.values
    if kind == "int":
        return values.cast(pa.string()).cast(pa.binary())
    if kind in ("str", "bytes"):
        return escaped(values.cast(pa.binary()))
    return _fields(decode_values(kind, values))


def _fields(objects: Sequence[object]) -> Any:
    return pa.array(list(map(field_of, objects)), pa.binary())


def escaped(array: Any) -> Any:
    """The fields of a binary array; all of its bytes are looked at once, and nearly always nothing is to be done."""
    content = bytes(content_of(array))
    if not any(plain in content for plain, _ in _ESCAPES):
        return array
    for plain, replacement in _ESCAPES:
        if plain in content:
            array = pc.replace_substring(array, plain, replacement)
    return array
