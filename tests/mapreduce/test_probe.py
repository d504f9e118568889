"""The probe: progress as others see it, and the record that a dead process had in hand."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from onerack.mapreduce.messages import AttemptId, RecordAt
from onerack.mapreduce.worker.probe import POSITION_BYTES, Probe, read_position

ATTEMPT = AttemptId("j", "map", 3, 2)


def noted(path: Path, record: RecordAt) -> RecordAt | None:
    probe = Probe("w", str(path))
    probe.begin(ATTEMPT)
    probe.note(record)
    return read_position(str(path), ATTEMPT)


def test_a_note_is_read_back(tmp_path: Path) -> None:
    record = RecordAt(17, "/data/a", 1 << 40, "the line")

    assert noted(tmp_path / "position", record) == record
    assert (tmp_path / "position").stat().st_size == POSITION_BYTES


def test_a_note_of_another_attempt_is_none_of_this(tmp_path: Path) -> None:
    noted(tmp_path / "position", RecordAt(17))

    assert read_position(str(tmp_path / "position"), AttemptId("j", "map", 3, 3)) is None


def test_a_note_that_is_too_long_keeps_the_number(tmp_path: Path) -> None:
    assert noted(tmp_path / "position", RecordAt(17, "/" + "x" * 5000, 9)) == RecordAt(17, offset=9)


def test_nothing_noted_or_nonsense_reads_as_nothing(tmp_path: Path) -> None:
    path = tmp_path / "position"
    assert read_position(str(path), ATTEMPT) is None
    for content in (b"", b"\x00" * POSITION_BYTES, b"\xff" * POSITION_BYTES, b"\x05\0\0\0" + b"\xc1" * 4092):
        path.write_bytes(content)
        assert read_position(str(path), ATTEMPT) is None


def test_the_end_of_an_attempt_leaves_no_note(tmp_path: Path) -> None:
    probe = Probe("w", str(tmp_path / "position"))
    probe.note(RecordAt(1))  # No attempt runs.
    probe.begin(ATTEMPT)
    probe.note(RecordAt(1))
    probe.end()

    assert read_position(str(tmp_path / "position"), ATTEMPT) is None
    probe.close()
    probe.note(RecordAt(1))


def test_a_note_outlives_a_sigkill(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from onerack.mapreduce.messages import AttemptId, RecordAt\n"
        "from onerack.mapreduce.worker.probe import Probe\n"
        "probe = Probe('w', sys.argv[1])\n"
        "probe.begin(AttemptId('j', 'map', 3, 2))\n"
        "probe.note(RecordAt(41, 'f', 7, 'x'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = str(tmp_path / "position")

    done = subprocess.run([sys.executable, "-c", program, path], check=False)

    assert done.returncode == -signal.SIGKILL
    assert read_position(path, ATTEMPT) == RecordAt(41, "f", 7, "x")


def test_progress_inside_a_loop_of_c_can_be_seen() -> None:
    probe = Probe()
    probe.begin(ATTEMPT)
    cursor = iter(["a", "b", "c"])
    probe.watch(cursor, 3)
    seen = [probe.metrics.records_in, *(probe.metrics.records_in for _ in cursor)]
    probe.unwatch()

    assert seen == [0, 1, 2, 3]
    assert probe.records_in == 3


def test_whatever_is_read_or_written_counts_as_movement() -> None:
    def values() -> Iterator[int]:
        yield from [1, 2, 3]

    probe = Probe()
    probe.begin(ATTEMPT)
    assert probe.take_moved()
    assert not probe.take_moved()
    for name in ("records_in", "bytes_in", "emitted", "records_out", "bytes_shuffled", "bytes_out", "steps"):
        setattr(probe, name, 1)
        assert probe.take_moved(), name
        assert not probe.take_moved()
    for group in (iter([1, 2, 3]), values()):
        probe.watch_group(group)
        assert probe.take_moved()
        next(group)
        assert probe.take_moved()
        next(group)
        assert probe.take_moved()
        assert not probe.take_moved()


def test_a_position_file_is_its_users_own(tmp_path: Path) -> None:
    Probe("w", str(tmp_path / "position"))

    assert os.stat(tmp_path / "position").st_mode & 0o777 == 0o600


def test_a_full_disk_costs_the_position_and_not_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, content: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.pwrite", refuse)
    path = str(tmp_path / "w1.position")
    probe = Probe("w1", path)
    attempt = AttemptId("j", "map", 0, 1)
    probe.begin(attempt)
    probe.note(RecordAt(3))
    probe.end()

    assert read_position(path, attempt) is None
