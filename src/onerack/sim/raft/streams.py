"""Snapshots on their way: a stream of pieces from a leader's host to a follower's, which may be cut or die anywhere.

The idea: the core says who needs a snapshot and hears what became of it; everything between is the hosts' affair. The
sender reads its newest snapshot, sends it in pieces, and waits for one word; the receiver gathers, makes the whole
durable, and only then tells its core.

The rule: whatever is lost, the sender ends each stream by itself after `STREAM_S`, and then exactly once. A crash of
either side takes what it knew of the stream.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from onerack.raft.messages import SnapshotArrived, SnapshotSent
from onerack.sim.raft.disk import Storage, SyncFailed
from onerack.sim.raft.requests import SnapshotDone, SnapshotPiece

STREAM_S: Final = 0.8
BETWEEN_PIECES_S: Final = 0.01


class Host(Protocol):
    """What a stream needs of the node at its end."""

    name: str
    life: int
    alive: bool
    applied: int
    storage: Storage
    around: Any

    def later(self, seconds: float, action: Any, *arguments: Any) -> None: ...
    def tell_core(self, message: Any, sender: str | None = None) -> None: ...
    def die(self, why: str) -> None: ...


class Departures:
    """Streams from one node."""

    def __init__(self, node: Host) -> None:
        self._node = node
        self._open: dict[str, tuple[str, int]] = {}
        """Stream -> to whom, and the snapshot's index."""
        self._begun = 0

    def begin(self, to: str, term: int) -> None:
        found = self._node.storage.newest_snapshot()
        if found is None:
            self._node.later(0.0, self._node.tell_core, SnapshotSent(to, 0, False))
            return
        mark, content = found
        self._begun += 1
        stream = f"{self._node.name}/{self._node.life}/{self._begun}"
        self._open[stream] = (to, mark.index)
        pieces = self._node.around.options.pieces
        size = -(-len(content) // pieces)
        for place in range(pieces):
            piece = SnapshotPiece(stream, term, mark, place, pieces, content[place * size : (place + 1) * size])
            self._node.later(place * BETWEEN_PIECES_S, self._send, to, piece)
        self._node.later(STREAM_S, self._end, stream, False)

    def _send(self, to: str, piece: SnapshotPiece) -> None:
        if piece.stream in self._open:
            self._node.around.send(self._node.name, to, piece)

    def on_done(self, message: SnapshotDone, sender: str) -> None:
        self._end(message.stream, message.done)

    def _end(self, stream: str, done: bool) -> None:
        if stream in self._open:
            to, index = self._open.pop(stream)
            self._node.tell_core(SnapshotSent(to, index, done))

    def forget_all(self) -> None:
        self._open.clear()


class Arrivals:
    """Streams to one node."""

    def __init__(self, node: Host) -> None:
        self._node = node
        self._pieces: dict[str, dict[int, bytes]] = {}

    def on_piece(self, piece: SnapshotPiece, sender: str) -> None:
        pieces = self._pieces.setdefault(piece.stream, {})
        if len(pieces) == piece.of:
            return  # a late copy
        pieces[piece.place] = piece.content
        if len(pieces) == piece.of:
            content = b"".join(pieces[place] for place in range(piece.of))
            self._node.later(self._node.around.options.snapshot_s, self._arrived, piece, content, sender)

    def _arrived(self, piece: SnapshotPiece, content: bytes, sender: str) -> None:
        if self._node.applied >= piece.mark.index:
            self._answer(sender, piece, done=True)
            return
        newest = self._node.storage.newest_snapshot()
        # One that is here already was not taken by the core when it came, say because its leader was an old one.
        if newest is None or newest[0].index < piece.mark.index:
            newest = (piece.mark, content)
            try:
                self._node.storage.keep_snapshot(*newest)
            except SyncFailed:
                self._node.die("fsync of a snapshot failed")
                return
        if self._node.around.lets_die(self._node, "arrived"):
            self._node.die("crash point: a snapshot has arrived, the core has not heard of it")
            return
        self._node.tell_core(SnapshotArrived(piece.term, newest[0]), sender)
        self._look(sender, piece, 20)

    def _look(self, sender: str, piece: SnapshotPiece, times: int) -> None:
        """Restored means that the Output which says so has been carried out."""
        done = self._node.applied >= piece.mark.index
        if done or not times:
            self._answer(sender, piece, done=done)
        elif self._node.alive:
            self._node.later(0.005, self._look, sender, piece, times - 1)

    def _answer(self, sender: str, piece: SnapshotPiece, *, done: bool) -> None:
        if self._node.alive:
            self._node.around.send(self._node.name, sender, SnapshotDone(piece.stream, done))

    def forget_all(self) -> None:
        self._pieces.clear()
