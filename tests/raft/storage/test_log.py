"""The raft log and its snapshots on real files: what a host sees of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from onerack.config import RaftConfig
from onerack.errors import Corruption, InputError, StorageFull, UsageError
from onerack.raft.commands import USER, commands_of, pack_command
from onerack.raft.core.membership import decode_configuration
from onerack.raft.messages import Configuration, Entry, HardState, Kind, LogReset, Recovered, SnapshotMark
from onerack.raft.storage import RaftLog, SnapshotStore, rewrite_membership, verify
from onerack.runtime import real
from onerack.runtime.real import RealAppendFile, RealDisk

FIRST = Configuration(voters=("n1", "n2", "n3"))
CONFIG = RaftConfig(segment_bytes=64 << 10, entry_bytes_max=16 << 10, append_bytes_max=16 << 10)


def opened(directory: Path, node: str = "n1") -> tuple[RaftLog, Recovered]:
    return RaftLog.open(directory, cluster="test", node=node, first=FIRST, config=CONFIG)


def entries(term: int, first: int, count: int, payload: bytes = b"payload") -> list[Entry]:
    return [Entry(term, first + number, Kind.COMMANDS, payload) for number in range(count)]


def test_a_new_log_begins_with_the_first_configuration(tmp_path: Path) -> None:
    log, recovered = opened(tmp_path)
    log.close()
    assert recovered == Recovered(mark=SnapshotMark(configuration=FIRST))
    again, recovered = RaftLog.open(tmp_path, cluster="test", node="n1", config=CONFIG)
    again.close()
    assert recovered.mark.configuration == FIRST, "an old log has its own"


def test_a_large_entry_is_there_again_without_a_copy(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    payload = pack_command(USER, 5, b"c" * 9000) + pack_command(USER, 6, b"d")
    log.append([HardState(3, "n2"), *entries(3, 1, 8, payload)])
    log.sync()
    log.close()
    log, recovered = opened(tmp_path)
    log.cut_before(8)  # and its files go
    log.close()
    assert list(recovered.entries) == entries(3, 1, 8, payload)
    assert type(recovered.entries[0].payload).__name__ == "memoryview"
    assert list(commands_of(recovered.entries[0].payload)) == [(USER, 5, b"c" * 9000), (USER, 6, b"d")]
    encoded = msgspec.msgpack.encode(recovered.entries[0])
    assert encoded == msgspec.msgpack.encode(entries(3, 1, 1, payload)[0])


def test_what_was_appended_is_there_again(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    log.append([HardState(3, "n2"), *entries(3, 1, 5)])
    log.sync()
    log.append(entries(4, 4, 1, b"replaces two"))
    log.sync()
    log.close()
    log, recovered = opened(tmp_path)
    log.close()
    assert recovered.hard_state == HardState(3, "n2")
    assert recovered.entries == (*entries(3, 1, 3), *entries(4, 4, 1, b"replaces two"))
    assert not log.torn


def test_segments_are_made_ahead_and_cut_behind_a_snapshot(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    for index in range(1, 101):
        log.append(entries(1, index, 1, bytes(4000)))
        log.sync()
    before = verify_closed(log, tmp_path)
    assert len(before) > 5
    log, _ = opened(tmp_path)
    writer = log.snapshots.create(SnapshotMark(90, 1, FIRST))
    writer.write(b"state")
    writer.commit()
    log.cut_before(81)
    assert len(verify_closed(log, tmp_path)) < len(before)
    log, recovered = opened(tmp_path)
    log.close()
    assert recovered.mark.index == 90
    assert recovered.entries[0].index <= 81, "a tail is kept for slow followers"
    assert recovered.entries[-1].index == 100


def verify_closed(log: RaftLog, directory: Path) -> list[str]:
    log.close()
    report = verify(str(directory))
    assert report.is_right, str(report)
    return [segment.file for segment in report.segments]


def test_a_reset_begins_anew(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    log.append(entries(1, 1, 50))
    log.sync()
    mark = SnapshotMark(30, 2, FIRST)
    log.snapshots.create(mark).commit()
    log.append([HardState(2), LogReset(mark), *entries(2, 31, 2)])
    log.sync()
    log.close()
    log, recovered = opened(tmp_path)
    log.close()
    assert recovered == Recovered(HardState(2), mark, tuple(entries(2, 31, 2)))


def test_a_batch_that_is_too_long_for_one_record_goes_in_several(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    log.append(entries(1, 1, 100, b"x" * 4000))
    log.sync()
    assert log.records > 10
    log.append([Entry(1, 101, 0, b"y" * 200_000)])
    log.sync()
    log.close()
    log, recovered = opened(tmp_path)
    log.close()
    assert [len(entry.payload) for entry in recovered.entries] == [4000] * 100 + [200_000]


def test_entries_that_leave_a_gap_are_a_bug(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    with pytest.raises(AssertionError, match="leaves a gap"):
        log.append(entries(1, 2, 1))
    log.append(entries(1, 1, 1))
    with pytest.raises(AssertionError, match="must be synced first"):
        log.append(entries(1, 2, 1))
    log.close()


def test_one_process_holds_a_directory(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    with pytest.raises(UsageError, match="is held by another process"):
        opened(tmp_path)
    log.close()
    with pytest.raises(UsageError, match="is that of node 'n1'"):
        opened(tmp_path, node="n2")
    opened(tmp_path)[0].close()


def test_a_cut_segment_of_a_thread_does_not_disturb_appends(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    log.snapshots.create(SnapshotMark(1, 1, FIRST)).commit()
    done = threading.Event()

    def cut() -> None:
        while not done.is_set():
            log.cut_before(2)

    thread = threading.Thread(target=cut)
    thread.start()
    for number in range(200):
        log.append(entries(1, 1 + number // 2, 1, bytes(4000)))
        log.sync()
    done.set()
    thread.join()
    log.close()
    log, recovered = opened(tmp_path)
    log.close()
    assert recovered.entries[-1].index == 100


# ------------------------------------------------------------------------------------------------ failures


def test_a_failed_fsync_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(BaseException):
        pass

    def halt(reason: str) -> None:
        raise Ended(reason)

    def fails(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    log, _ = opened(tmp_path)
    monkeypatch.setattr(real, "halt", halt)
    log.append(entries(1, 1, 1))
    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(Ended, match=r"fsync of .*log-0000000000000001.seg failed"):
        log.sync()
    monkeypatch.undo()
    with pytest.raises(AssertionError, match="must be synced first"):
        log.append(entries(1, 2, 1))
    log.close()


class FullDisk(RealDisk):
    """Has no room for another file while `full`."""

    full = False

    def open_append(self, path: str) -> RealAppendFile:
        if self.full:
            raise StorageFull(path)
        return super().open_append(path)


def append_until_full(log: RaftLog) -> int:
    for index in range(1, 100):
        try:
            log.append(entries(1, index, 1, bytes(4000)))
        except StorageFull:
            return index - 1
        log.sync()
        assert log.full or index < 10, "it is told when half of the segment is used"
    raise AssertionError("it never was full")


def test_a_full_disk_is_told_before_anybody_has_to_be_refused(tmp_path: Path) -> None:
    disk = FullDisk()
    log, _ = RaftLog.open(tmp_path, cluster="test", node="n1", disk=disk, config=CONFIG, in_background=False)
    disk.full = True
    taken = append_until_full(log)
    assert taken > 12, "the present segment is used to its end"
    disk.full = False
    log.try_again()
    assert log.full is None
    log.append(entries(1, taken + 1, 1, bytes(4000)))
    log.sync()
    log.close()
    log, recovered = opened(tmp_path)
    log.close()
    assert len(recovered.entries) == taken + 1


CHILD = """
import sys
from onerack.raft.messages import Entry
from onerack.raft.storage import RaftLog
from onerack.config import RaftConfig
log, recovered = RaftLog.open(sys.argv[1], cluster="test", node="n1",
    config=RaftConfig(segment_bytes=1 << 16, entry_bytes_max=1 << 14, append_bytes_max=1 << 14))
