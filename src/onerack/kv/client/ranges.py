"""Ranges: how callers say which keys they mean.

The rule: keys are bytes, or text as UTF-8; an empty end means one key, and the end of a range is not in it.
"""

from __future__ import annotations

from onerack.errors import UsageError
from onerack.kv.client.values import ALL

Key = bytes | str


def as_bytes(text: Key) -> bytes:
    return text.encode() if isinstance(text, str) else text


def end_of_prefix(prefix: Key) -> bytes:
    """The first key behind all that begin so."""
    kept = as_bytes(prefix).rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else ALL


def span(key: Key, range_end: Key, *, prefix: bool) -> tuple[bytes, bytes]:
    """First key and end of a range. Raises: UsageError: both an end and `prefix`."""
    if not prefix:
        return as_bytes(key), as_bytes(range_end)
    if range_end:
        raise UsageError("a range has an end, or is a prefix; not both")
    return as_bytes(key) or b"\0", end_of_prefix(key)
