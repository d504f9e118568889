"""The demo: what it reads, whom it kills, what it says, and that it proves its result."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest

from onerack.cli import demo
from onerack.cli.main import execute
from onerack.codec import encode_frame
from onerack.mapreduce.history import JobRecord, create_job, save_job
from onerack.mapreduce.messages import AttemptId, Metrics, TaskCompleted
from tests.cli.pictures import picture


@pytest.fixture(autouse=True)
def _own_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONERACK_HOME", str(tmp_path / "home"))


def small_library() -> tuple[list[str], list[Path]]:
    """Two packages of the standard library."""
    folder = Path(os.__file__).parent
    patterns = [str(folder / "json" / "*.py"), str(folder / "email" / "*.py")]
    return patterns, [*folder.glob("json/*.py"), *folder.glob("email/*.py")]


def test_the_library_is_large_and_only_python_s_own() -> None:
    patterns, files = demo.standard_library()
    assert len(files) > 500
    assert len(set(files)) == len(files)
    assert not any("site-packages" in path.parts or "dist-packages" in path.parts for path in files)
    assert all(str(Path(os.__file__).parent) in pattern for pattern in patterns)


def test_the_demo_proves_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "standard_library", small_library)
    out = tmp_path / "words"
    for _ in range(2):  # the second demo replaces the first one's output
        assert execute(["demo", "--out", str(out), "--workers", "2"]) == 0
        shown = capsys.readouterr().out
        assert "  self\n" in shown.partition("ten most frequent words")[2]
        assert "gives the same counts" in shown
        assert str(out) in shown
    assert (out / "_SUCCESS").exists()


def test_a_wrong_count_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    patterns, files = small_library()
    monkeypatch.setattr(demo, "standard_library", lambda: (patterns, files[1:]))
    assert execute(["demo", "--out", str(tmp_path / "words"), "--workers", "1"]) == 1
    assert "differ from those of a plain loop" in capsys.readouterr().err


def test_the_demo_replaces_nothing_of_yours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").touch()
    assert execute(["demo", "--out", str(tmp_path)]) == 2
    assert "--out" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").exists()

    (tmp_path / "_SUCCESS").write_text('{"name": "WordCount"}')  # Another job's output is not the demo's either.
    assert execute(["demo", "--out", str(tmp_path)]) == 2
    assert (tmp_path / "thesis.tex").exists()


def test_the_saboteur_kills_when_half_of_the_maps_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    job, directory = create_job()
    save_job(JobRecord(job=job, name="demo", state="running", pid=os.getpid(), began_at=0.0, directory=str(directory)))
    shuffle = directory / "shuffle"
    shuffle.mkdir()
    (shuffle / "m0.1").touch()
    (shuffle / "m1.1.tmp").touch()  # not finished, so only one of four is done
    saboteur = demo.Saboteur()
    with subprocess.Popen(["sleep", "60"]) as victim:
        monkeypatch.setattr(demo, "grandchildren", lambda pid: [victim.pid])
        saboteur.saw(picture(maps=(1, 4), job=job))
        assert saboteur.killed == 0
        assert victim.poll() is None
        (shuffle / "m1.1.tmp").rename(shuffle / "m1.1")
        assert victim.wait(timeout=30) == -signal.SIGKILL
    saboteur.rest()
    assert saboteur.killed == victim.pid


def test_a_saboteur_whose_job_is_over_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    job, directory = create_job()
    save_job(JobRecord(job=job, name="demo", state="running", pid=os.getpid(), began_at=0.0, directory=str(directory)))
    saboteur = demo.Saboteur()
    monkeypatch.setattr(demo, "grandchildren", lambda pid: pytest.fail("there is nobody to kill"))
    saboteur.saw(picture(job=job))
    saboteur.rest()
    assert saboteur.killed == 0


def test_workers_are_the_children_of_our_children() -> None:
    script = "sleep 60 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True, process_group=0) as nursery:
        try:
            assert nursery.stdout is not None
            worker = int(nursery.stdout.readline())
            assert demo.grandchildren(os.getpid()) == [worker]
        finally:
            os.killpg(nursery.pid, signal.SIGKILL)


def test_what_ran_again_is_read_from_the_journal(tmp_path: Path) -> None:
    records = [
        TaskCompleted(AttemptId("j", "map", index, number), (), (), {}, Metrics())
        for index, number in ((0, 1), (7, 2), (1, 1))
    ]
    (tmp_path / "journal.log").write_bytes(b"".join(encode_frame(msgspec.msgpack.encode(each)) for each in records))
    assert demo.repeated_tasks(str(tmp_path)) == ["m7"]
