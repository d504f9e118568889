"""`onerack history` and `onerack show`: what they tell of the jobs in the jobs directory."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from onerack.cli.main import execute
from onerack.mapreduce.history import JobRecord, create_job, save_job
from tests.cli.pictures import MB, picture


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two jobs: the older is done, the newer failed."""
    monkeypatch.setenv("ONERACK_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    names = []
    for number, state in enumerate(("done", "failed")):
        job, directory = create_job()
        save_job(
            JobRecord(
                job=job,
                name=f"job{number}",
                state="done" if state == "done" else "failed",
                pid=os.getpid(),
                began_at=1_000_000.0 + number,
                seconds=4.2,
                inputs=("books/*.txt",),
                output="counts",
                workers=2,
                stages=(picture(maps=(4, 4), megabytes=(100, 100)),),
                parts=("counts/part-00000",) if state == "done" else (),
                counters={"blank lines": 12},
                partition_bytes=(3 * MB, MB),
                quarantined=2,
                error="" if state == "done" else "ValueError: the record is odd",
                directory=str(directory),
            )
        )
        names.append(job)
    return names


def test_history_lists_the_newest_first(jobs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["history"]) == 0
    heading, newer, older = capsys.readouterr().out.splitlines()
    assert heading.split() == ["job", "name", "state", "began", "took", "input", "output"]
    assert newer.split()[:3] == [jobs[1], "job1", "failed"]
    assert older.split()[:3] == [jobs[0], "job0", "done"]
    assert "100.0 MB" in older


def test_history_as_json_and_its_limit(jobs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["history", "--json", "--limit", "1"]) == 0
    (record,) = json.loads(capsys.readouterr().out)["jobs"]
    assert record["job"] == jobs[1]


def test_an_empty_history_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ONERACK_HOME", str(tmp_path))
    assert execute(["history"]) == 0
    assert "onerack demo" in capsys.readouterr().out


def test_show_tells_all_of_a_job(jobs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["show", jobs[0]]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{jobs[0]}  job0  done\n")
    for said in ("books/*.txt", "4/4 tasks", "1.5x the mean", "2 bad records", "blank lines  12", "counts/part-00000"):
        assert said in shown


def test_show_tells_why_a_job_failed(jobs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["show", "last"]) == 0
    assert capsys.readouterr().out.endswith("\nValueError: the record is odd\n")


def test_show_as_json(jobs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["show", "last", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["job"] == jobs[1]
    assert record["state"] == "failed"
    assert record["partition_bytes"] == [3 * MB, MB]
