"""Segments while they are written: the one that takes records, and the next one, made before it is needed.

The idea: a segment is made of zeros, synced and named before its first record. Then an fdatasync of a record changes
nothing but the record's own blocks, which halves its time, and a full disk is met while the next segment is made, long
before a write that somebody waits for.

The rule: a segment that failed to take a record whole takes no more; the next record goes to the next segment, which
says where this one ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from onerack.errors import StorageFull
from onerack.raft.storage.files import segment_name
from onerack.raft.storage.format import (
    HEADER_BYTES,
    SEED_BYTES,
    Header,
    encode_header,
    encode_record,
    header_checksum,
    record_bytes,
)
from onerack.rpc.durable.format import SECTOR
from onerack.runtime.env import FixedFile, StorageDisk
from onerack.runtime.unfinished import UnfinishedFile

_ZEROS: Final = bytes(1 << 20)


class Segment:
    """The segment that takes records."""

    def __init__(self, file: FixedFile, header: Header) -> None:
        self.header = header
        self.position = HEADER_BYTES
        """Where the next record begins."""
        self.checksum = header_checksum(header)
        """Of the last record."""
        self.failed = False
        """A record may be there in part; no other may follow."""
        self._file = file

    def takes(self, parts_bytes: int) -> bool:
        return not self.failed and self.position + record_bytes(parts_bytes) <= self.header.size

    def append(self, number: int, pieces: Sequence[bytes], parts: int) -> None:
        """Writes one record. Requires: it `takes` it. Raises: StorageFull, OSError."""
        head, body, checksum = encode_record(self.header.seed, number, pieces, parts, self.position, self.checksum)
        self.failed = True
        self._file.write(self.position, head, body)
        self.failed = False
        self.position += len(head) + len(body)
        self.checksum = checksum

    def sync(self) -> None:
        self._file.sync()

    def close(self) -> None:
        self._file.close()


class SegmentMaker:
    """Makes segments, the next one while the present one fills. `in_background`: in a thread of its own."""

    def __init__(
        self,
        disk: StorageDisk,
        directory: str,
        identity: bytes,
        draw: Callable[[int], bytes],
        *,
        in_background: bool,
    ) -> None:
        self.full: StorageFull | None = None
        """Why the next segment could not be made."""
        self._disk = disk
        self._directory = directory
        self._identity = identity
        self._draw = draw
        self._in_background = in_background
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self.spare: Header | None = None
        """The next segment, ready."""

    @property
    def is_idle(self) -> bool:
        """Nothing is ready or being made."""
        return self.spare is None and (self._thread is None or not self._thread.is_alive())

    def begin(self, sequence: int, size: int) -> None:
        """Makes the segment that comes next, ahead of need. Failing now is no failure: see `full`."""
        self.wait()
        if self._in_background:
            self._thread = threading.Thread(target=self._try, args=(sequence, size), name="raft segment", daemon=True)
            self._thread.start()
        else:
            self._try(sequence, size)

    def take(self, sequence: int, size: int) -> Segment:
        """The segment that comes next, of at least this size. Raises: StorageFull."""
        self.wait()
        header, self.spare = self.spare, None
        if header is None or header.sequence != sequence or header.size < size:
            try:
                header = self.make(sequence, size)
            except StorageFull as full:
                self.full = full
                raise
        return Segment(self._disk.open_fixed(f"{self._directory}/{segment_name(sequence)}"), header)

    def make(self, sequence: int, size: int) -> Header:
        """A segment of zeros, durable, in the place of any file of that name. Raises: StorageFull."""
        header = Header(self._identity, sequence, max(size + SECTOR - 1 & -SECTOR, 2 * SECTOR), self._seed())
        file = UnfinishedFile(self._disk, self._directory, segment_name(sequence))
        try:
            file.append(encode_header(header))
            for position in range(HEADER_BYTES, header.size, len(_ZEROS)):
                file.append(_ZEROS[: header.size - position])
            file.finish().close()
        except Exception:
            file.abandon()
            raise
        self.full = None
        return header

    def wait(self) -> None:
        """Until nothing is being made. Raises what the making raised, except StorageFull."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _try(self, sequence: int, size: int) -> None:
        try:
            self.spare = self.make(sequence, size)
        except StorageFull as full:
            self.full = full
        except Exception as failure:
            self._failure = failure

    def _seed(self) -> bytes:
        # Its first byte is more than one bit away from zero, as format.py wants it.
        drawn = self._draw(SEED_BYTES)
        return bytes([drawn[0] | 0x81]) + drawn[1:]
