"""A node's disk through every crash: at each operation, with each of the remains that it may leave.

Proved of every one of them: what was acknowledged is recovered (term, vote, entries, snapshot), and nothing else is,
but the batch in flight as a whole; a crash while recovering changes nothing, and what is written after it is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from onerack.errors import Corruption, StorageFull
from onerack.raft.messages import HardState
from onerack.raft.storage import SnapshotStore
from onerack.raft.storage.identity import read_identity
from onerack.raft.storage.recovery import recover
from onerack.sim.disk import SimHalt
from tests.raft.storage.crash_disk import CrashDisk, Picture
from tests.raft.storage.workload import DIRECTORY, FRESH, INSIDE, Node, View, entries, view_of, worked
from tests.rpc.crash_disk import Files


class Violation(AssertionError):
    """A crash would have lost, invented or torn something."""


def recovered_view(files: Files) -> View:
    disk = CrashDisk(files)
    try:
        identity = read_identity(disk, INSIDE)
        if identity is None:
            return Node(disk).view  # It dies before it has begun, and begins again.
        snapshots = SnapshotStore(DIRECTORY, disk=disk, identity=identity.log)
        view = view_of(recover(disk, INSIDE, identity, snapshots).recovered)
        if view.mark.index:
            assert list(snapshots.open(view.mark).pieces()), "every piece is right"
    except Corruption as damage:
        raise Violation(f"what a crash left is taken for damage: {damage}") from damage
    return view


def check(disk: CrashDisk, every: int = 1) -> int:
    """Recovers from all remains of all moments; how many they were."""
    seen: dict[frozenset[tuple[str, bytes]], View] = {}
    for picture in disk.pictures:
        for files in picture.remains(every):
            key = frozenset(files.items())
            if key not in seen:
                seen[key] = recovered_view(files)
            check_view(seen[key], picture)
    return len(seen)


def check_view(view: View, picture: Picture) -> None:
    if view not in (picture.allowed or (FRESH,)):
        raise Violation(f"after {picture.operation}: recovered {view}, allowed {picture.allowed}")


def check_later_lives(disk: CrashDisk, kills: int = 1, losses: int = 1, every: int = 37) -> int:
    """Opens the log after each of so many kills and losses of power, goes on, and checks that life too."""
    count = 0
    for second in later_disks(disk, kills, losses):
        live_on(second, seed=count)
        check(second, every)
        count += 1
    return count


def later_disks(disk: CrashDisk, kills: int, losses: int) -> Iterator[CrashDisk]:
    for picture in disk.pictures[::kills]:
        yield CrashDisk.after_kill(picture)
    remains = {frozenset(files.items()): picture for picture in disk.pictures for files in picture.remains(7)}
    for key, picture in [*remains.items()][::losses]:
        yield CrashDisk(dict(key), picture.allowed)


def check_torn_lives(disk: CrashDisk, every: int) -> int:
    """The same for what is left of each write in flight that is not the first one of its segment."""
    count = 0
    for picture in disk.pictures:
        if re.search(r"write \d{3,} at (?!512 ).*\.seg$", picture.operation):
            for files in picture.remains(every):
                second = CrashDisk(files, picture.allowed)
                live_on(second, seed=count)
                check(second, every=211)
                count += 1
    return count


def live_on(disk: CrashDisk, seed: int) -> None:
    """Another life: it is opened twice, and writes enough for a new segment."""
    for life in range(2):
        node = Node(disk, seed=1000 + 2 * seed + life)
        term = node.view.hard_state.term + 1
        last = node.view.entries[-1].index if node.view.entries else node.view.mark.index
        node.write(HardState(term, "n2"), *entries(term, last + 1, b"later", b"life " * 30))
        node.write(*entries(term, last + 2, b"replaced", b"and more " * 50))
        node.close()


# ------------------------------------------------------------------------------------------------ proofs


def test_every_crash_leaves_what_was_acknowledged() -> None:
    disk = worked()
    operations = " ".join(picture.operation for picture in disk.pictures)
    assert "unlink /data/raft/log-" in operations, "the workload has a segment that was cut"
    assert "unlink /data/raft/snapshot-" in operations, "the workload has a snapshot that was replaced"
    assert check(disk, every=5) > 1000


def test_what_was_torn_is_never_appended_to() -> None:
    assert check_torn_lives(worked(), every=197) > 50


@pytest.mark.soak
def test_a_node_goes_on_after_thousands_of_crashes() -> None:
    assert check_later_lives(worked(), losses=9, every=31) > 500


@pytest.mark.soak
def test_every_crash_at_every_byte_leaves_what_was_acknowledged() -> None:
    assert check(worked()) > 5000


def test_a_node_goes_on_after_every_crash_and_may_crash_while_it_is_opened() -> None:
    assert check_later_lives(worked(), kills=3, losses=120, every=97) > 50


def failed(large: bool) -> CrashDisk:
    """The disk of a node that died of a sync that failed, and came back while the machine lived on."""
    disk = CrashDisk()
    node = Node(disk)
    node.write(HardState(1, "n1"), *entries(1, 1, b"one"))
    disk.sync_fails = True
    with pytest.raises(SimHalt):
        node.write(HardState(2, "n2"), *entries(2, 2, b"shown, and not there" * (100 if large else 1)))
    return CrashDisk.after_kill(disk.pictures[-1])


@pytest.mark.parametrize("large", [False, True], ids=["in the same segment", "in the next one"])
def test_what_a_failed_sync_left_is_not_believed_before_it_is_written_again(large: bool) -> None:
    check_failed(large)


def check_failed(large: bool) -> None:
    disk = failed(large)
    live_on(disk, seed=1)
    check(disk, every=7)


# ------------------------------------------------------------------------------------------------ a full disk


def filled(room: int) -> CrashDisk:
    """The disk of a node that had no more than `room` bytes for new files, for a while."""
    disk = CrashDisk()
    node = Node(disk)
    node.write(HardState(1, "n1"), *entries(1, 1, b"one"))
    disk.room = room
    refused = 0
    for index in range(2, 18):
        try:
            node.write(*entries(1, index, b"%d" % index * 300))
        except StorageFull:
            refused += 1
            break
    assert refused or room > 10_000
    assert node.log.full or not refused, "it was told before"
    if refused:
        with pytest.raises(StorageFull):
            node.write(*entries(1, index, b"%d" % index * 300))
    disk.room = 1 << 40
    node.log.try_again()
    assert not node.log.full
    node.write(*entries(1, index, b"there is room again" * 20))
    node.close()
    return disk


def overfilled(room: int) -> CrashDisk:
    """The same, where what is written over needs room, too."""
    disk = CrashDisk()
    node = Node(disk)
    node.write(HardState(1, "n1"), *entries(1, 1, b"one"))
    for large in (300, 800):
        disk.overwrites_room = room
        with pytest.raises(StorageFull):
            node.write(*entries(1, 2, b"refused" * large))
        disk.overwrites_room = 1 << 40
        node.write(HardState(2), *entries(2, 2, b"there is room again"))
        node.write(*entries(2, 3, b"and again"))
    node.close()
    return disk


@pytest.mark.parametrize("room", [0, 700, 7000])
def test_a_full_disk_is_known_early_and_loses_nothing(room: int) -> None:
    disk = filled(room)
    check(disk, every=19)
    check_later_lives(disk, kills=9, losses=300, every=97)


@pytest.mark.parametrize("room", [0, 3, 39, 70, 400, 1000])
def test_a_record_that_had_no_room_never_comes_back(room: int) -> None:
    disk = overfilled(room)
    check(disk, every=9)
    check_later_lives(disk, kills=5, losses=200, every=97)
