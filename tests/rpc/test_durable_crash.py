"""The local log through every crash: at each operation, with each of the remains that it may leave.

Proved of every one of them: all that was acknowledged is recovered, in order; nothing else is, but the batch in flight
as a whole; a crash while recovering changes nothing, and what is written after it is kept. And each step of the log
that could be forgotten or done too early is, in a planted bug, and is caught.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import pytest

from onerack.errors import Corruption, NotExecuted, StorageFull
from onerack.rpc.durable import format, recovery
from onerack.rpc.durable.files import LogFiles, Segment
from onerack.rpc.durable.format import Header, encode_record
from onerack.rpc.durable.log import LocalLog
from onerack.rpc.durable.recovery import recover
from onerack.runtime.env import AppendFile
from tests.rpc.crash_disk import CrashDisk, Files, Picture
from tests.rpc.ledger import DIRECTORY, commands_in, draw, live

Batches = list[list[bytes]]

BATCHES: Batches = [[f"{batch}.{number}".encode() * 3 for number in range(1 + batch % 3)] for batch in range(12)]
BATCHES[6] = [b"over several sectors", bytes(700), b"two of which are zeros anyway" + bytes(700), b"x" * 500]
LATER: Batches = [[b"later one", b"later two"], [b"last"]]


class Violation(AssertionError):
    """A crash would have lost, invented or torn something."""


def recovered_commands(files: Files) -> tuple[bytes, ...]:
    disk = CrashDisk(files)
    try:
        recovered = recover(disk, DIRECTORY)
    except Corruption as damage:
        raise Violation(f"what a crash left is taken for damage: {damage}") from damage
    before = commands_in(recovered.snapshot) if recovered.snapshot is not None else []
    return (*before, *recovered.commands)


def check(disk: CrashDisk, every: int = 1) -> int:
    """Recovers from all remains of all moments; how many they were."""
    seen: dict[frozenset[tuple[str, bytes]], tuple[bytes, ...]] = {}
    for picture in disk.pictures:
        for files in picture.remains(every):
            key = frozenset(files.items())
            if key not in seen:
                seen[key] = recovered_commands(files)
            check_commands(seen[key], picture)
    return len(seen)


def check_commands(commands: tuple[bytes, ...], picture: Picture) -> None:
    if commands not in (picture.acknowledged, picture.acknowledged + picture.flying):
        raise Violation(
            f"after {picture.operation}: {len(commands)} commands are recovered, {len(picture.acknowledged)} were "
            f"acknowledged and {len(picture.flying)} in flight"
        )


def check_later_lives(disk: CrashDisk, step: int = 1, every: int = 37) -> int:
    """Opens the log after every kill and after each `step`th loss of power, goes on, and checks that life too."""
    count = 0
    for second in later_disks(disk, step):
        live(second, LATER)
        check(second, every)
        count += 1
    return count


def later_disks(disk: CrashDisk, step: int) -> Iterator[CrashDisk]:
    for picture in disk.pictures:
        yield CrashDisk.after_kill(picture)
    remains = {frozenset(files.items()): files for picture in disk.pictures for files in picture.remains()}
    for files in [*remains.values()][::step]:
        yield CrashDisk(files, recovered_commands(files))


def worked(batches: Iterable[list[bytes]] = BATCHES, *, in_thread: bool = False) -> CrashDisk:
    """The disk of a log that was opened twice and turned over once or more."""
    disk = CrashDisk()
    batches = list(batches)
    live(disk, batches[:4], in_thread=in_thread)
    live(disk, batches[4:], in_thread=in_thread, snapshot_after_bytes=800)
    return disk


# ------------------------------------------------------------------------------------------------ proofs


@pytest.mark.parametrize("in_thread", [False, True])
def test_every_crash_leaves_what_was_acknowledged(in_thread: bool) -> None:
    disk = worked(in_thread=in_thread)
    operations = " ".join(picture.operation for picture in disk.pictures)
    assert "rename /log/snapshot-" in operations, "the workload has a snapshot"
    assert "unlink /log/log-" in operations, "the workload has a segment that was replaced"
    assert check(disk) > 1000


def test_a_log_goes_on_after_every_crash_and_may_crash_while_it_is_opened() -> None:
    assert check_later_lives(worked(), step=40) > 100


@pytest.mark.soak
def test_a_log_goes_on_after_a_thousand_crashes() -> None:
    for in_thread in (False, True):
        assert check_later_lives(worked(in_thread=in_thread), step=3, every=29) > 1000


def test_commands_are_kept_that_were_committed_while_a_snapshot_was_written() -> None:
    disk = CrashDisk()
    files = LogFiles(disk, DIRECTORY, draw(16))
    commands = [b"first", b"second"]
    segment = files.begin_segment(1)
    segment.append(1, commands)
    disk.acknowledged = list(commands)
    disk.pictures.clear()
    segment.close()
    segment = files.begin_segment(3)

    def commit() -> None:
        disk.meanwhile = lambda: None
        disk.flying = [f"number {len(disk.acknowledged)}".encode()]
        segment.append(len(disk.acknowledged) + 1, disk.flying)
        disk.acknowledged += disk.flying
        disk.flying = []
        disk.meanwhile = commit

    disk.meanwhile = commit
    files.replace(2, msgspec.msgpack.encode(commands))
    assert len(disk.acknowledged) > 6, "something was committed between any two operations"
    assert check(disk, every=5) > 100


def filled(room: int, *, in_thread: bool = False, snapshot_after_bytes: int = 1 << 30) -> CrashDisk:
    """The disk of a log that had only `room` bytes left for its third and fourth batch."""
    disk = CrashDisk()

    def before_batch(number: int) -> None:
        disk.room = room if number == 2 else disk.room if number == 3 else 1 << 40

    batches = BATCHES[:6]
    machine = live(
        disk, batches, in_thread=in_thread, snapshot_after_bytes=snapshot_after_bytes, before_batch=before_batch
    )
    dropped = [command for command, _ in machine.dropped_commands]
    assert all(isinstance(error, NotExecuted) and error.cause == "storage" for _, error in machine.dropped_commands)
    assert machine.commands == [command for batch in batches for command in batch if command not in dropped]
    assert set(dropped) <= {*batches[2], *batches[3]}, "the log goes on when there is room again"
    return disk


@pytest.mark.parametrize("snapshot_after_bytes", [100, 1 << 30])
def test_what_a_full_disk_refused_never_comes_back(snapshot_after_bytes: int) -> None:
    dropped = set()
    for room in range(0, 300, 45):
        disk = filled(room, snapshot_after_bytes=snapshot_after_bytes)
        check(disk, every=7)
        check_later_lives(disk, step=1000)
        dropped.add(len(disk.acknowledged))
    assert len(dropped) > 2, "there was room for nothing, for one batch, for both"


# ------------------------------------------------------------------------------------------------ planted bugs


def apply_before_the_sync(patch: pytest.MonkeyPatch) -> None:
    def append(self: Segment, index: int, commands: Sequence[bytes]) -> int:
        self._file.sync()
        record = encode_record(self._identity, index, commands, self._size)
        self._file.append(record)
        self._size += len(record)
        return len(record)

    patch.setattr(Segment, "append", append)


def a_record_for_each_command(patch: pytest.MonkeyPatch) -> None:
    append_batch = Segment.append

    def append(self: Segment, index: int, commands: Sequence[bytes]) -> int:
        return sum(append_batch(self, index + number, [command]) for number, command in enumerate(commands))

    patch.setattr(Segment, "append", append)


def make_in_order(patch: pytest.MonkeyPatch, steps: str) -> None:
    """Files are made in these steps: `w`rite, `s`ync, `r`ename, `d`irectory."""

    def make(self: LogFiles, name: str, frames: Iterable[bytes]) -> AppendFile:
        path, unfinished = self.path(name), self.path(name + ".tmp")
        file = self._disk.open_append(unfinished)
        for step in steps:
            match step:
                case "w":
                    file.append(b"".join(frames))
                case "s":
                    file.sync()
                case "r":
                    self._disk.rename(unfinished, path)
                case "d":
                    self._disk.sync_directory(self._directory)
        return file

    patch.setattr(LogFiles, "_make", make)


def no_sync_of_the_directory(patch: pytest.MonkeyPatch) -> None:
    make_in_order(patch, "wsr")


def renamed_before_its_sync(patch: pytest.MonkeyPatch) -> None:
    make_in_order(patch, "wrsd")


def never_synced(patch: pytest.MonkeyPatch) -> None:
    make_in_order(patch, "wrd")


def the_directory_synced_before_the_rename(patch: pytest.MonkeyPatch) -> None:
    make_in_order(patch, "wsdr")


def old_segments_removed_before_the_snapshot(patch: pytest.MonkeyPatch) -> None:
    def replace(self: LogFiles, index: int, snapshot: bytes) -> None:
        old = recovery.files_of(self._disk.names(self._directory), "log-")
        self.remove(file.name for file in old if file.index <= index)
        replace_rightly(self, index, snapshot)

    replace_rightly = LogFiles.replace
    patch.setattr(LogFiles, "replace", replace)


def one_segment_too_many_removed(patch: pytest.MonkeyPatch) -> None:
    def replace(self: LogFiles, index: int, snapshot: bytes) -> None:
        replace_rightly(self, index, snapshot)
        self.remove([f"log-{index + 1:016x}"])

    replace_rightly = LogFiles.replace
    patch.setattr(LogFiles, "replace", replace)


def a_torn_record_written_behind(patch: pytest.MonkeyPatch) -> None:
    begin_rightly = LogFiles.begin_segment

    def begin_segment(self: LogFiles, index: int) -> Segment:
        there = recovery.files_of(self._disk.names(self._directory), "log-")
        if not there:
            return begin_rightly(self, index)
        file = self._disk.open_append(self.path(there[-1].name))
        return Segment(file, Header(self._identity, index), 0)

    patch.setattr(LogFiles, "begin_segment", begin_segment)


def the_last_segment_not_settled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LogFiles, "settle", lambda self, name: None)


def superseded_removed_before_the_snapshot_is_surely_there(patch: pytest.MonkeyPatch) -> None:
    def settle(self: LogFiles, name: str) -> None:
        self.remove(recover(self._disk, self._directory).superseded)
        settle_rightly(self, name)

    settle_rightly = LogFiles.settle
    patch.setattr(LogFiles, "settle", settle)


def a_full_disk_appended_to_again(patch: pytest.MonkeyPatch) -> None:
    give_up_rightly = LocalLog._give_up_segment

    def give_up_segment(self: LocalLog, full: StorageFull) -> None:
        segment = self._segment
        give_up_rightly(self, full)
        self._segment = segment

    patch.setattr(LocalLog, "_give_up_segment", give_up_segment)


def a_full_disk_written_to_in_the_end(patch: pytest.MonkeyPatch) -> None:
    """What was told not to be executed is stored after all, when there is room again."""
    give_up_rightly = LocalLog._give_up_segment

    def give_up_segment(self: LocalLog, full: StorageFull) -> None:
        asyncio.get_running_loop().call_later(0.0002, self._waiting.extend, [*self._flying])
        asyncio.get_running_loop().call_later(0.0002, self._bell.set)
        give_up_rightly(self, full)

    patch.setattr(LocalLog, "_give_up_segment", give_up_segment)


def an_unfinished_file_appended_to(patch: pytest.MonkeyPatch) -> None:
    make_in_order(patch, "wsrd")


def every_torn_record_refused(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(recovery, "is_torn", lambda *arguments: False)


def lost_sectors_not_known(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(format, "empty_sectors", lambda body, offset: 0)


BUGS: list[Callable[[pytest.MonkeyPatch], None]] = [
    apply_before_the_sync,
    a_record_for_each_command,
    no_sync_of_the_directory,
    renamed_before_its_sync,
    never_synced,
    the_directory_synced_before_the_rename,
    old_segments_removed_before_the_snapshot,
    one_segment_too_many_removed,
    a_torn_record_written_behind,
    the_last_segment_not_settled,
    superseded_removed_before_the_snapshot_is_surely_there,
    a_full_disk_appended_to_again,
    a_full_disk_written_to_in_the_end,
    an_unfinished_file_appended_to,
    every_torn_record_refused,
    lost_sectors_not_known,
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_caught(bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    with pytest.raises((AssertionError, Corruption)):
        check_all()


def check_all() -> None:
    for room in range(0, 300, 60):
        check_later_lives(filled(room), step=1000)
    disk = worked()
    check(disk, every=29)
    check_later_lives(disk, step=100)
