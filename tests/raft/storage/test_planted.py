"""Each step of the storage that could be forgotten or done too early is, in a planted bug, and is caught.

The proof is that of test_crash.py and test_damage.py, on a smaller scale: a bug that only the soak would find is a bug
that the tests do not find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from onerack.errors import OnerackError
from onerack.raft.messages import HardState
from onerack.raft.storage import batch, format, identity, log, recovery, segments, snapshots
from onerack.raft.storage.files import snapshot_name
from onerack.raft.storage.format import Begin
from onerack.raft.storage.log import RaftLog
from onerack.raft.storage.recovery import Scan
from onerack.raft.storage.segments import Segment, SegmentMaker
from onerack.raft.storage.snapshots import SnapshotReader, SnapshotStore, SnapshotWriter
from onerack.runtime.unfinished import UnfinishedFile
from tests.raft.storage import test_crash
from tests.raft.storage.test_damage import check_every_bit, check_misplaced
from tests.raft.storage.workload import Node, worked

Patch = pytest.MonkeyPatch


def check_all() -> None:
    disk = worked()
    test_crash.check(disk, every=47)
    check_misplaced()
    check_every_bit(step=41)
    for large in (False, True):
        test_crash.check_failed(large)
    for room in (0, 39, 400):
        test_crash.check(test_crash.overfilled(room), every=53)
    test_crash.check(test_crash.filled(700), every=53)
    test_crash.check_torn_lives(disk, every=599)
    test_crash.check_later_lives(disk, kills=4, losses=250, every=997)


# ------------------------------------------------------------------------------------------------ steps left out


def a_record_acknowledged_before_its_sync(patch: Patch) -> None:
    patch.setattr(Segment, "sync", lambda self: None)


def make_in_order(patch: Patch, steps: str) -> None:
    """Files get their names in these steps: `s`ync, `r`ename, `d`irectory."""

    def finish(self: Any) -> Any:
        for step in steps:
            match step:
                case "s":
                    self._file.sync()
                case "r":
                    self._disk.rename(self._source, self._target)
                case "d":
                    self._disk.sync_directory(self._directory)
        return self._file

    patch.setattr(UnfinishedFile, "finish", finish)


def no_sync_of_the_directory(patch: Patch) -> None:
    make_in_order(patch, "sr")


def no_sync_of_the_file(patch: Patch) -> None:
    make_in_order(patch, "rd")


def renamed_before_its_sync(patch: Patch) -> None:
    make_in_order(patch, "rsd")


def the_directory_synced_before_the_rename(patch: Patch) -> None:
    make_in_order(patch, "sdr")


def what_was_found_not_settled(patch: Patch) -> None:
    def settle(self: Any, found: Scan) -> None:
        for name in found.superseded:
            self._disk.unlink(f"{self._directory}/{name}")
        self._disk.sync_directory(self._directory)

    patch.setattr(log._Opening, "_settle", settle)


def names_that_were_found_not_settled(patch: Patch) -> None:
    def settle(self: Any, found: Scan) -> None:
        self._disk.open_fixed(f"{self._directory}/{found.extents[-1].name}").sync()

    patch.setattr(log._Opening, "_settle", settle)


def the_last_record_believed_after_a_failed_sync(patch: Patch) -> None:
    def settle(self: Any, found: Scan) -> None:
        found.extents[-1].begin = found.extents[-1].end  # So nothing of it is written again.
        settle_rightly(self, found)

    settle_rightly = log._Opening._settle
    patch.setattr(log._Opening, "_settle", settle)


def a_torn_next_segment_left_where_it_is(patch: Patch) -> None:
    def settle(self: Any, found: Scan) -> None:
        found.superseded.clear()
        settle_rightly(self, found)

    settle_rightly = log._Opening._settle
    patch.setattr(log._Opening, "_settle", settle)


def a_torn_next_segment_that_may_come_back(patch: Patch) -> None:
    def settle(self: Any, found: Scan) -> None:
        superseded, found.superseded = found.superseded, []
        settle_rightly(self, found)
        for name in superseded:
            self._disk.unlink(f"{self._directory}/{name}")

    settle_rightly = log._Opening._settle
    patch.setattr(log._Opening, "_settle", settle)


# ------------------------------------------------------------------------------------------------ order


def segments_cut_before_the_snapshot_is_durable(patch: Patch) -> None:
    def take_snapshot(self: Node, index: int, keep: int = 0) -> None:
        self.log.cut_before(index + 1)
        take_rightly(self, index, keep)

    take_rightly = Node.take_snapshot
    patch.setattr(Node, "take_snapshot", take_snapshot)


def old_snapshots_deleted_before_the_new_one_is_durable(patch: Patch) -> None:
    def commit(self: Any) -> None:
        disk = self._file._disk
        for name in disk.names("/data/raft"):
            if name.endswith(".snap"):
                disk.unlink(f"/data/raft/{name}")
        commit_rightly(self)

    commit_rightly = SnapshotWriter.commit
    patch.setattr(SnapshotWriter, "commit", commit)


def the_identity_written_first(patch: Patch) -> None:
    def make(self: Any, own: identity.Identity) -> identity.Identity:
        identity.write_identity(self._disk, self._directory, own)
        return make_rightly(self, own)

    make_rightly = log._Opening._make
    patch.setattr(log._Opening, "_make", make)


def one_segment_too_many_cut(patch: Patch) -> None:
    def cut_before(self: Any, index: int) -> None:
        cut_rightly(self, index)
        cut_rightly(self, self._extents[0].last + 1)

    cut_rightly = RaftLog.cut_before
    patch.setattr(RaftLog, "cut_before", cut_before)


def the_last_segment_cut(patch: Patch) -> None:
    def cut_before(self: Any, index: int) -> None:
        for extent in self._extents:
            if extent.last < index:
                self._disk.unlink(f"{self._directory}/{extent.name}")

    patch.setattr(RaftLog, "cut_before", cut_before)


def what_a_batch_replaces_forgotten_before_it_is_durable(patch: Patch) -> None:
    def put(self: Any, written: Any) -> None:
        put_rightly(self, written)
        self._follow(written)
        self.cut_before(self._last)

    put_rightly = RaftLog._put
    patch.setattr(RaftLog, "_put", put)


def a_segment_begun_in_the_place_of_records(patch: Patch) -> None:
    def append(self: Segment, number: int, pieces: Sequence[bytes], parts: int) -> None:
        if self.position > 900:
            self.position = format.HEADER_BYTES
        append_rightly(self, number, pieces, parts)

    append_rightly = Segment.append
    patch.setattr(Segment, "append", append)


# ------------------------------------------------------------------------------------------------ records


def a_torn_segment_appended_to(patch: Patch) -> None:
    def open_segment(*arguments: Any) -> Segment:
        segment = open_rightly(*arguments)
        segment.failed = False
        return segment

    open_rightly = log.open_segment
    patch.setattr(log, "open_segment", open_segment)


def a_segment_without_room_appended_to(patch: Patch) -> None:
    def takes(self: Segment, parts_bytes: int) -> bool:
        self.failed = False
        return takes_rightly(self, parts_bytes)

    takes_rightly = Segment.takes
    patch.setattr(Segment, "takes", takes)


def a_record_for_each_part(patch: Patch) -> None:
    append_rightly = RaftLog.append

    def append(self: RaftLog, writes: Sequence[Any]) -> None:
        for number, write in enumerate(writes):
            if number:
                self.sync()
            append_rightly(self, [write])

    patch.setattr(RaftLog, "append", append)


def the_hard_state_not_repeated(patch: Patch) -> None:
    def opening_parts(last: int, hard_state: HardState, begin: Begin) -> list[bytes]:
        return parts_rightly(last, HardState(), begin)

    parts_rightly = batch.opening_parts
    patch.setattr(log, "opening_parts", opening_parts)


def the_vote_not_written(patch: Patch) -> None:
    def add(self: Any, write: Any) -> None:
        add_rightly(self, HardState(write.term) if isinstance(write, HardState) else write)

    add_rightly = batch.Batch.add
    patch.setattr(batch.Batch, "add", add)


def a_replaced_entry_that_keeps_those_behind(patch: Patch) -> None:
    def put(self: Scan, entry: Any) -> None:
        if self.base < entry.index <= self.last:
            self.entries[entry.index - self.base - 1] = entry
        else:
            put_rightly(self, entry)

    put_rightly = Scan.put
    patch.setattr(Scan, "put", put)


def a_reset_ignored(patch: Patch) -> None:
    patch.setattr(Scan, "reset", lambda self, index: None)


def an_arrived_snapshot_joined_to_another_log(patch: Patch) -> None:
    patch.setattr(recovery, "_goes_on_from", lambda found, mark: mark.index <= found.last)


def every_torn_record_refused(patch: Patch) -> None:
    patch.setattr(recovery, "is_torn", lambda *arguments: False)


def lost_sectors_not_known(patch: Patch) -> None:
    patch.setattr(format, "_has_lost_sector", lambda *arguments: False)


def sectors_of_zeros_taken_for_lost(patch: Patch) -> None:
    patch.setattr(segments, "encode_record", encode_without_counts(format.encode_record))


def encode_without_counts(encode: Callable[..., tuple[bytes, bytes, int]]) -> Callable[..., tuple[bytes, bytes, int]]:
    def encode_record(*arguments: Any) -> tuple[bytes, bytes, int]:
        count, format.count_sectors = format.count_sectors, lambda body, offset: (0, 0)
        try:
            return encode(*arguments)
        finally:
            format.count_sectors = count

    return encode_record


# ------------------------------------------------------------------------------------------------ damage


def every_bad_record_cut(patch: Patch) -> None:
    patch.setattr(recovery, "is_torn", lambda *arguments: True)


def a_record_behind_the_bad_one_not_looked_for(patch: Patch) -> None:
    patch.setattr(format, "_has_later_record", lambda *arguments: False)


def checksums_of_records_ignored(patch: Patch) -> None:
    patch.setattr(recovery, "read_record", without_checksum(format.read_record))


def without_checksum(read: Callable[..., format.Record]) -> Callable[..., format.Record]:
    def read_record(content: bytes, path: str, position: int, *rest: Any) -> format.Record:
        head = format.read_head(content, position)
        if head is None:
            return read(content, path, position, *rest)
        parts = [*format._parts(content, path, position + format.HEAD_BYTES, position + format.HEAD_BYTES + head.size)]
        return format.Record(head.number, parts, position + head.record_bytes, head.checksum)

    return read_record


def checksums_not_chained(patch: Patch) -> None:
    encode: Any = format.encode_record
    read: Any = format.read_record
    patch.setattr(segments, "encode_record", lambda *arguments: encode(*arguments[:-1], 0))
    patch.setattr(recovery, "read_record", lambda *arguments: read(*arguments[:-1], 0))


def a_segment_used_again_without_zeros(patch: Patch) -> None:
    def append(self: UnfinishedFile, content: bytes) -> None:
        if not content.strip(b"\0"):
            old = sorted(name for name in self._disk.names(self._directory) if name.endswith(".seg"))[:1]
            content = self._disk.read(f"{self._directory}/{old[0]}")[512:][: len(content)] if old else content
        append_rightly(self, content)

    append_rightly = UnfinishedFile.append
    patch.setattr(UnfinishedFile, "append", append)


def a_segment_used_again_with_its_seed(patch: Patch) -> None:
    a_segment_used_again_without_zeros(patch)
    patch.setattr(SegmentMaker, "_seed", lambda self: b"\x81same...")


def pieces_of_snapshots_not_checked(patch: Patch) -> None:
    def pieces(self: SnapshotReader) -> Iterator[bytes]:
        position = self._begin
        while position < self._file.size - snapshots.FOOTER_BYTES:
            size = int.from_bytes(self._file.read(position, 4), "little")
            yield self._file.read(position + 16, size)
            position += 16 + size

    patch.setattr(SnapshotReader, "pieces", pieces)


def the_end_of_a_snapshot_not_looked_at(patch: Patch) -> None:
    patch.setattr(SnapshotReader, "_read_footer", lambda self: snapshots.Footer(0, 0, 0))


def whose_snapshot_it_is_not_asked(patch: Patch) -> None:
    def open_index(self: SnapshotStore, index: int) -> SnapshotReader:
        path = f"{self._directory}/{snapshot_name(index)}"
        return SnapshotReader(self._disk.open_read(path), path)

    patch.setattr(SnapshotStore, "open_index", open_index)


BUGS: list[Callable[[Patch], None]] = [
    bug
    for name, bug in list(globals().items())
    if callable(bug) and getattr(bug, "__module__", "") == __name__ and list(bug.__annotations__) == ["patch", "return"]
]


def test_there_are_bugs() -> None:
    assert len(BUGS) >= 30


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_caught(bug: Callable[[Patch], None], monkeypatch: Patch) -> None:
    bug(monkeypatch)
    with pytest.raises((AssertionError, OnerackError, OSError)):
        check_all()


def test_without_a_bug_nothing_is_caught() -> None:
    check_all()