index = len(recovered.entries)
while True:
    index += 1
    log.append([Entry(1, index, 0, b"%d" % index * 700)])
    log.sync()
    print(index, flush=True)
"""


def test_a_killed_process_has_kept_what_it_told(tmp_path: Path) -> None:
    told = 0
    for lines in (5, 30, 80):
        with subprocess.Popen([sys.executable, "-c", CHILD, tmp_path], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(lines):
                told = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            told = max([told, *map(int, child.stdout.read().split())])
        log, recovered = opened(tmp_path)
        log.close()
        assert told <= len(recovered.entries) <= told + 1
        assert all(entry.payload == b"%d" % entry.index * 700 for entry in recovered.entries)


# ------------------------------------------------------------------------------------------------ snapshots


def test_a_snapshot_is_there_when_it_is_committed(tmp_path: Path) -> None:
    opened(tmp_path)[0].close()
    store = SnapshotStore(tmp_path)
    assert store.newest() is None
    mark = SnapshotMark(7, 2, FIRST)
    writer = store.create(mark)
    pieces = [b"one", b"", os.urandom(1 << 20), b"three"]
    for piece in pieces:
        writer.write(piece)
    assert store.newest() is None
    writer.commit()
    writer.abort()
    assert store.newest() == mark
    with store.open(mark) as reader:
        assert list(reader.pieces()) == [piece for piece in pieces if piece]
        assert reader.size == writer.size == sum(map(len, pieces))


def test_an_aborted_snapshot_leaves_nothing(tmp_path: Path) -> None:
    opened(tmp_path)[0].close()
    before = sorted(os.listdir(tmp_path / "raft"))
    writer = SnapshotStore(tmp_path).create(SnapshotMark(7, 2, FIRST))
    writer.write(b"piece")
    writer.abort()
    writer.abort()
    assert sorted(os.listdir(tmp_path / "raft")) == before
    with pytest.raises(AssertionError, match="takes no more"):
        writer.write(b"piece")


def test_two_snapshots_of_one_index_do_not_mix(tmp_path: Path) -> None:
    opened(tmp_path)[0].close()
    store = SnapshotStore(tmp_path)
    mark = SnapshotMark(7, 2, FIRST)
    first, second = store.create(mark), store.create(mark)
    for number in range(100):
        first.write(b"first %d" % number)
        second.write(b"second %d" % number)
    second.commit()
    first.abort()
    with store.open(mark) as reader:
        assert list(reader.pieces()) == [b"second %d" % number for number in range(100)]


def test_a_snapshot_is_read_to_its_end_though_it_is_deleted(tmp_path: Path) -> None:
    opened(tmp_path)[0].close()
    store = SnapshotStore(tmp_path)
    for index in (5, 9):
        writer = store.create(SnapshotMark(index, 1, FIRST))
        writer.write(b"a")
        writer.write(b"b")
        writer.commit()
    with store.open(SnapshotMark(5, 1, FIRST)) as reader:
        pieces = reader.pieces()
        assert next(pieces) == b"a"
        store.delete_before(100)
        assert list(pieces) == [b"b"]
    assert store.indexes() == [9], "the newest stays in any case"
    with pytest.raises(FileNotFoundError):
        store.open(SnapshotMark(5, 1, FIRST))


def test_what_did_not_get_finished_is_removed_at_the_next_opening(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    log.snapshots.create(SnapshotMark(5, 1, FIRST)).write(b"and then it died")
    log.close()
    inside = tmp_path / "raft"
    (inside / "somebody's.tmp").touch()
    assert len(list(inside.glob("snapshot-*.tmp"))) == 1
    opened(tmp_path)[0].close()
    assert [path.name for path in inside.glob("*.tmp")] == ["somebody's.tmp"]


# ------------------------------------------------------------------------------------------------ repair


def test_a_node_that_is_left_alone_can_be_made_a_cluster_of_one(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    log.append([HardState(4, "n3"), *entries(4, 1, 3)])
    log.sync()
    log.close()
    rewritten = rewrite_membership(tmp_path, Configuration(voters=("n1",)), config=CONFIG)
    log, recovered = opened(tmp_path)
    log.close()
    assert (rewritten.term, rewritten.index) == (5, 4)
    assert recovered.hard_state == HardState(5)
    assert recovered.entries[:3] == tuple(entries(4, 1, 3))
    assert recovered.entries[3].kind == Kind.CONFIGURATION
    assert decode_configuration(recovered.entries[3].payload) == Configuration(voters=("n1",))


def test_a_membership_that_leaves_the_node_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no raft log in it"):
        rewrite_membership(tmp_path, FIRST)
    opened(tmp_path)[0].close()
    for configuration in (Configuration(), Configuration(voters=("n2",)), Configuration(("n1",), witnesses=("n1",))):
        with pytest.raises(UsageError, match="must be a voter"):
            rewrite_membership(tmp_path, configuration, config=CONFIG)
    with pytest.raises(UsageError, match="cannot be"):
        rewrite_membership(tmp_path, Configuration(voters=("n1", "n1")), config=CONFIG)
    assert verify(tmp_path).hard_state == HardState()


def test_a_directory_that_lost_its_identity_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    log.append(entries(1, 1, 1))
    log.sync()
    log.close()
    os.unlink(tmp_path / "raft" / "identity")
    with pytest.raises(Corruption, match="expected the identity of the log"):
        opened(tmp_path)
