"""Commands: what goes into an entry comes out, and what is none is found out, wherever it was damaged."""

from __future__ import annotations

import pytest

from onerack.errors import Corruption
from onerack.raft.commands import HEAD, commands_of, pack_command, tags_of

SEVERAL = [(0, 1, b""), (1, 2**64 - 1, b"put"), (255, 7, bytes(1000))]
PAYLOAD = b"".join(pack_command(*command) for command in SEVERAL)


def test_commands_come_out_as_they_went_in() -> None:
    assert list(commands_of(PAYLOAD)) == SEVERAL
    assert tags_of(PAYLOAD) == [1, 2**64 - 1, 7]
    assert tags_of(b"") == []


def test_a_payload_that_was_cut_anywhere_but_between_two_commands_is_corrupt() -> None:
    ends = {0}
    for command in SEVERAL:
        ends.add(max(ends) + len(pack_command(*command)))
    for length in range(len(PAYLOAD) + 1):
        if length in ends:
            tags_of(PAYLOAD[:length])
        else:
            with pytest.raises(Corruption):
                tags_of(PAYLOAD[:length])


def test_a_length_that_lies_is_corrupt_and_nothing_is_allocated_for_it() -> None:
    with pytest.raises(Corruption, match="a whole command"):
        tags_of(HEAD.pack(2**32 - 1, 1, 1) + b"short")
