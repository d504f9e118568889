"""Snapshots of all mounted machines: how one is taken, sent, received and put in place.

    piece      msgpack [mount, bytes]; a machine's pieces follow each other, machines in order of their mounts
    first      msgpack [-1, msgpack list of the mounts]: a machine that has nothing to say is in it, too

The idea: what costs time never holds the event loop. A machine gives its snapshot piece by piece, one in each turn,
consistent as of the moment when it was asked; the disk's own thread writes them; a receiver does the same in reverse.

The rule: nothing is put in place, and nothing of the log is dropped, before the snapshot is durable.

Source: Ongaro & Ousterhout 2014, section 7.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Final

import msgspec

from onerack.errors import Corruption, ProtocolError, UsageError
from onerack.raft.machine import StateMachine
from onerack.raft.messages import SnapshotMark
from onerack.raft.storage import SnapshotStore

_PIECE: Final = msgspec.msgpack.Decoder(tuple[int, bytes])
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_MOUNTS: Final = msgspec.msgpack.Decoder(list[int])
_HEADER: Final = -1


class Snapshots:
    """Of one node."""

    def __init__(self, store: SnapshotStore, machines: Mapping[int, StateMachine]) -> None:
        self._store = store
        self._machines = {mount: machines[mount] for mount in sorted(machines)}
        self.is_busy = False
        """One is being taken."""

    def pieces(self) -> Iterator[bytes]:
        """Consistent as of this call."""
        # All machines are asked before the first piece leaves: they are to be of the same moment.
        parts = [(mount, machine.snapshot()) for mount, machine in self._machines.items()]
        header = (_HEADER, iter([_ENCODE(list(self._machines))]))
        return (_ENCODE((mount, piece)) for mount, pieces in [header, *parts] for piece in pieces)

    async def take(self, mark: SnapshotMark) -> None:
        """Returns when the snapshot of the present state is durable. Raises: StorageFull: there is none."""
        pieces = self.pieces()
        self.is_busy = True
        try:
            writer = await asyncio.to_thread(self._store.create, mark)
            try:
                for piece in pieces:
                    await asyncio.to_thread(writer.write, piece)
                await asyncio.to_thread(writer.commit)
            except BaseException:
                writer.abort()
                raise
        finally:
            self.is_busy = False

    async def read(self, mark: SnapshotMark) -> AsyncIterator[bytes]:
        """For a peer."""
        pieces = self._store.open(mark).pieces()
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece

    async def receive(self, mark: SnapshotMark, pieces: AsyncIterator[bytes]) -> None:
        """Returns when it is durable. Raises: ProtocolError: these are no pieces. StorageFull."""
        writer = await asyncio.to_thread(self._store.create, mark)
        try:
            async for piece in pieces:
                _decoded(piece)
                await asyncio.to_thread(writer.write, piece)
            await asyncio.to_thread(writer.commit)
        except BaseException:
            writer.abort()
            raise

    def restore(self, mark: SnapshotMark) -> None:
        """All machines become what it says; one that it does not know stays as it was made.

        Raises: Corruption: the file is not what was written. UsageError: it holds a machine that is not mounted.
        """
        pieces = _Grouped(self._store.open(mark).pieces())
        mounts = _MOUNTS.decode(b"".join(pieces.of(_HEADER)))
        strangers = [mount for mount in mounts if mount not in self._machines]
        if strangers:
            raise UsageError(f"the snapshot holds a machine of mount {strangers[0]}, and none is mounted there")
        for mount in mounts:
            self._machines[mount].restore(pieces.of(mount))
        if not pieces.is_at_end:
            raise Corruption("a snapshot", mark.index, "pieces of the machines in its header", "others")


class _Grouped:
    """The pieces of one mount after the other."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._next: tuple[int, bytes] | None = None
        self._advance()

    def _advance(self) -> None:
        piece = next(self._pieces, None)
        self._next = None if piece is None else _decoded(piece)

    @property
    def is_at_end(self) -> bool:
        return self._next is None

    def of(self, mount: int) -> Iterator[bytes]:
        """Up to the first piece of another mount."""
        while self._next is not None and self._next[0] == mount:
            piece = self._next[1]
            self._advance()
            yield piece


def _decoded(piece: bytes) -> tuple[int, bytes]:
    try:
        return _PIECE.decode(piece)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"a piece of a snapshot that is none: {error}") from error
