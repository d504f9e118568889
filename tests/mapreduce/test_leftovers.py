"""What dead, failed and old jobs leave on the disk: removed by those who come later, and nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onerack.config import MapReduceConfig
from onerack.errors import JobFailed
from onerack.mapreduce import run
from onerack.mapreduce.history import JobRecord, create_job, list_jobs, load_job, save_job
from onerack.mapreduce.job_lock import JobLock, is_held, make_lock, take_over
from onerack.mapreduce.leftovers import remove_leftovers
from tests.mapreduce.processes import family, is_alive, wait_until

CONFIG = MapReduceConfig()

FOREVER = """
    import sys
    import time

    from onerack.mapreduce import run

    def hang(key, line):
        time.sleep(1000)
        yield line, 1

    run(map=hang, reduce="sum", input=sys.argv[1], output=sys.argv[2], workers=2)
"""


@pytest.fixture
def killed(books: Path, tmp_path: Path, home: Path) -> JobRecord:
    """A job whose process was killed with SIGKILL in its map phase."""
    script = tmp_path / "forever.py"
    script.write_text(textwrap.dedent(FOREVER))
    process = subprocess.Popen([sys.executable, str(script), str(books), str(tmp_path / "out")])
    try:
        wait_until(lambda: [record for record in list_jobs() if record.stages and record.stages[0].maps.in_progress])
        workers = family(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(lambda: not any(map(is_alive, workers)))
    return list_jobs()[0]


def dead_job(place: Path | str) -> JobRecord:
    """A job as a killed process leaves it: its record says "running", its lock is there, and nobody holds it."""
    job, directory = create_job()
    record = JobRecord(
        job=job, name="dead", state="running", pid=1, began_at=time.time(), directory=str(directory), place=str(place)
    )
    save_job(record)
    (directory / "lock").touch()
    return record


def failed_job() -> Path:
    """The directory of a failed job that has kept its shuffle."""
    job, directory = create_job()
    save_job(JobRecord(job=job, name="failed", state="failed", pid=1, began_at=time.time(), directory=str(directory)))
    for stage in (directory, directory / "stage-2"):
        (stage / "shuffle").mkdir(parents=True)
        (stage / "shuffle" / "m0.1").write_bytes(b"rows")
        (stage / "journal.log").write_bytes(b"decisions")
    return directory


def hidden(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".")]


def test_a_killed_jobs_staging_and_shuffle_go_with_the_next_run(killed: JobRecord, books: Path, tmp_path: Path) -> None:
    assert hidden(tmp_path) == [f".out.{killed.job}.staging"]
    assert killed.state == "lost"

    run(map=lambda key, line: [(line, 1)], reduce="sum", input=str(books), output=str(tmp_path / "out"), workers=1)

    assert hidden(tmp_path) == []
    assert load_job(killed.job).state == "lost"
    assert "was killed" in load_job(killed.job).error
    left = set(os.listdir(killed.directory))
    assert left & {"shuffle", "parts", "workers", "lock"} == set()
    assert {"status.json", "spec.msgpack", "journal.log"} <= left


def test_a_living_job_is_not_touched(tmp_path: Path) -> None:
    record = dead_job(tmp_path / "out")
    staging = tmp_path / f".out.{record.job}.staging"
    staging.mkdir()
    lock = make_lock(Path(record.directory))

    remove_leftovers(CONFIG)
    assert staging.exists()
    assert load_job(record.job).state == "running"

    lock.release()
    (Path(record.directory) / "lock").touch()  # As the kernel leaves it: there, and free.
    remove_leftovers(CONFIG)
    assert not staging.exists()


def test_an_output_that_was_being_replaced_comes_back(tmp_path: Path) -> None:
    record = dead_job(tmp_path / "out")
    aside = tmp_path / f".out.{record.job}.replaced"
    aside.mkdir()
    (aside / "old").touch()
    (tmp_path / f".out.{record.job}.staging").mkdir()

    remove_leftovers(CONFIG)

    assert os.listdir(tmp_path / "out") == ["old"]
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("owner", ["the job", "somebody"])
def test_a_replaced_output_is_removed_only_when_its_successor_is_there(tmp_path: Path, owner: str) -> None:
    record = dead_job(tmp_path / "out")
    aside = tmp_path / f".out.{record.job}.replaced"
    aside.mkdir()
    (aside / "old").touch()
    (tmp_path / "out").mkdir()
    job = record.job if owner == "the job" else "another"
    (tmp_path / "out" / "_SUCCESS").write_bytes(msgspec.json.encode({"job": job}))

    remove_leftovers(CONFIG)

    assert os.listdir(tmp_path / "out") == ["_SUCCESS"]
    assert aside.exists() == (owner == "somebody")


def test_nothing_is_removed_for_a_job_whose_output_was_elsewhere(tmp_path: Path) -> None:
    record = dead_job("")
    (tmp_path / f".out.{record.job}.staging").mkdir()

    remove_leftovers(CONFIG)

    assert hidden(tmp_path) == [f".out.{record.job}.staging"]
    assert load_job(record.job).error


def test_a_job_that_died_before_it_had_a_record_is_forgotten(home: Path) -> None:
    _, directory = create_job()
    (directory / "lock").touch()

    remove_leftovers(CONFIG)

    assert os.listdir(home / "jobs") == []


def test_what_cannot_be_removed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = dead_job(tmp_path / "out")
    staging = tmp_path / f".out.{record.job}.staging"
    staging.mkdir()

    def refuse(path: str) -> None:
        raise PermissionError(path)

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", refuse)
        remove_leftovers(CONFIG)
    assert staging.exists()
    remove_leftovers(CONFIG)
    assert not staging.exists()


def test_only_the_newest_failed_jobs_keep_their_shuffle() -> None:
    failed = sorted((failed_job() for _ in range(5)), reverse=True)

    remove_leftovers(msgspec.structs.replace(CONFIG, debuggable_jobs_max=2))

    kept = [[(stage / "shuffle").exists() for stage in (job, job / "stage-2")] for job in failed]
    assert kept == [[True, True]] * 2 + [[False, False]] * 3
    assert all((job / "journal.log").exists() and (job / "status.json").exists() for job in failed)


def test_only_the_newest_jobs_are_remembered_and_strangers_stay(home: Path) -> None:
    jobs = sorted((failed_job() for _ in range(5)), reverse=True)
    (home / "jobs" / "20200101-notes").mkdir()
    lock = make_lock(jobs[-1])

    remove_leftovers(msgspec.structs.replace(CONFIG, history_jobs_max=2, debuggable_jobs_max=0))

    left = sorted(os.listdir(home / "jobs"), reverse=True)
    assert left == sorted([*(job.name for job in jobs[:2]), jobs[-1].name, "20200101-notes"], reverse=True)
    lock.release()


def test_a_failed_run_keeps_its_shuffle_and_a_later_one_trims_it(books: Path, tmp_path: Path) -> None:
    def refuse(key: str, values: Any) -> None:
        raise ValueError(key)

    config = msgspec.structs.replace(CONFIG, debuggable_jobs_max=1, attempts_max=1)
    directories = []
    for name in ("first", "second", "third"):
        with pytest.raises(JobFailed) as failure:
            run(
                map=lambda key, line: [(line, 1)],
                reduce=refuse,
                input=str(books),
                output=str(tmp_path / name),
                workers=1,
                config=config,
            )
        directories.append(Path(failure.value.job_directory))

    assert [(directory / "shuffle").exists() for directory in directories] == [False, True, True]
    assert not any((directory / "lock").exists() for directory in directories)


def test_a_lock_is_held_until_it_is_released(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    lock = make_lock(tmp_path)
    assert is_held(tmp_path)
    assert take_over(tmp_path) is None
    lock.release()
    assert not is_held(tmp_path)
    assert os.listdir(tmp_path) == []


def test_the_lock_of_the_dead_can_be_taken_by_one(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    assert not is_held(tmp_path)

    heir = take_over(tmp_path)
    assert isinstance(heir, JobLock)
    assert take_over(tmp_path) is None
    heir.release()


def test_where_there_are_no_locks_every_job_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: Any, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    lock = make_lock(tmp_path)

    assert is_held(tmp_path)
    assert take_over(tmp_path) is None
    lock.release()
    assert not is_held(tmp_path)
