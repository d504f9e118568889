"""Snapshots of all mounted machines: how one is taken, sent, received and put in place.

    piece      msgpack [mount, bytes]; a machine's pieces follow each other, machines in order of their mounts
    first      msgpack [-1, msgpack [index, term, mounts]]: a machine that has nothing to say is in it, too
    last       msgpack [-2, msgpack of the count of pieces before it]: a stream that just ends is no snapshot

The idea: a machine gives its snapshot piece by piece, one in each turn of the loop, consistent as of the moment when it
was asked; threads write the pieces, and read and check them for a peer. Only to restore does hold the loop: a node
whose machines are being replaced has nothing else to do.

The rules: nothing is put in place, and nothing of the log is dropped, before the snapshot is durable. A file is never
closed while a thread works on it.

Source: Ongaro & Ousterhout 2014, section 7.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec

from onerack.errors import Corruption, ProtocolError, UsageError
from onerack.raft.machine import StateMachine
from onerack.raft.messages import SnapshotMark
from onerack.raft.storage import SnapshotStore, SnapshotWriter

_REST_S_MAX: Final = 0.1
_HEADER: Final = -1
_FOOTER: Final = -2
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_PIECE: Final = msgspec.msgpack.Decoder(tuple[int, bytes])


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What the pieces are of."""

    index: int
    term: int
    mounts: tuple[int, ...]
    """Sorted."""


_HEADER_OF: Final = msgspec.msgpack.Decoder(Header)
_COUNT_OF: Final = msgspec.msgpack.Decoder(int)

T = TypeVar("T")


class Snapshots:
    """Of one node."""

    def __init__(self, store: SnapshotStore, machines: Mapping[int, StateMachine]) -> None:
        self._store = store
        self._machines = {mount: machines[mount] for mount in sorted(machines)}
        self.is_busy = False
        """One is being taken."""

    def pieces(self, mark: SnapshotMark) -> Iterator[bytes]:
        """Consistent as of this call."""
        # All machines are asked before the first piece leaves: they are to be of the same moment.
        parts = [(mount, machine.snapshot()) for mount, machine in self._machines.items()]
        return _framed(Header(mark.index, mark.term, tuple(self._machines)), parts)

    async def take(self, mark: SnapshotMark) -> None:
        """Returns when the snapshot of the present state is durable. Raises: StorageFull: there is none."""
        assert not self.is_busy, "one at a time"
        self.is_busy = True
        try:
            pieces = self.pieces(mark)
            await self._write(mark, _each(pieces))
        finally:
            self.is_busy = False

    async def read(self, mark: SnapshotMark) -> AsyncIterator[bytes]:
        """For a peer. Raises: Corruption. FileNotFoundError: a newer one has taken its place."""
        reader = await in_thread(self._store.open, mark)
        try:
            pieces = reader.pieces()
            while (piece := await in_thread(next, pieces, None)) is not None:
                yield piece
        finally:
            reader.close()

    async def receive(self, mark: SnapshotMark, pieces: AsyncIterator[bytes]) -> None:
        """Returns when it is durable. Raises: ProtocolError: these are not the pieces of `mark`. StorageFull."""
        await self._write(mark, _checked(mark, pieces))

    async def _write(self, mark: SnapshotMark, pieces: AsyncIterator[bytes]) -> None:
        writer: SnapshotWriter = await in_thread(self._store.create, mark)
        try:
            async for piece in pieces:
                await in_thread(writer.write, piece)
            await in_thread(writer.commit)
        except BaseException:
            writer.abort()
            raise

    def restore(self, mark: SnapshotMark) -> None:
        """All machines become what it says; one that it does not know stays as it was made.

        Raises: Corruption: the file is not what was written. UsageError: it holds a machine that is not mounted.
        """
        with self._store.open(mark) as reader:
            pieces = _Grouped(reader.pieces())
            header = _header_of(b"".join(pieces.of(_HEADER)))
            strangers = [mount for mount in header.mounts if mount not in self._machines]
            if strangers:
                raise UsageError(f"the snapshot holds a machine of mount {strangers[0]}, and none is mounted there")
            for mount in header.mounts:
                rest = pieces.of(mount)
                self._machines[mount].restore(rest)
                for _ in rest:
                    pass  # What a machine does not read must not be taken for the next one's.
            last = b"".join(pieces.of(_FOOTER))
            if not last or not pieces.is_at_end:
                raise Corruption(reader.path, reader.size, "pieces of the machines in its header", "others")


def _framed(header: Header, parts: list[tuple[int, Iterator[bytes]]]) -> Iterator[bytes]:
    count = 1
    yield _ENCODE((_HEADER, _ENCODE(header)))
    for mount, pieces in parts:
        for piece in pieces:
            count += 1
            yield _ENCODE((mount, piece))
    yield _ENCODE((_FOOTER, _ENCODE(count)))


async def _each(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Rests for as long as each piece has taken: the disk belongs to those who write, and a snapshot has time."""
    loop = asyncio.get_running_loop()
    for piece in pieces:
        began_at = loop.time()
        yield piece
        await asyncio.sleep(min(loop.time() - began_at, _REST_S_MAX))


async def _checked(mark: SnapshotMark, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What a peer sends: a header of this very mark, machines in order, and as many pieces as it says at its end."""
    count, last, header, is_whole = 0, _HEADER, None, False
    async for piece in pieces:
        mount, content = _decoded(piece)
        if header is None:
            header = _header_of(content) if mount == _HEADER else None
            if header is None or (header.index, header.term) != (mark.index, mark.term):
                raise ProtocolError(f"this is no snapshot of index {mark.index}, term {mark.term}")
        elif is_whole:
            raise ProtocolError("a snapshot goes on behind its end")
        elif mount == _FOOTER:
            is_whole = _count_of(content) == count
        elif mount < last or mount not in header.mounts:
            raise ProtocolError(f"a piece of mount {mount} where none belongs")
        else:
            last = mount
        count += 1
        yield piece
    if not is_whole:
        raise ProtocolError(f"a snapshot ended after {count} pieces, and is not whole")


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


def _header_of(content: bytes) -> Header:
    try:
        return _HEADER_OF.decode(content)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"the first piece of a snapshot is no header: {error}") from error


def _count_of(content: bytes) -> int:
    try:
        return _COUNT_OF.decode(content)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"the last piece of a snapshot is no count: {error}") from error


async def in_thread(work: Callable[..., T], *args: Any) -> T:
    """Does it in a thread. Whoever is cancelled meanwhile first waits for its end: what the thread uses is in use."""
    future = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        if not future.cancelled():
            future.exception()  # Nobody else will look at it.
        raise
