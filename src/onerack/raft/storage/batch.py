"""A batch: the hard state, log reset and entries of one Output, on their way to be the parts of one record.

The idea: payloads are never copied here, nor looked into; a part is a head of 24 bytes and the payload as it came.
Beside the pieces a batch knows what the log is after it, so that the log can follow when it is durable.

The rule: entries follow each other, or replace; what would leave a gap is a bug of the core, and never gets to a disk.
"""

from __future__ import annotations

from typing import Final

import msgspec

from onerack.config import KIB
from onerack.errors import UsageError, check
from onerack.raft.messages import Entry, HardState, LogReset
from onerack.raft.storage.format import BEGIN, ENTRY, HARD_STATE, LOG_RESET, PART, Begin, begin_payload

Write = HardState | LogReset | Entry

NAME_BYTES_MAX: Final = 1 * KIB
"""Of a node that was voted for."""

_PART_BYTES: Final = PART.size
_pack_part = PART.pack


class Batch:
    """Writes on their way to be one record."""

    def __init__(self, last: int, hard_state: HardState) -> None:
        self.pieces: list[bytes] = []
        self.parts = 0
        self.size = 0
        self.last = last
        self.lowest = last + 1
        """From here on, what was in the log before the batch is no longer part of it."""
        self.has_entries = False
        self.hard_state = hard_state

    def add(self, write: Write) -> None:
        if type(write) is Entry:
            index, payload = write.index, write.payload
            if index != self.last + 1:
                check(0 < index <= self.last, f"entry {index} behind {self.last} leaves a gap")
                self.lowest = min(self.lowest, index)
            self.put(ENTRY, write.kind, write.term, index, payload)
            self.last, self.has_entries = index, True
        elif isinstance(write, HardState):
            name = write.vote.encode()
            if len(name) > NAME_BYTES_MAX:
                raise UsageError(f"a node's name of {len(name)} bytes; at most {NAME_BYTES_MAX} are allowed")
            self.put(HARD_STATE, 0, write.term, 0, name)
            self.hard_state = write
        elif isinstance(write, LogReset):
            mark = write.mark
            self.put(LOG_RESET, 0, mark.term, mark.index, msgspec.msgpack.encode(mark.configuration))
            self.lowest, self.last, self.has_entries = 1, mark.index, False

    def put(self, type: int, kind: int, term: int, index: int, payload: bytes) -> None:
        size = len(payload)
        self.pieces += (_pack_part(type, kind, 0, size, term, index), payload)
        self.parts += 1
        self.size += _PART_BYTES + size


def opening_parts(last: int, hard_state: HardState, begin: Begin) -> list[bytes]:
    """The two parts with which a segment begins."""
    batch = Batch(last, hard_state)
    batch.put(BEGIN, 0, 0, last, begin_payload(begin))
    batch.add(hard_state)
    return batch.pieces
