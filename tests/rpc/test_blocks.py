"""Tests of blocks: memory is used again when nobody refers to it, never before, and not kept for ever."""

from __future__ import annotations

import numpy as np
import pytest

from onerack.config import KIB, MIB
from onerack.errors import ProtocolError
from onerack.rpc.transports.blocks import Blocks


def place_of(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).__array_interface__["data"][0])


def test_memory_is_used_again_when_nobody_refers_to_it() -> None:
    blocks = Blocks()
    first = blocks.memory_of(64 * MIB)
    place = place_of(first)
    del first
    again = blocks.memory_of(64 * MIB)
    assert place_of(again) == place
    del again
    shorter = blocks.memory_of(40 * MIB)
    assert place_of(shorter) == place
    assert len(shorter) == 40 * MIB
    assert blocks.kept_bytes == 64 * MIB


@pytest.mark.parametrize(
    "reference",
    [
        lambda view: view,
        lambda view: view[5:7],
        lambda view: view.toreadonly(),
        lambda view: view.cast("Q")[1:2],
        lambda view: np.frombuffer(view, np.uint8)[3:],
        lambda view: [np.frombuffer(view[8:], np.int64).data],
    ],
)
def test_memory_is_left_alone_while_anybody_refers_to_it(reference: object) -> None:
    assert callable(reference)
    blocks = Blocks()
    view = blocks.memory_of(5 * MIB)
    place, kept = place_of(view), reference(view)
    del view
    other = blocks.memory_of(5 * MIB)
    assert place_of(other) != place
    del kept
    assert place_of(blocks.memory_of(5 * MIB)) == place


def test_no_more_than_so_much_is_kept() -> None:
    blocks = Blocks()
    held = [blocks.memory_of(30 * MIB) for _ in range(10)]
    assert blocks.kept_bytes <= 160 * MIB
    assert len({place_of(view) for view in held}) == 10
    large = blocks.memory_of(200 * MIB)
    assert blocks.kept_bytes == 0
    assert len(large) == 200 * MIB


@pytest.mark.parametrize("size", [1, 127 * KIB, 128 * KIB, 300 * KIB, MIB, MIB + 1])
def test_memory_of_every_size_can_be_written_and_read(size: int) -> None:
    blocks = Blocks()
    for filling in (b"a", b"b"):
        memory = blocks.memory_of(size)
        memory[:] = filling * size
        assert bytes(memory) == filling * size
        del memory


def test_of_many_in_use_the_free_one_is_found() -> None:
    """A server that answers in order frees the oldest first; one with a single caller the newest."""
    blocks = Blocks()
    held = [blocks.memory_of(MIB) for _ in range(100)]
    for position in (0, -1):
        place = place_of(held[position])
        del held[position]
        held.append(blocks.memory_of(MIB))
        assert place_of(held[-1]) == place


def test_a_small_attachment_does_not_take_a_large_block() -> None:
    blocks = Blocks()
    place = place_of(blocks.memory_of(64 * MIB))
    assert place_of(blocks.memory_of(20 * MIB)) != place


def test_what_was_free_for_long_is_given_back() -> None:
    blocks = Blocks()
    held, free = blocks.memory_of(5 * MIB), blocks.memory_of(6 * MIB)
    blocks.give_back_unused(0)
    del free
    for now in (5, 10, 14):
        blocks.give_back_unused(now)
        assert blocks.kept_bytes == 11 * MIB
    blocks.give_back_unused(15.5)
    assert blocks.kept_bytes == 5 * MIB
    del held


def test_memory_that_is_not_there_ends_the_connection_and_not_the_process() -> None:
    with pytest.raises(ProtocolError, match="there is no memory for"):
        Blocks().memory_of(1 << 50)
