"""Sizes as people write them."""

from __future__ import annotations

from typing import Any

import pytest

from onerack.errors import UsageError
from onerack.mapreduce.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (4096, 4096),
        ("4096", 4096),
        ("4096B", 4096),
        ("64MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("64 m", 64 << 20),
        ("1.5g", 3 << 29),
        ("2TB", 2 << 40),
        (" 1k ", 1024),
    ],
)
def test_a_size_is_understood(text: Any, size: int) -> None:
    assert parse_size(text, name="memory") == size


@pytest.mark.parametrize("text", ["", "MB", "64XB", "-1", "1e9", "64 M B", "٣", 0, -1, "0", True, 1.5, None, "0.1"])
def test_what_is_no_size_is_refused_by_its_name(text: Any) -> None:
    with pytest.raises(UsageError, match="memory="):
        parse_size(text, name="memory")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KB"), (64 << 20, "64.0 MB"), (1 << 50, "1024.0 TB")]
)
def test_a_size_is_shown(size: int, text: str) -> None:
    assert format_size(size) == text
