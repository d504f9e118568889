"""The jobs directory: what a job leaves there, and how it is found again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest

from onerack.errors import UsageError
from onerack.mapreduce import history
from onerack.mapreduce.history import JobRecord, create_job, list_jobs, load_job, save_job
from onerack.mapreduce.job_lock import make_lock


def a_job(**changes: object) -> JobRecord:
    """A job in the history."""
    job, directory = create_job()
    record = JobRecord(
        job=job, name="wordcount", state="done", pid=os.getpid(), began_at=time.time(), directory=str(directory)
    )
    record = msgspec.structs.replace(record, **changes)
    save_job(record)
    return record


def test_what_is_saved_is_loaded(home: Path) -> None:
    record = a_job(counters={"lines": 3}, parts=("out/part-00000",))

    assert load_job(record.job) == record
    assert sorted(os.listdir(home / "jobs" / record.job)) == ["status.json"]


def test_a_job_is_found_by_the_beginning_of_its_id_its_directory_and_as_the_last(home: Path) -> None:
    first, second = a_job(began_at=1.0), a_job(began_at=2.0)

    assert load_job(first.directory) == first
    assert load_job("last") == second
    with pytest.raises(UsageError, match="could be any of"):
        load_job(first.job[:8])
    (home / "jobs" / second.job / "status.json").unlink()
    (home / "jobs" / second.job).rmdir()
    assert load_job(first.job[:8]) == first


def test_jobs_are_listed_newest_first_and_strangers_are_left_out(home: Path) -> None:
    old, new = a_job(began_at=1.0), a_job(began_at=2.0)
    (home / "jobs" / "notes").mkdir()
    (home / "jobs" / "broken").mkdir()
    (home / "jobs" / "broken" / "status.json").write_text("{")

    assert [record.job for record in list_jobs()] == [new.job, old.job]


def test_a_running_job_whose_lock_nobody_holds_is_lost() -> None:
    record = a_job(state="running")
    assert load_job(record.job).state == "lost"

    lock = make_lock(Path(record.directory))
    assert load_job(record.job).state == "running"
    lock.release()
    assert load_job(record.job).state == "lost"


def test_ids_of_one_second_sort_by_time() -> None:
    ids = [create_job()[0] for _ in range(20)]
    assert ids == sorted(ids)


def test_ids_differ_and_directories_are_their_own() -> None:
    made = [create_job() for _ in range(20)]

    assert len({job for job, _ in made}) == 20
    assert all(directory.is_dir() and directory.name == job for job, directory in made)


@pytest.mark.parametrize("job", ["nothing", "20990101", "", "last"])
def test_a_job_that_does_not_exist_is_refused_with_a_hint(job: str) -> None:
    with pytest.raises(UsageError, match=r"onerack history|no job has been run"):
        load_job(job)


def test_a_directory_that_is_no_jobs_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no job's directory"):
        load_job(str(tmp_path / "elsewhere"))
    (tmp_path / "status.json").write_text("[1]")
    with pytest.raises(UsageError, match="cannot be read"):
        load_job(str(tmp_path))


def test_homes_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert history.jobs_directory() == tmp_path / "home" / "jobs"
    monkeypatch.delenv("ONERACK_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert history.jobs_directory() == tmp_path / "state" / "onerack" / "jobs"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert history.jobs_directory() == tmp_path / "me" / ".local" / "state" / "onerack" / "jobs"


def test_a_home_that_cannot_be_made_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONERACK_HOME", str(tmp_path / "file"))

    with pytest.raises(UsageError, match="set ONERACK_HOME"):
        create_job()
