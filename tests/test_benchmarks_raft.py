"""The benchmarks of raft and the store: their cases name what is there, and are judged as the table says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from benchmarks import raft
from benchmarks.contest import Case
from benchmarks.raft_cases import CASES, Setting
from benchmarks.raft_peers.load import figures
from benchmarks.raft_peers.ports import free_ports

SETTING = Setting(quick=True, python=sys.executable, python_etcd3="")
ALL = [case for make in CASES.values() for case in make(SETTING)]


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_every_row_is_a_program_that_is_there(case: Case) -> None:
    for contender in case.contenders:
        words = contender.command
        if words[1] == "-m":
            assert importlib.util.find_spec(words[2]) is not None, words[2]
        else:
            assert Path(words[1]).is_file(), words[1]
        assert "{output}-nodes" in words, "each run has a folder of its own"


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_every_bar_is_about_rows_of_its_case(case: Case) -> None:
    names = [contender.name for contender in case.contenders]
    for bar in case.bars:
        assert bar.ours in names
        assert all(any(name.startswith(rival) for name in names) for rival in bar.theirs)
    assert len({contender.name for contender in case.contenders}) == len(names)


def test_a_peer_whose_python_was_not_named_is_listed_and_left_out() -> None:
    for case in CASES["pysyncobj"](SETTING):
        *ours, peer = case.contenders
        assert [contender.missing for contender in ours] == ["", ""]
        assert peer.missing == "no Python that has pysyncobj was named"


def test_an_unknown_case_is_refused_with_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        raft.arguments(["--case", "servers,nothing"])
    assert ended.value.code == 2
    assert "no case is called nothing; there are servers, python" in capsys.readouterr().err


def test_figures_are_rates_and_percentiles() -> None:
    found = figures([0.001 * number for number in range(100, 0, -1)], 2.0)
    assert found == {"ops_per_s": 50.0, "p50_ms": pytest.approx(51.0), "p99_ms": pytest.approx(100.0)}
    assert figures([], 2.0) == {"ops_per_s": 0.0}


def test_free_ports_differ() -> None:
    assert len(set(free_ports(20))) == 20
