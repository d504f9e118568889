"""Snapshots of machines: whole or not at all, of one moment, and nothing of the loop is held."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from onerack.errors import Corruption, ProtocolError, UsageError
from onerack.raft.messages import Configuration, SnapshotMark
from onerack.raft.server.snapshots import Snapshots, in_thread
from onerack.raft.storage import RaftLog, SnapshotStore

MARK = SnapshotMark(7, 2, Configuration(("n1",)))


class Pieces:
    """A StateMachine that is its pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.restored = 0
        self.reads = True

    def apply(self, command: bytes, wanted: bool) -> None:
        self.pieces.append(command)

    def snapshot(self) -> Iterator[bytes]:
        return iter(list(self.pieces))

    def restore(self, pieces: Iterator[bytes]) -> None:
        self.restored += 1
        if self.reads:
            self.pieces = list(pieces)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SnapshotStore]:
    log, _ = RaftLog.open(tmp_path, cluster="c", node="n1")
    yield log.snapshots
    log.close()


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def take(store: SnapshotStore, machines: dict[int, Pieces]) -> None:
    asyncio.run(Snapshots(store, machines).take(MARK))


def test_every_machine_gets_its_own_pieces_back(store: SnapshotStore) -> None:
    take(store, {1: Pieces(b"a", b"b"), 0: Pieces(), 32: Pieces(bytes(100_000))})
    copies = {0: Pieces(b"old"), 1: Pieces(b"old"), 32: Pieces(), 40: Pieces(b"stays")}
    Snapshots(store, copies).restore(MARK)
    assert [copies[mount].pieces for mount in (0, 1, 32, 40)] == [[], [b"a", b"b"], [bytes(100_000)], [b"stays"]]
    assert copies[40].restored == 0


def test_a_machine_that_does_not_read_on_leaves_nothing_to_the_next_one(store: SnapshotStore) -> None:
    take(store, {1: Pieces(b"a", b"b"), 2: Pieces(b"c")})
    careless, other = Pieces(), Pieces()
    careless.reads = False
    Snapshots(store, {1: careless, 2: other}).restore(MARK)
    assert other.pieces == [b"c"]


def test_a_machine_that_is_not_mounted_is_missed_before_any_other_is_touched(store: SnapshotStore) -> None:
    take(store, {1: Pieces(b"a"), 2: Pieces(b"b")})
    machine = Pieces(b"old")
    with pytest.raises(UsageError, match="mount 2"):
        Snapshots(store, {1: machine}).restore(MARK)
    assert machine.pieces == [b"old"]


def test_a_snapshot_is_of_the_moment_when_it_was_asked_for(store: SnapshotStore) -> None:
    async def story() -> None:
        machines = {1: Pieces(b"1"), 2: Pieces(b"2")}
        taking = asyncio.create_task(Snapshots(store, machines).take(MARK))
        await asyncio.sleep(0)
        for machine in machines.values():
            machine.apply(b"later", wanted=False)
        await taking

    asyncio.run(story())
    copies = {1: Pieces(), 2: Pieces()}
    Snapshots(store, copies).restore(MARK)
    assert [copies[mount].pieces for mount in (1, 2)] == [[b"1"], [b"2"]]


def test_between_two_pieces_the_loop_is_free(store: SnapshotStore) -> None:
    async def story() -> None:
        turns, at_piece = 0, []

        class Counting(Pieces):
            def snapshot(self) -> Iterator[bytes]:
                for number in range(20):
                    at_piece.append(turns)
                    yield b"%d" % number

        taking = asyncio.create_task(Snapshots(store, {1: Counting()}).take(MARK))
        while not taking.done():
            turns += 1
            await asyncio.sleep(0)
        assert len(at_piece) == 20
        assert len(set(at_piece)) == 20, "no two pieces were made in the same turn"

    asyncio.run(story())


async def pieces_of(store: SnapshotStore, *contents: bytes) -> list[bytes]:
    snapshots = Snapshots(store, {1: Pieces(*contents)})
    await snapshots.take(MARK)
    return [piece async for piece in snapshots.read(MARK)]


def test_what_was_read_for_a_peer_is_received_as_it_was(store: SnapshotStore, tmp_path: Path) -> None:
    async def story() -> None:
        sent = await pieces_of(store, b"a", b"b")
        other_log, _ = RaftLog.open(tmp_path / "other", cluster="c", node="n2")
        machine = Pieces()
        other = Snapshots(other_log.snapshots, {1: machine})
        await other.receive(MARK, stream(*sent))
        assert other_log.snapshots.newest() == MARK
        other.restore(MARK)
        assert machine.pieces == [b"a", b"b"]
        other_log.close()

    asyncio.run(story())


def encoded(mount: int, content: object) -> bytes:
    inner = content if isinstance(content, bytes) else msgspec.msgpack.encode(content)
    return msgspec.msgpack.encode((mount, inner))


HEADER = encoded(-1, (7, 2, (1, 2)))
LIES = {
    "nothing": [],
    "no header": [encoded(1, b"a"), encoded(-2, 1)],
    "another index": [encoded(-1, (8, 2, (1,))), encoded(-2, 1)],
    "another term": [encoded(-1, (7, 1, (1,))), encoded(-2, 1)],
    "a header that is none": [encoded(-1, "x"), encoded(-2, 1)],
    "no piece at all": [b"\xff"],
    "not two things": [msgspec.msgpack.encode((1, 2))],
    "halfway": [HEADER, encoded(1, b"a")],
    "a piece lost": [HEADER, encoded(2, b"b"), encoded(-2, 3)],
    "a count that is none": [HEADER, encoded(-2, "many")],
    "a stranger": [HEADER, encoded(9, b"x"), encoded(-2, 2)],
    "out of order": [HEADER, encoded(2, b"b"), encoded(1, b"a"), encoded(-2, 3)],
    "behind its end": [HEADER, encoded(-2, 1), encoded(1, b"a")],
    "two headers": [HEADER, HEADER, encoded(-2, 2)],
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_no_whole_snapshot_of_this_mark_leaves_nothing_behind(
    store: SnapshotStore, tmp_path: Path, lie: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ProtocolError):
        asyncio.run(Snapshots(store, {1: Pieces()}).receive(MARK, stream(*LIES[lie])))
    assert store.newest() is None
    assert sorted(tmp_path.rglob("*")) == before


def test_a_stream_that_breaks_leaves_nothing_behind(store: SnapshotStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield HEADER
        raise ConnectionError("the leader is gone")

    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConnectionError):
        asyncio.run(Snapshots(store, {1: Pieces()}).receive(MARK, broken()))
    assert sorted(tmp_path.rglob("*")) == before


def test_every_damaged_byte_of_the_file_is_noticed_when_it_is_put_in_place(
    store: SnapshotStore, tmp_path: Path
) -> None:
    take(store, {1: Pieces(b"abc", b"def")})
    [file] = (tmp_path / "raft").glob("*.snap")
    content = file.read_bytes()
    for position in range(0, len(content), 3):
        file.write_bytes(content[:position] + bytes([content[position] ^ 0x20]) + content[position + 1 :])
        with pytest.raises((Corruption, UsageError)):
            Snapshots(store, {1: Pieces()}).restore(MARK)


def test_what_a_thread_works_on_is_not_closed_under_its_hands() -> None:
    async def story() -> None:
        may_end, events = threading.Event(), []

        def work() -> None:
            may_end.wait()
            events.append("the thread is done")

        async def user() -> None:
            try:
                await in_thread(work)
            finally:
                events.append("closed")

        task = asyncio.create_task(user())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert events == ["the thread is done", "closed"]

    asyncio.run(story())
