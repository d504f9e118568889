"""Damaged logs: every bit, every misplaced file and record is found out, or was never part of the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onerack.codec import HEADER, encode_frame, frame_checksum
from onerack.errors import Corruption, UsageError
from onerack.rpc.durable import format, recovery
from onerack.rpc.durable.format import (
    HEADER_BYTES,
    PIECE_BYTES,
    SECTOR,
    SEGMENT,
    SNAPSHOT,
    Header,
    encode_header,
    encode_record,
    is_torn,
    read_header,
    read_record,
    read_snapshot,
    snapshot_frames,
)
from onerack.rpc.durable.recovery import recover
from onerack.sim.loop import simulate
from tests.rpc.crash_disk import CrashDisk, Files
from tests.rpc.ledger import DIRECTORY, Ledger, commands_in, draw, live, open_log

IDENTITY = draw(16)
OTHER = bytes(range(65, 81))
COMMANDS = st.lists(st.one_of(st.binary(max_size=40), st.integers(0, 1500).map(bytes)), min_size=1, max_size=6)
OFFSETS = st.integers(6, 200).map(lambda number: number * 8)


def commands_of(files: Files) -> list[bytes]:
    recovered = recover(CrashDisk(files), DIRECTORY)
    return [*commands_in(recovered.snapshot or b"\x90"), *recovered.commands]


def flipped(content: bytes) -> Iterator[bytes]:
    """The content with one bit changed, for each of its bits."""
    for bit in range(len(content) * 8):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def whole_log() -> Files:
    """A snapshot, an older segment and a newer one; closed in order. The last record has sectors of zeros."""
    disk = CrashDisk()
    live(disk, [[b"one"], [b"two", b"three"]], snapshot_after_bytes=100)
    live(disk, [[b"four"], [b"five", b""]])
    live(disk, [[b"six"], [b"seven" + bytes(700) + b"end"]])
    assert [name.partition("-")[0] for name in sorted(disk.files)] == ["/log/log"] * 2 + ["/log/snapshot"]
    return disk.files


def torn_log() -> Files:
    """A segment that ends torn, another that goes on from there and ends torn too."""
    disk = CrashDisk()
    live(disk, [[b"one"], [b"two", b"three"]])
    torn(disk, 4)
    live(disk, [[b"four"]])
    torn(disk, 5)
    return disk.files


def torn(disk: CrashDisk, index: int) -> None:
    """The process dies while it appends the record of this command."""
    last = sorted(disk.files)[-1]
    record = encode_record(IDENTITY, index, [b"torn " * 5], len(disk.files[last]))
    disk.open_append(last).append(record[: len(record) - 9])
    disk.open_append(last).sync()


# ------------------------------------------------------------------------------------------------ bits


def test_every_bit_of_a_log_matters() -> None:
    files = whole_log()
    flips = 0
    for name, content in files.items():
        for damaged in flipped(content):
            with pytest.raises(Corruption, match=f"{name} is damaged at byte"):
                commands_of({**files, name: damaged})
            flips += 1
    assert flips > 8000


def test_every_bit_before_a_torn_record_matters_and_none_in_it() -> None:
    files = torn_log()
    commands = commands_of(files)
    assert commands == [b"one", b"two", b"three", b"four"]
    harmless = set()
    for name, content in files.items():
        for bit, damaged in enumerate(flipped(content)):
            try:
                assert commands_of({**files, name: damaged}) == commands
            except Corruption:
                continue
            harmless.add((name, bit // 8))
    first, second = sorted(files)
    for name, index in ((first, 4), (second, 5)):
        size = len(encode_record(IDENTITY, index, [b"torn " * 5], 48)) - 9
        begin = len(files[name]) - size
        assert {byte for where, byte in harmless if where == name} <= set(range(begin, begin + size))
        assert (name, begin + size - 1) in harmless


def test_a_damaged_length_in_the_middle_is_no_torn_tail() -> None:
    disk = CrashDisk()
    live(disk, [[b"one"], [b"two"], [b"three"]])
    ((name, content),) = disk.files.items()
    # The second frame now seems to reach beyond the end of the file, as a torn one does; codec.decode_file cuts it.
    begin = HEADER_BYTES + len(encode_record(IDENTITY, 1, [b"one"], HEADER_BYTES))
    damaged = content[:begin] + HEADER.pack(1 << 20, 0) + content[begin + HEADER.size :]
    with pytest.raises(Corruption, match=f"damaged at byte {begin}: expected a length of"):
        commands_of({name: damaged})
    # Neither is its whole head.
    damaged = content[:begin] + bytes(48) + content[begin + 48 :]
    with pytest.raises(Corruption, match=f"damaged at byte {begin}: expected the head of the record of command 2"):
        commands_of({name: damaged})


@given(st.data())
def test_any_damage_but_zeros_is_found(data: st.DataObject) -> None:
    files = WHOLE
    name = data.draw(st.sampled_from(sorted(files)))
    begin = data.draw(st.integers(0, len(files[name]) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=60).map(lambda noise: noise.replace(b"\x00", b"\x01")))
    damaged = (files[name][:begin] + noise + files[name][begin + len(noise) :])[: len(files[name])]
    if damaged != files[name]:
        with pytest.raises(Corruption):
            commands_of({**files, name: damaged})


WHOLE = whole_log()


# ------------------------------------------------------------------------------------------------ one record


@given(COMMANDS, OFFSETS)
def test_a_record_is_read_as_it_was_written(commands: list[bytes], offset: int) -> None:
    record = encode_record(IDENTITY, 7, commands, offset)
    assert len(record) % 8 == 0
    before = bytes(offset)
    assert read_record(before + record + b"next", "log", offset, IDENTITY, 7) == (commands, offset + len(record))


@given(COMMANDS, OFFSETS, st.data())
def test_whatever_a_crash_leaves_of_a_record_is_torn(commands: list[bytes], offset: int, data: st.DataObject) -> None:
    record = encode_record(IDENTITY, 7, commands, offset)
    content = bytearray(b"x" * offset + record)
    sectors = range(offset // SECTOR, (len(content) - 1) // SECTOR + 1)
    for sector in data.draw(st.sets(st.sampled_from(sectors))):
        begin, end = max(offset, sector * SECTOR), min(len(content), (sector + 1) * SECTOR)
        content[begin:end] = bytes(end - begin)
    kept = bytes(content[: offset + data.draw(st.one_of(st.just(len(record)), st.integers(0, len(record))))])
    if kept[offset:] == record:
        assert read_record(kept, "log", offset, IDENTITY, 7).commands == commands
    else:
        with pytest.raises(Corruption):
            read_record(kept, "log", offset, IDENTITY, 7)
        assert is_torn(kept, offset, IDENTITY, 7)


@given(COMMANDS, OFFSETS, st.data())
def test_a_damaged_record_is_not_torn(commands: list[bytes], offset: int, data: st.DataObject) -> None:
    record = bytearray(encode_record(IDENTITY, 7, commands, offset))
    place = data.draw(st.integers(0, len(record) - 1))
    record[place] ^= data.draw(st.integers(1, 255))
    content = b"x" * offset + record
    with pytest.raises(Corruption):
        read_record(content, "log", offset, IDENTITY, 7)
    assert not is_torn(content, offset, IDENTITY, 7)


@pytest.mark.parametrize("follows", [b"x", bytes(8), encode_frame(b"something else")])
def test_nothing_follows_a_torn_record(follows: bytes) -> None:
    record = encode_record(IDENTITY, 7, [bytes(1000), b"x" * 1000], 48)
    content = (b"x" * 48 + record)[: 3 * SECTOR] + bytes(SECTOR) + (b"x" * 48 + record)[4 * SECTOR :]
    assert is_torn(content, 48, IDENTITY, 7)
    assert not is_torn(content + follows, 48, IDENTITY, 7)


def test_what_is_checksummed_but_no_list_of_commands_is_damage() -> None:
    def resealed(body: bytes) -> bytes:
        record = encode_record(IDENTITY, 7, [b"command"], 0)
        record = record[:48] + body + record[48 + len(body) :]
        return HEADER.pack(len(record) - HEADER.size, frame_checksum(record[HEADER.size :])) + record[HEADER.size :]

    with pytest.raises(Corruption, match="expected a list of commands"):
        read_record(resealed(b"\xc1" + bytes(9)), "log", 0, IDENTITY, 7)
    with pytest.raises(Corruption, match="expected 1 commands, found 2"):
        read_record(resealed(b"\x92\xc4\x02no\xc4\x03yes"), "log", 0, IDENTITY, 7)


# ------------------------------------------------------------------------------------------------ files and places


def records_log() -> tuple[str, list[bytes]]:
    """The only segment of a log: its name, its header and its four records of the same size."""
    disk = CrashDisk()
    live(disk, [[b"one"], [b"two"], [b"six"], [b"ten"]])
    ((name, content),) = disk.files.items()
    size = len(encode_record(IDENTITY, 1, [b"one"], 48))
    return name, [content[:48], *(content[begin : begin + size] for begin in range(48, len(content), size))]


@pytest.mark.parametrize(
    ("order", "complaint"),
    [
        ([0, 1, 3, 4], "the record of command 2, found that of command 3"),
        ([0, 2, 3, 4], "the record of command 1, found that of command 2"),
        ([0, 1, 2, 2], "the record of command 3, found that of command 2"),
        ([0, 1, 3, 2, 4], "the record of command 2, found that of command 3"),
        ([1, 2, 3], "expected a length of 40, found 48"),
    ],
)
def test_records_have_their_place(order: list[int], complaint: str) -> None:
    name, parts = records_log()
    with pytest.raises(Corruption, match=complaint):
        commands_of({name: b"".join(parts[number] for number in order)})


def test_a_record_of_another_log_is_found_out() -> None:
    name, parts = records_log()
    stranger = encode_record(OTHER, 2, [b"two"], 48 + len(parts[1]))
    for after in ([], parts[3:]):
        with pytest.raises(Corruption, match=f"a record of log {IDENTITY.hex()}, found one of {OTHER.hex()}"):
            commands_of({name: b"".join([*parts[:2], stranger, *after])})
    with pytest.raises(Corruption, match="found one of"):
        commands_of({name: b"".join([*parts[:2], stranger[:-1]])})


def test_a_file_of_another_log_is_found_out() -> None:
    for index, magic, prefix in ((4, SEGMENT, "log"), (7, SEGMENT, "log"), (3, SNAPSHOT, "snapshot")):
        frames = (
            snapshot_frames(OTHER, index, b"\x90")
            if magic == SNAPSHOT
            else [encode_header(SEGMENT, Header(OTHER, index))]
        )
        with pytest.raises(Corruption, match=f"of log {IDENTITY.hex()}, found index|of log {OTHER.hex()}, found index"):
            commands_of({**WHOLE, f"{DIRECTORY}/{prefix}-{index:016x}": b"".join(frames)})


def test_a_strange_needless_file_is_found_out() -> None:
    """One that would be removed, because the snapshot holds more."""
    stranger = encode_header(SEGMENT, Header(OTHER, 1))
    with pytest.raises(
        Corruption, match=f"expected index 1 of log {IDENTITY.hex()}, found index 1 of log {OTHER.hex()}"
    ):
        commands_of({**WHOLE, f"{DIRECTORY}/log-0000000000000001": stranger})
    stranger = encode_header(SNAPSHOT, Header(OTHER, 2))
    with pytest.raises(
        Corruption, match=f"expected index 2 of log {IDENTITY.hex()}, found index 2 of log {OTHER.hex()}"
    ):
        commands_of({**WHOLE, f"{DIRECTORY}/snapshot-0000000000000002": stranger})


def test_a_file_under_another_name_is_found_out() -> None:
    first, second, snapshot = sorted(WHOLE)
    for name, other in ((first, first[:-1] + "3"), (second, second[:-1] + "9"), (snapshot, snapshot[:-1] + "2")):
        files = dict(WHOLE)
        files[other] = files.pop(name)
        with pytest.raises(Corruption):
            commands_of(files)


def test_a_missing_file_is_found_out() -> None:
    first, second, snapshot = sorted(WHOLE)
    for missing, complaint in (
        ([first], f"{first} is damaged at byte 0: expected a segment that holds command 4, found {second[5:]}"),
        ([first, second], f"{first} is damaged at byte 0: expected a segment that holds command 4, found no segment"),
        ([snapshot], "expected a segment that holds command 1"),
    ):
        with pytest.raises(Corruption, match=complaint):
            commands_of({name: content for name, content in WHOLE.items() if name not in missing})


def test_segments_that_do_not_follow_one_another_are_found_out() -> None:
    disk = CrashDisk()
    for batch in ([b"one"], [b"two"], [b"three"]):
        live(disk, [batch])
    first, second, third = sorted(disk.files)
    files = disk.files
    with pytest.raises(
        Corruption, match=f"{third} is damaged at byte 0: expected a segment that begins with 2, found 3"
    ):
        commands_of({first: files[first], third: files[third]})
    overlapping = files[first] + encode_record(IDENTITY, 2, [b"twice"], len(files[first]))
    with pytest.raises(
        Corruption, match=f"{second} is damaged at byte 0: expected a segment that begins with 3, found 2"
    ):
        commands_of({**files, first: overlapping})


def test_other_names_are_nobodys_business() -> None:
    names = ["lock", "log", "log-1", "log-000000000000000G", "snapshot-0000000000000001.bak", "log-00000000000000010"]
    assert commands_of({**WHOLE, **{f"{DIRECTORY}/{name}": b"?" for name in names}}) == commands_of(WHOLE)


def test_a_later_format_is_refused_with_its_number() -> None:
    header = bytearray(encode_header(SEGMENT, Header(IDENTITY, 1)))
    header[HEADER.size + len(SEGMENT)] = 2
    payload = bytes(header[HEADER.size :])
    with pytest.raises(UsageError, match="log-0000000000000001 has format 2; this onerack reads format 1"):
        commands_of({f"{DIRECTORY}/log-0000000000000001": encode_frame(payload)})


def test_whoever_is_refused_finds_everything_as_it_was() -> None:
    files = {**WHOLE, f"{DIRECTORY}/log-0000000000000009.tmp": b"unfinished"}
    name = sorted(WHOLE)[0]
    files[name] = files[name][:60] + b"?" + files[name][61:]
    disk = CrashDisk(files)
    machine = Ledger()
    with pytest.raises(Corruption):
        simulate(open_log(disk).start(machine))
    assert [picture.operation for picture in disk.pictures] == ["begin"]
    assert not machine.commands
    assert not machine.restored
    disk.lock(f"{DIRECTORY}/lock").close()


# ------------------------------------------------------------------------------------------------ snapshots


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_a_snapshot_has_pieces(size: int) -> None:
    snapshot = bytes(number % 251 for number in range(1000)) * (size // 1000 + 1)
    content = b"".join(snapshot_frames(IDENTITY, 5, snapshot[:size]))
    assert read_snapshot(content, "snapshot") == snapshot[:size]


def test_pieces_of_a_snapshot_have_their_place() -> None:
    snapshot = b"a" * PIECE_BYTES + b"b" * PIECE_BYTES + b"c"
    header, first, second, third, end = snapshot_frames(IDENTITY, 5, snapshot)
    for frames, complaint in (
        ((second, first, third, end), f"the piece at 0 of the snapshot, found that at {PIECE_BYTES}"),
        ((first, third, end), f"the piece at {PIECE_BYTES} of the snapshot, found that at {2 * PIECE_BYTES}"),
        ((first, second, third), "a piece of the snapshot, found a length of 0 before 0 bytes"),
        ((first, second, third[:-1]), "a piece of the snapshot, found a length of 9 before 8 bytes"),
        ((first, second, third, end, end), "the end of the file, found 16 bytes more"),
    ):
        with pytest.raises(Corruption, match=complaint):
            read_snapshot(header + b"".join(frames), "snapshot")


# ------------------------------------------------------------------------------------------------ planted bugs


def every_bad_record_is_torn(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(recovery, "is_torn", lambda *arguments: True)


def whatever_reaches_beyond_the_end_is_torn(patch: pytest.MonkeyPatch) -> None:
    """The weakness of codec.decode_file."""

    def torn(content: bytes, position: int, identity: bytes, index: int) -> bool:
        return bool(position + HEADER.size + HEADER.unpack_from(content, position)[0] > len(content))

    patch.setattr(recovery, "is_torn", torn)


def a_bad_last_record_is_torn(patch: pytest.MonkeyPatch) -> None:
    def torn(content: bytes, position: int, identity: bytes, index: int) -> bool:
        return not format._has_later_record(content, position, identity, index)

    patch.setattr(recovery, "is_torn", torn)


def any_sector_of_zeros_is_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(recovery, "is_torn", lambda content, position, identity, index: bytes(SECTOR) in content[position:])


def heads_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    def read_head(content: bytes, position: int) -> format.Head | None:
        begin = position + HEADER.size
        return format.Head(*format._HEAD.unpack_from(content, begin)) if len(content) >= begin + 40 else None

    patch.setattr(format, "read_head", read_head)


def lengths_are_not_compared(patch: pytest.MonkeyPatch) -> None:
    def frame_at(content: bytes, path: str, position: int, size: int) -> bytes:
        payload = content[position + HEADER.size : position + HEADER.size + size]
        if frame_checksum(payload) != HEADER.unpack_from(content, position)[1]:
            raise Corruption(path, position, "", "")
        return payload

    patch.setattr(format, "_frame_at", frame_at)


def the_next_segment_is_not_compared(patch: pytest.MonkeyPatch) -> None:
    class Careless(recovery._Reader):
        def _read_segment(self, content: bytes, file: recovery.LogFile, following: object) -> list[bytes]:
            return super()._read_segment(content, file, None)

    patch.setattr(recovery, "_Reader", Careless)


def identities_are_not_compared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(recovery, "read_header", lambda *arguments: Header(IDENTITY, read_header(*arguments).index))


@pytest.mark.parametrize(
    ("bug", "test"),
    [
        (every_bad_record_is_torn, test_every_bit_of_a_log_matters),
        (whatever_reaches_beyond_the_end_is_torn, test_every_bit_of_a_log_matters),
        (a_bad_last_record_is_torn, test_every_bit_of_a_log_matters),
        (any_sector_of_zeros_is_lost, test_every_bit_of_a_log_matters),
        (heads_are_not_checked, test_every_bit_of_a_log_matters),
        (lengths_are_not_compared, test_every_bit_of_a_log_matters),
        (the_next_segment_is_not_compared, test_segments_that_do_not_follow_one_another_are_found_out),
        (identities_are_not_compared, test_a_strange_needless_file_is_found_out),
    ],
    ids=lambda planted: planted.__name__,
)
def test_a_planted_bug_is_caught(
    bug: Callable[[pytest.MonkeyPatch], None], test: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)
    with pytest.raises((pytest.fail.Exception, AssertionError)):
        test()
