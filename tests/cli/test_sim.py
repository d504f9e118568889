"""`onerack sim raft`: many seeds, the story of one, and what its exit codes say."""

from __future__ import annotations

import json

import pytest

from onerack.cli.main import execute
from onerack.sim.raft import PLANTED


def test_many_seeds_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["sim", "raft", "--seeds", "5", "--from", "3"]) == 0
    assert "5 seeds in" in (out := capsys.readouterr().out)
    assert "no seed failed" in out


def test_a_summary_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["sim", "raft", "--seeds", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schedules"] == 3
    assert told["failed"] == []


def test_several_processes_find_what_one_finds(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for jobs in ("1", "2"):
        words = ["sim", "raft", "--seeds", "8", "--planted", "heirs_are_leaders_at_once", "--from", "74", "--json"]
        assert execute([*words, "--jobs", jobs]) == 1
        told.append(json.loads(capsys.readouterr().out))
    for each in told:
        assert each.pop("schedules_per_second") > 0
        assert each.pop("wall_seconds") > 0
    assert [each.pop("jobs") for each in told] == [1, 2]
    assert [failed["seed"] for failed in told[0]["failed"]] == [78]
    assert told[0] == told[1]


def test_seeds_of_violations_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["sim", "raft", "--seed", "0", "--planted", "synced_is_said_too_early"]) == 1
    out = capsys.readouterr().out
    assert "seed 0: at" in out
    assert "committed_is_durable" in out
    assert "1 seeds failed" in out


def test_the_story_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["sim", "raft", "--seed", "3", "--trace"]) == 0
    assert "becomes_leader" in capsys.readouterr().out
    assert execute(["sim", "raft", "--seed", "0", "--trace", "--planted", "synced_is_said_too_early"]) == 1


def test_every_planted_bug_is_hunted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: PLANTED[name] for name in ("nobody_rises", "logs_are_compared_by_length")}
    monkeypatch.setattr("onerack.sim.raft.PLANTED", few)
    assert execute(["sim", "raft", "--planted", "all", "--seeds", "2", "--jobs", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["found"], told["of"]) == (2, 2)
    by_bug = {each["bug"]: each for each in told["bugs"]}
    assert by_bug["nobody_rises"]["found_by"] == "seed 0"
    assert by_bug["logs_are_compared_by_length"]["found_by"].startswith("scenario")
    assert execute(["sim", "raft", "--planted", "all", "--seeds", "1", "--jobs", "1"]) == 0
    assert "2 of 2 planted bugs found" in capsys.readouterr().out


def test_planted_bugs_have_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["sim", "raft", "--planted", "list"]) == 0
    assert "votes_are_not_written" in capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("words", "complaint"), [(["--trace"], "say which"), (["--planted", "nonsense"], "no planted bug is called")]
)
def test_mistakes_are_usage(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["sim", "raft", *words]) == 2
    assert complaint in capsys.readouterr().err
