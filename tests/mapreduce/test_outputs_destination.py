"""The destination: all of a job's output at once, or nothing; and nobody else's files are ever touched."""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pytest

from onerack.errors import OutputExists, StorageFull, UsageError
from onerack.mapreduce.messages import AttemptId, OutputFormat, Part, Quarantined, RecordAt
from onerack.mapreduce.outputs.destination import Destination, open_destination
from onerack.mapreduce.outputs.writer import open_part

TSV_GZ = OutputFormat(compression="gzip")


def part_of(destination: Destination, index: int, number: int = 1, format: OutputFormat = OutputFormat()) -> Part:  # noqa: B008
    writer = open_part(destination.staging, AttemptId("job", "reduce", index, number), format)
    writer.write_pairs([(f"r{index}", number)])
    return writer.close()


def tree(directory: Path) -> list[str]:
    """Every file and directory below, hidden ones too."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_the_output_appears_at_once(tmp_path: Path) -> None:
    destination = open_destination(str(tmp_path / "out"), overwrite=False, job="job")
    parts = [part_of(destination, 0, 2), part_of(destination, 1)]
    part_of(destination, 0, 1)
    (Path(destination.staging) / "reduce-00001.9").write_text("half of what a worker wrote before it d")
    assert not (tmp_path / "out").exists()
    paths = destination.commit(parts, {"job": "job"})
    assert paths == [str(tmp_path / "out" / f"part-0000{i}") for i in (0, 1)]
    assert tree(tmp_path) == ["out", "out/_SUCCESS", "out/part-00000", "out/part-00001"]
    assert Path(paths[0]).read_text() == "r0\t2\n"
    success = json.loads((tmp_path / "out" / "_SUCCESS").read_text())
    assert success["job"] == "job"
    assert success["parts"][1] == {
        "path": "part-00001", "size": 5, "rows": 1, "crc32": f"{parts[1].checksum:08x}",
    }  # fmt: skip


def test_suffixes_stay(tmp_path: Path) -> None:
    destination = open_destination(str(tmp_path / "out"), overwrite=False, job="job")
    parts = [part_of(destination, 0, 1, TSV_GZ), part_of(destination, 1, 1, OutputFormat("pairs"))]
    assert [os.path.basename(path) for path in destination.commit(parts, {})] == [
        "part-00000.gz",
        "part-00001.pairs",
    ]


def test_a_failed_job_leaves_nothing(tmp_path: Path) -> None:
    destination = open_destination(str(tmp_path / "out"), overwrite=False, job="job")
    part_of(destination, 0)
    destination.abort()
    destination.abort()
    assert tree(tmp_path) == []


def test_bad_records_lie_beside_the_output(tmp_path: Path) -> None:
    destination = open_destination(str(tmp_path / "out"), overwrite=False, job="job")
    bad = Quarantined(RecordAt(3, "/in/a.txt", 77, "b\u00b7d"), b"b\xffd", "Traceback ...\nValueError: no")
    destination.commit([], {}, [bad])
    (line,) = (tmp_path / "out" / "_quarantine" / "records.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert (row["file"], row["offset"], row["number"]) == ("/in/a.txt", 77, 3)
    assert base64.b64decode(row["raw"]) == b"b\xffd"
    assert row["text"] == "b\\xffd"
    assert row["traceback"].endswith("ValueError: no")


def test_an_output_that_exists_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    open_destination(str(out), overwrite=False, job="empty").abort()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(OutputExists, match="not empty; choose another directory, or overwrite it"):
        open_destination(str(out), overwrite=False, job="job")
    for overwrite in (False, True):
        with pytest.raises(OutputExists, match="a file has this name"):
            open_destination(str(out / "mine.txt"), overwrite=overwrite, job="job")
    assert tree(tmp_path) == ["out", "out/mine.txt"]


def test_an_empty_output_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    destination = open_destination(str(tmp_path / "out"), overwrite=False, job="job")
    destination.commit([part_of(destination, 0)], {})
    assert tree(tmp_path) == ["out", "out/_SUCCESS", "out/part-00000"]


def test_what_somebody_else_put_there_meanwhile_stays(tmp_path: Path) -> None:
    destination = open_destination(str(tmp_path / "out"), overwrite=False, job="job")
    part = part_of(destination, 0)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "theirs").write_text("theirs")
    with pytest.raises(OutputExists):
        destination.commit([part], {})
    destination.abort()
    assert tree(tmp_path) == ["out", "out/theirs"]


def test_overwriting_replaces_the_whole_directory_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (out / "old").write_text("old")
    destination = open_destination(str(out), overwrite=True, job="job")
    part = part_of(destination, 0)
    assert (out / "old").exists()
    destination.commit([part], {})
    assert tree(tmp_path) == ["out", "out/_SUCCESS", "out/part-00000"]


def test_an_aborted_overwrite_keeps_the_old_output(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    destination = open_destination(str(tmp_path / "out"), overwrite=True, job="job")
    part_of(destination, 0)
    destination.abort()
    assert tree(tmp_path) == ["out", "out/old"]


def test_an_overwrite_that_cannot_be_finished_puts_the_old_output_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    destination = open_destination(str(tmp_path / "out"), overwrite=True, job="job")
    part = part_of(destination, 0)
    rename = os.rename

    def failing(source: str, target: str) -> None:
        if str(source).endswith(".staging"):
            raise OSError(errno.EIO, "input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="input/output error"):
        destination.commit([part], {})
    destination.abort()
    assert tree(tmp_path) == ["out", "out/old"]


def test_a_mount_point_is_filled_file_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    destination = open_destination(str(tmp_path / "out"), overwrite=False, job="job")
    parts = [part_of(destination, 0), part_of(destination, 1)]
    rename, moved = os.rename, []

    def busy(source: str, target: str) -> None:
        if str(source).endswith(".staging"):
            raise OSError(errno.EBUSY, "busy")
        moved.append(os.path.basename(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", busy)
    destination.commit(parts, {})
    assert tree(tmp_path) == ["out", "out/_SUCCESS", "out/part-00000", "out/part-00001"]
    assert moved[-1] == "_SUCCESS"


def test_a_mount_point_that_fills_up_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    destination = open_destination(str(tmp_path / "out"), overwrite=False, job="job")
    parts = [part_of(destination, 0), part_of(destination, 1)]
    move, rename = shutil.move, os.rename

    def elsewhere(source: str, target: str) -> None:
        if not source.endswith(".staging"):
            return rename(source, target)
        raise OSError(errno.EXDEV, "another file system")

    def full(source: str, target: str) -> None:
        if target.endswith("out/part-00001"):
            Path(target).write_bytes(b"r")  # what a copy leaves when the disk is full
            raise OSError(errno.ENOSPC, "full")
        move(source, target)

    monkeypatch.setattr(os, "rename", elsewhere)
    monkeypatch.setattr(shutil, "move", full)
    with pytest.raises(StorageFull, match="out/part-00001"):
        destination.commit(parts, {})
    destination.abort()
    assert tree(tmp_path) == ["out"]


def test_directories_that_must_not_be_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "home" / "work"
    here.mkdir(parents=True)
    (here / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(here)
    for name, reason in (
        ("/", "root directory"),
        (".", "current directory"),
        (str(tmp_path / "home"), "home directory|current directory"),
        (str(tmp_path), "current directory|holds"),
    ):
        with pytest.raises(UsageError, match=reason):
            open_destination(name, overwrite=True, job="job")
    assert tree(tmp_path) == ["home", "home/work", "home/work/file"]


def test_nobody_is_left_in_a_directory_that_was_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is the current directory"):
        open_destination(".", overwrite=False, job="job")
    assert tree(tmp_path) == []


def test_an_output_that_could_not_be_written_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"its parent directory .*none does not exist"):
        open_destination(str(tmp_path / "none" / "out"), overwrite=False, job="job")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot write to .*file"):
        open_destination(str(tmp_path / "file" / "out"), overwrite=False, job="job")
    with pytest.raises(UsageError, match="the output has no name"):
        open_destination("", overwrite=False, job="job")

    def full(path: str) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(StorageFull):
        open_destination(str(tmp_path / "out"), overwrite=False, job="job")


def test_a_link_to_a_directory_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    destination = open_destination(str(tmp_path / "link"), overwrite=False, job="job")
    destination.commit([part_of(destination, 0)], {})
    assert tree(tmp_path / "real") == ["_SUCCESS", "part-00000"]
    assert (tmp_path / "link").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_really_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A file system of one megabyte, filled by the job itself."""
    import subprocess

    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("this root may not mount")
    try:
        destination = open_destination(str(disk / "out"), overwrite=False, job="job")
        writer = open_part(destination.staging, AttemptId("job", "reduce", 0, 1), OutputFormat())
        with pytest.raises(StorageFull, match="no space left on the disk that holds"):
            writer.write_raw(bytes(2 << 20))
        writer.abort()
        destination.abort()
        assert tree(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# ---------------------------------------------------------------------------------------------- remote


@pytest.fixture
def store() -> Any:
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def test_a_remote_output_ends_with_its_mark(store: Any) -> None:
    destination = open_destination("memory://bucket/out/", overwrite=False, job="job")
    parts = [part_of(destination, 0), part_of(destination, 1)]
    part_of(destination, 0, 7)
    bad = Quarantined(RecordAt(0, "a", 0, ""), b"x", "no")
    assert destination.commit(parts, {"job": "j"}, [bad]) == [
        "memory://bucket/out/part-00000", "memory://bucket/out/part-00001",
    ]  # fmt: skip
    names = ["_SUCCESS", "_quarantine/records.jsonl", "part-00000", "part-00001"]
    assert store.find("/bucket/out") == [f"/bucket/out/{name}" for name in names]
    assert store.cat_file("/bucket/out/part-00001") == b"r1\t1\n"
    assert json.loads(store.cat_file("/bucket/out/_SUCCESS"))["parts"][0]["rows"] == 1


def test_a_remote_output_that_exists(store: Any) -> None:
    store.pipe_file("/bucket/out/_SUCCESS", b"")
    store.pipe_file("/bucket/out/part-00009", b"old")
    with pytest.raises(OutputExists, match="memory://bucket/out"):
        open_destination("memory://bucket/out", overwrite=False, job="job")
    with pytest.raises(OutputExists, match="a file has this name"):
        open_destination("memory://bucket/out/_SUCCESS", overwrite=True, job="job")
    destination = open_destination("memory://bucket/out", overwrite=True, job="job")
    part = part_of(destination, 0)
    assert store.exists("/bucket/out/part-00009")
    destination.commit([part], {})
    assert store.find("/bucket/out") == ["/bucket/out/_SUCCESS", "/bucket/out/part-00000"]


def test_an_aborted_remote_output_leaves_nothing(store: Any) -> None:
    destination = open_destination("memory://bucket/out", overwrite=False, job="job")
    part_of(destination, 0)
    destination.abort()
    destination.abort()
    assert store.find("/bucket") == []


def test_a_scheme_without_package_is_named() -> None:
    with pytest.raises(UsageError, match="nosuch://x/out"):
        open_destination("nosuch://x/out", overwrite=False, job="job")
