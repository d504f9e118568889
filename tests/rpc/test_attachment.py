"""Attachments: exactly the bytes, flat, read-only, and never copied."""

from __future__ import annotations

import array
import mmap
from typing import Any

import numpy as np
import pytest

from onerack.errors import UsageError
from onerack.rpc.attachment import view_of


@pytest.mark.parametrize(
    "value",
    [b"abcdefgh", bytearray(b"abcdefgh"), memoryview(b"abcdefgh"), memoryview(b"abcdefgh").cast("B", (2, 4)),
     array.array("b", b"abcdefgh"), memoryview(b"xabcdefghx")[1:-1]],
)  # fmt: skip
def test_anything_with_its_bytes_in_one_piece_is_seen_as_flat_bytes(value: Any) -> None:
    view = view_of(value, "here")
    assert (view.tobytes(), view.ndim, view.format, view.readonly) == (b"abcdefgh", 1, "B", True)


def test_nothing_is_copied() -> None:
    memory = bytearray(b"abc")
    view = view_of(memory, "here")
    memory[0] = ord("x")
    assert bytes(view) == b"xbc"


@pytest.mark.parametrize("empty", [b"", memoryview(b"").cast("B"), array.array("d"), np.zeros((0, 3))])
def test_no_bytes_are_an_attachment_too(empty: Any) -> None:
    assert view_of(empty, "here").nbytes == 0


def test_a_mapped_file_can_be_sent() -> None:
    with mmap.mmap(-1, 4096) as mapped:
        view = view_of(mapped, "here")
        assert view.nbytes == 4096
        view.release()


@pytest.mark.parametrize("value", ["text", None, 3, [1, 2]])
def test_what_has_no_bytes_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match=f"here must be bytes-like .*, and is {type(value).__name__}"):
        view_of(value, "here")


def test_bytes_with_gaps_are_refused() -> None:
    with pytest.raises(UsageError, match="here is a view with gaps"):
        view_of(memoryview(b"abcdef")[::2], "here")
