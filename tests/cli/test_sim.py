"""`onerack sim raft`: many seeds, the story of one, and what its exit codes say."""

from __future__ import annotations

import json

import pytest

from onerack.cli.main import execute


def test_many_seeds_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["sim", "raft", "--seeds", "5", "--from", "3"]) == 0
    assert "5 seeds in" in (out := capsys.readouterr().out)
    assert "no seed failed" in out


def test_a_summary_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["sim", "raft", "--seeds", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schedules"] == 3
    assert told["failed"] == []


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


def test_planted_bugs_have_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["sim", "raft", "--planted", "list"]) == 0
    assert "votes_are_not_written" in capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("words", "complaint"), [(["--trace"], "say which"), (["--planted", "nonsense"], "no planted bug is called")]
)
def test_mistakes_are_usage(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["sim", "raft", *words]) == 2
    assert complaint in capsys.readouterr().err
