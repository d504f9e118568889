"""Damaged directories: every bit, every misplaced, missing or cut file and record is found out, or was never in use."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onerack.codec import HEADER, encode_frame
from onerack.errors import Corruption, InputError, OnerackError, UsageError
from onerack.raft.messages import HardState, SnapshotMark
from onerack.raft.storage import SnapshotStore, Torn, verify
from onerack.raft.storage.files import IDENTITY, segment_name, snapshot_name
from onerack.raft.storage.format import HEADER_BYTES, PART, count_sectors, encode_record, is_torn, read_head, used_bytes
from onerack.raft.storage.identity import read_identity
from onerack.raft.storage.recovery import recover
from tests.raft.storage.crash_disk import CrashDisk
from tests.raft.storage.workload import DIRECTORY, FIRST, INSIDE, SMALL, Node, View, entries, view_of, worked
from tests.rpc.crash_disk import SECTOR, Files

SEED = b"\x81seed..."


def read_all(files: Files) -> View:
    """What a node would start with, and the newest snapshot read to its end. Raises: Corruption."""
    disk = CrashDisk(files)
    identity = read_identity(disk, INSIDE)
    if identity is None:
        raise Corruption(f"{INSIDE}/{IDENTITY}", 0, "an identity", "none")
    snapshots = SnapshotStore(DIRECTORY, disk=disk, identity=identity.log)
    view = view_of(recover(disk, INSIDE, identity, snapshots).recovered)
    if view.mark.index:
        with snapshots.open(view.mark) as reader:
            assert b"".join(reader.pieces()) == b"state of " * 20 + b"%d" % view.mark.index
    return view


def small() -> Files:
    """A snapshot, a full segment, and a longer one that is not, whose last record has a sector of zeros."""
    disk = CrashDisk()
    node = Node(disk, config=SMALL)
    node.write(HardState(1, "n1"), *entries(1, 1, b"one", b"two"))
    node.write(*entries(1, 3, b"three"), *entries(2, 3, b"three " * 20))
    node.take_snapshot(2)
    node.close()
    node = Node(disk)
    node.write(HardState(2, "n2"), *entries(2, 4, b"four " * 30))
    node.write(*entries(2, 5, b"five" * 70))
    node.write(*entries(2, 6, b"six" + bytes(900) + b"end"))
    node.close()
    return disk.files


def flipped(content: bytes, step: int = 1) -> Iterator[tuple[int, bytes]]:
    """The content with one bit changed, for each of its bits; of what is not in use, for some."""
    used = used_bytes(content) * 8
    for bit in (*range(0, used, step), *range(used, len(content) * 8, 13 * step)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        yield bit // 8, bytes(changed)


def check_every_bit(step: int = 1) -> set[tuple[str, int]]:
    """The bytes that do not matter."""
    files = small()
    view = read_all(files)
    harmless = set()
    for name, content in files.items():
        for place, damaged in flipped(content, step):
            found = read_or_find_damage({**files, name: damaged})
            if isinstance(found, View):
                assert found == view, f"a wrong read: {name} at {place}"
                harmless.add((name, place))
            else:
                assert found == name, f"{name} at {place} is damaged, and {found} is named"
    return harmless


def read_or_find_damage(files: Files) -> View | str:
    """Or the path of the file that is damaged."""
    try:
        return read_all(files)
    except Corruption as damage:
        return damage.path


# ------------------------------------------------------------------------------------------------ bits


def test_every_bit_that_is_in_use_matters() -> None:
    files = small()
    harmless = check_every_bit()
    for name, place in harmless:
        assert name.endswith(".seg"), f"byte {place} of {name} does not matter"
        assert place >= used_bytes(files[name]), f"byte {place} of {name} is in use"


def test_a_reader_of_a_damaged_snapshot_never_gets_a_wrong_piece() -> None:
    files = small()
    name = f"{INSIDE}/{snapshot_name(2)}"
    mark = SnapshotMark(2, 1, FIRST)
    with SnapshotStore(DIRECTORY, disk=CrashDisk(files)).open(mark) as reader:
        right = list(reader.pieces())
    for _, damaged in flipped(files[name]):
        got: list[bytes] = []
        with pytest.raises(OnerackError):
            read_pieces(CrashDisk({**files, name: damaged}), mark, got)
        assert got == right[: len(got)]


def read_pieces(disk: CrashDisk, mark: SnapshotMark, into: list[bytes]) -> None:
    with SnapshotStore(DIRECTORY, disk=disk).open(mark) as reader:
        into.extend(reader.pieces())


# ------------------------------------------------------------------------------------------------ prefixes


def test_no_prefix_of_a_file_that_is_in_use_is_read_as_if_it_were_whole() -> None:
    """Files have their size before anything is written into them, so one that is shorter has lost something."""
    files = small()
    view = read_all(files)
    for name, content in files.items():
        for size in range(len(content)):
            found = read_or_find_damage({**files, name: content[:size]})
            if isinstance(found, View):
                assert found == view, f"a wrong read: of {name} {size} bytes are left"
                assert used_bytes(content) <= HEADER_BYTES, f"of {name} {size} bytes are left, and nobody has noticed"


# ------------------------------------------------------------------------------------------------ files and records


def check_misplaced() -> None:
    """Raises: AssertionError: something that is not what was written is taken for it."""
    check_files()
    check_sectors()
    check_spliced_records()


def check_files() -> None:
    files = small()
    first, second, third = (f"{INSIDE}/{segment_name(sequence)}" for sequence in (1, 2, 3))
    snapshot = f"{INSIDE}/{snapshot_name(2)}"
    other = CrashDisk()
    Node(other, seed=9, config=SMALL).close()
    assert used_bytes(files[second]) > HEADER_BYTES
    assert third not in files or used_bytes(files[third]) <= HEADER_BYTES
    refused(files, {first: None})
    refused(files, {first: None, second: None, third: None})
    refused(files, {f"{INSIDE}/{IDENTITY}": None})
    refused(files, {first: other.files[first]})
    refused(files, {second: files[first]})
    refused(files, {f"{INSIDE}/{snapshot_name(3)}": files[snapshot]})
    for name in (first, second, snapshot, f"{INSIDE}/{IDENTITY}"):
        for content in (b"", files[name][:-1], files[name][:-512], files[name] + b"\x00", files[name] * 2):
            refused(files, {name: content})
    refused(files, {snapshot: foreign_snapshot()})
    cut = worked().files
    refused(cut, {f"{INSIDE}/{snapshot_name(30)}": None})


def foreign_snapshot() -> bytes:
    disk = CrashDisk()
    node = Node(disk, seed=9, config=SMALL)
    node.write(HardState(1, "n1"), *entries(1, 1, b"one", b"two"))
    node.take_snapshot(2)
    return disk.files[f"{INSIDE}/{snapshot_name(2)}"]


def refused(files: Files, changes: dict[str, bytes | None]) -> None:
    changed = {**files, **changes}
    try:
        view = read_all({name: content for name, content in changed.items() if content is not None})
    except Corruption:
        return
    raise AssertionError(f"{sorted(changes)} was changed, and {view} is read")


def records_of(content: bytes) -> list[tuple[int, int]]:
    """Where each record begins and ends."""
    found, position = [], HEADER_BYTES
    while head := read_head(content, position):
        found.append((position, position + head.record_bytes))
        position += head.record_bytes
    return found


def check_sectors() -> None:
    """A sector that was lost long after it was acknowledged, because records behind it were."""
    files = small()
    for sequence in (1, 2):
        name = f"{INSIDE}/{segment_name(sequence)}"
        records = records_of(files[name])
        assert len(records) > 1
        for begin, end in records[:-1] if sequence == 2 else records:
            for sector in range(begin - begin % SECTOR, end, SECTOR):
                changed = bytearray(files[name])
                lost = slice(max(sector, begin), min(sector + SECTOR, end))
                changed[lost] = bytes(lost.stop - lost.start)
                if bytes(changed) != files[name]:
                    refused(files, {name: bytes(changed)})


def check_spliced_records() -> None:
    """A record of the right segment, number and size, in its right place: but what was before it was another."""

    def log_with(payload: bytes) -> Files:
        disk = CrashDisk()
        node = Node(disk, config=SMALL)
        node.write(*entries(1, 1, payload))
        node.write(*entries(1, 2, payload))
        node.close()
        return disk.files

    name = f"{INSIDE}/{segment_name(1)}"
    one, two = log_with(b"one"), log_with(b"two")
    begin, end = records_of(one[name])[-1]
    refused(one, {name: one[name][:begin] + two[name][begin:end] + one[name][end:]})


def test_what_is_not_in_its_place_is_refused() -> None:
    check_misplaced()


def test_another_nodes_directory_is_refused() -> None:
    disk = CrashDisk()
    Node(disk).close()
    for cluster, node in (("test", "n2"), ("other", "n1")):
        with pytest.raises(UsageError, match="is that of node 'n1' of cluster 'test'"):
            Node(disk, cluster=cluster, node=node)


@pytest.mark.parametrize("magic", [b"1RACKRFT", b"1RACKNID", b"1RACKRSN"])
def test_a_later_format_is_no_damage(magic: bytes) -> None:
    files = small()
    changed = {
        name: with_version(content, magic) if magic in content[:20] else content for name, content in files.items()
    }
    assert changed != files
    with pytest.raises(UsageError, match="a later one may read both"):
        read_all(changed)


def with_version(content: bytes, magic: bytes) -> bytes:
    """The same file, written by an onerack to come; its checksum is right."""
    place = content.index(magic) + len(magic)
    changed = content[:place] + b"\x02" + content[place + 1 :]
    if magic == b"1RACKRFT":
        checksum = zlib.crc32(changed[: HEADER_BYTES - 4]).to_bytes(4, "little")
        return changed[: HEADER_BYTES - 4] + checksum + changed[HEADER_BYTES:]
    length, _ = HEADER.unpack_from(changed)
    return encode_frame(changed[HEADER.size : HEADER.size + length]) + changed[HEADER.size + length :]


def test_damage_changes_nothing() -> None:
    files = small()
    name = f"{INSIDE}/{segment_name(1)}"
    place, damaged = next(flipped(files[name][600:]))
    disk = CrashDisk({**files, name: files[name][:600] + damaged})
    before = disk.files
    with pytest.raises(Corruption, match=f"{name} is damaged at byte"):
        Node(disk)
    assert disk.files == before
    assert place == 0


# ------------------------------------------------------------------------------------------------ torn or damaged

PAYLOADS = st.one_of(st.binary(max_size=60), st.integers(0, 2200).map(bytes), st.just(b"\x01" + bytes(1500)))
OFFSETS = st.integers(64, 300).map(lambda number: number * 8)


def segment_with(payload: bytes, offset: int) -> tuple[bytes, int]:
    """A segment whose only record lies at `offset`, and where the record ends."""
    pieces = [PART.pack(2, 0, 0, len(payload), 1, 1), payload]
    head, body, _ = encode_record(SEED, 7, pieces, 1, offset, 0)
    end = offset + len(head) + len(body)
    return (bytes(offset) + head + body).ljust(end + 1024, b"\x00"), end


@given(PAYLOADS, OFFSETS, st.data())
def test_a_record_that_was_cut_off_is_torn(payload: bytes, offset: int, data: st.DataObject) -> None:
    content, end = segment_with(payload, offset)
    cut = data.draw(st.integers(offset, end - 1))
    assert is_torn(content[:cut].ljust(len(content), b"\x00"), offset, SEED, 7)


@given(PAYLOADS, OFFSETS, st.data())
def test_a_record_that_lost_sectors_is_torn(payload: bytes, offset: int, data: st.DataObject) -> None:
    content, end = segment_with(payload, offset)
    sectors = range(offset // SECTOR, (end - 1) // SECTOR + 1)
    changed = bytearray(content)
    for sector in data.draw(st.sets(st.sampled_from(sectors), min_size=1)):
        begin = max(offset, sector * SECTOR)
        changed[begin : (sector + 1) * SECTOR] = bytes((sector + 1) * SECTOR - begin)
    bits = int.from_bytes(content, "little").bit_count() - int.from_bytes(changed, "little").bit_count()
    # A single bit less may be a flip; then it is refused. None less: what was lost was zeros, and all is right.
    if bits > 1:
        assert is_torn(bytes(changed), offset, SEED, 7)


@given(PAYLOADS, OFFSETS, st.data())
def test_a_record_with_a_wrong_bit_is_not_torn(payload: bytes, offset: int, data: st.DataObject) -> None:
    content, end = segment_with(payload, offset)
    bit = data.draw(st.integers(offset * 8, end * 8 - 1))
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    assert not is_torn(bytes(changed), offset, SEED, 7)


def test_sectors_are_counted() -> None:
    assert count_sectors(bytes(100), 500) == (0, 0)
    assert count_sectors(b"x" * 12 + bytes(1024) + b"y", 500) == (2, 0)
    assert count_sectors(b"x" * 12 + bytes(511) + b"\x40" + bytes(512) + b"\x41", 500) == (1, 1)
    assert count_sectors(b"x" * 12 + bytes(511) + b"\x41" + bytes(512) + b"\x41", 500) == (1, 0)
    assert count_sectors(b"x" * 2000, 512) == (0, 0)


# ------------------------------------------------------------------------------------------------ verify


def test_verify_tells_what_is_there() -> None:
    disk = CrashDisk(small())
    report = verify(DIRECTORY, disk=disk)
    assert report.is_right
    assert (report.cluster, report.node, report.hard_state) == ("test", "n1", HardState(2, "n2"))
    assert (report.first_index, report.last_index) == (1, 6)
    assert [(snapshot.mark.index, snapshot.size) for snapshot in report.snapshots] == [(2, 181)]
    assert "all is right" in str(report)


def test_verify_finds_every_damage_at_once() -> None:
    files = small()
    names = [f"{INSIDE}/{segment_name(1)}", f"{INSIDE}/{snapshot_name(2)}"]
    for name in names:
        files[name] = files[name][:200] + bytes([files[name][200] ^ 4]) + files[name][201:]
    report = verify(DIRECTORY, disk=CrashDisk(files))
    assert [damage.file for damage in report.damage] == names
    assert "DAMAGED" in str(report)


def test_verify_misses_what_a_start_would_miss() -> None:
    # The log begins behind entry 30, so a snapshot of that or a later one must be there.
    for gone, named in ((IDENTITY, IDENTITY), (snapshot_name(30), snapshot_name(30)), (segment_name(8),) * 2):
        files = worked().files
        del files[f"{INSIDE}/{gone}"]
        assert [damage.file for damage in verify(DIRECTORY, disk=CrashDisk(files)).damage] == [f"{INSIDE}/{named}"]


def test_verify_refuses_what_it_must_not_touch() -> None:
    with pytest.raises(InputError, match="there is no raft log in it"):
        verify(DIRECTORY, disk=CrashDisk())
    disk = CrashDisk()
    node = Node(disk)
    with pytest.raises(UsageError, match="is held by another process"):
        verify(DIRECTORY, disk=disk)
    node.close()
    assert verify(DIRECTORY, disk=disk).is_right


def test_verify_tells_a_torn_write_from_damage() -> None:
    files = small()
    name = f"{INSIDE}/{segment_name(2)}"
    begin, end = records_of(files[name])[-1]
    files[name] = files[name][: end - 9].ljust(len(files[name]), b"\x00")
    report = verify(DIRECTORY, disk=CrashDisk(files))
    assert report.is_right
    assert report.torn == [Torn(name, begin)]
    assert report.last_index == 5
