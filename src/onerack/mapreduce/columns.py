"""Columns: a batch of (key, value) pairs as typed arrays; what flows between doors, shuffle and writers.

The idea: pairs that stay Python objects cost a pickle, a sort and a merge in Python; the same pairs as Arrow arrays
are partitioned, sorted and written by native code. Keys are always canonical bytes (keys.py), whose byte order is
the order of the keys, so every sort in the system compares bytes.

The rule: a batch holds keys of one kind and values of one kind; `keys`, `values` and `order` have equal lengths;
no array of a batch exceeds 1 GiB, so that 32-bit offsets suffice.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

KeyKind = Literal["str", "bytes", "int", "float", "bool", "none", "tuple"]
ValueKind = Literal["int", "float", "str", "bytes", "none", "plain", "pickle"]

Array = Any
"""A `pyarrow.Array`. pyarrow ships no types, so the alias is for readers."""


class Columns(NamedTuple):
    """Pairs as arrays."""

    key_kind: KeyKind
    keys: Array
    """pa.binary(): canonical key bytes."""
    value_kind: ValueKind
    values: Array
    """int: int64, float: float64, str: utf8, bytes and plain and pickle: binary, none: null."""
    order: Array | None = None
    """Secondary sort: canonical bytes of sort_key(key, value), or None."""

    @property
    def rows(self) -> int:
        return len(self.keys)
