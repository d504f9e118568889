"""`debug_task`: a stored task again, in this process, under pdb."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onerack.codec import encode_frame
from onerack.errors import UsageError
from onerack.mapreduce.messages import MapOutputLost, RecordAt, TaskCompleted
from onerack.mapreduce.program import program_of
from onerack.mapreduce.worker.debug import debug_task
from tests.mapreduce.sequential_run import SequentialRun, function_job, write_lines


def each(key: Any, line: str) -> Iterator[tuple[str, int]]:
    print("looking at", line)
    yield line, 10 // len(line)


def total(key: str, values: Iterator[int]) -> int:
    found = sum(values)
    assert key != "bad", f"{key} {found}"
    return found


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A failed job's directory: maps done, reduces not."""
    job = function_job(map=each, reduce=total)
    files = [write_lines(tmp_path / "0", "good", "bad"), write_lines(tmp_path / "1", "bad")]
    run = SequentialRun(job, tmp_path, files, reducers=1, program=program_of(job))
    maps = run.maps()
    journal: list[Any] = [MapOutputLost(maps[0].attempt, "gone")]
    for done in maps:
        journal.insert(1, TaskCompleted(done.attempt, done.sections, done.parts, {}, done.metrics))
    (tmp_path / "spec.msgpack").write_bytes(msgspec.msgpack.encode(run.spec))
    (tmp_path / "journal.log").write_bytes(b"".join(encode_frame(msgspec.msgpack.encode(each)) for each in journal))
    return tmp_path


def files_under(folder: Path) -> set[tuple[str, bytes]]:
    return {(str(path), path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_a_map_task_that_does_not_fail(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_under(stored)

    assert debug_task(str(stored), "m0", pdb=False) is None

    said = capsys.readouterr().out
    assert "looking at good" in said
    assert "m0 did not fail: 2 records" in said
    assert files_under(stored) == before


def test_a_task_that_fails_names_the_record(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lines(stored / "0", "good", "", "bad")
    spec = msgspec.msgpack.decode((stored / "spec.msgpack").read_bytes())
    spec["splits"][0]["fragments"][0]["length"] = (stored / "0").stat().st_size
    (stored / "spec.msgpack").write_bytes(msgspec.msgpack.encode(spec))

    found = debug_task(str(stored), "m0", pdb=False)

    assert found is not None
    assert found.record == RecordAt(1, str(stored / "0"), 5, "")
    said = capsys.readouterr().out
    assert "yield line, 10 // len(line)" in said
    assert "byte 5" in said


def test_pdb_opens_in_the_users_frame(
    stored: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("p key, found\nup\np key\nq\n"))

    found = debug_task(str(stored), "r0", pdb=True)

    assert found is not None
    assert found.message.startswith("AssertionError: bad 6")
    said = capsys.readouterr().out
    assert "('bad', 6)" in said
    assert "groups.py" not in said
    assert "Oldest frame" in said


def test_one_record_or_group(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert debug_task(str(stored), "m0", record=1, pdb=False) is None
    said = capsys.readouterr().out
    assert "looking at good" not in said
    assert "record 1" in said
    assert "emitted ('bad', 3)" in said

    assert debug_task(str(stored), "r0", record=1, pdb=False) is None
    assert "emitted ('good', 2)" in capsys.readouterr().out
    assert debug_task(str(stored), "r0", record=0, pdb=False) is not None
    with pytest.raises(UsageError, match="no record 7"):
        debug_task(str(stored), "m0", record=7, pdb=False)


def test_a_stage_of_a_chain(stored: Path, tmp_path: Path) -> None:
    (tmp_path / "stage-2").mkdir()
    (tmp_path / "stage-2" / "spec.msgpack").write_bytes((stored / "spec.msgpack").read_bytes())

    assert debug_task(str(tmp_path), "stage-2/m1", pdb=False) is None


@pytest.mark.parametrize("task", ["m2", "r1", "x0", "m", "m-1", "17", "", "m²"])
def test_a_task_that_is_not_there(task: str, stored: Path) -> None:
    with pytest.raises(UsageError, match=r"m0 \.\.\. m1 and r0 \.\.\. r0"):
        debug_task(str(stored), task, pdb=False)


def test_what_a_reduce_needs_is_gone(stored: Path) -> None:
    for path in (stored / "shuffle").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match="kept only when a job fails"):
        debug_task(str(stored), "r0", pdb=False)

    (stored / "journal.log").unlink()
    with pytest.raises(UsageError, match="before m0, m1 were completed"):
        debug_task(str(stored), "r0", pdb=False)


def test_a_folder_that_is_no_job(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no job directory"):
        debug_task(str(tmp_path), "m0", pdb=False)

    (tmp_path / "spec.msgpack").write_bytes(b"\x93\x01")
    with pytest.raises(UsageError, match="another version"):
        debug_task(str(tmp_path), "m0", pdb=False)


def test_a_job_file_that_was_changed_since_is_mentioned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "job.py"
    script.write_text("def map(key, value):\n    yield 'old', 1\n")
    program = program_of(str(script))
    job = function_job(map=each)
    run = SequentialRun(job, tmp_path, [write_lines(tmp_path / "0", "x")], program=program)
    (tmp_path / "spec.msgpack").write_bytes(msgspec.msgpack.encode(run.spec))

    debug_task(str(tmp_path), "m0", record=0, pdb=False)
    assert "was changed" not in capsys.readouterr().out
    script.write_text("def map(key, value):\n    yield 'new', 1\n")
    debug_task(str(tmp_path), "m0", record=0, pdb=False)

    said = capsys.readouterr().out
    assert "job.py was changed since" in said
    assert "('old', 1)" in said
