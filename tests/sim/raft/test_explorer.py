"""Every run of a small cluster up to a bound: honest cores survive all, and Figure 8 is found where it is planted."""

from __future__ import annotations

import pytest

from onerack.sim.raft.explorer import Bounds, Found, Move, explore
from onerack.sim.raft.kit import Kit
from onerack.sim.raft.planted import PLANTED

FIGURE_8_B: tuple[Move, ...] = (("elect", "n1", "n2"), ("propose", "n1"), ("elect", "n2", "n3"))
"""Figure 8 (b): two leaders have an entry each that nobody else has."""


def test_every_run_of_honest_cores_is_right() -> None:
    explored = explore(Kit(), Bounds(elections=3, moves=5, crashes=1, drops=1))
    assert explored.complete
    assert explored.states > 500


def test_figure_8_is_found_where_it_is_planted() -> None:
    kit = PLANTED["entries_of_old_terms_are_counted"]()
    with pytest.raises(Found) as found:
        explore(kit, Bounds(moves=9), FIGURE_8_B)
    assert [move[0] for move in found.value.path].count("elect") == 4


def test_figure_8_is_not_found_where_it_is_not() -> None:
    assert explore(Kit(), Bounds(moves=8), FIGURE_8_B).complete


@pytest.mark.soak
def test_figure_8_is_found_from_the_very_beginning() -> None:
    with pytest.raises(Found):
        explore(PLANTED["entries_of_old_terms_are_counted"](), Bounds(moves=9))


@pytest.mark.soak
def test_every_longer_run_of_honest_cores_is_right() -> None:
    assert explore(Kit(), Bounds(moves=9, states=300_000)).complete
    assert explore(Kit(), Bounds(moves=7, crashes=2, drops=2, proposals=2, states=300_000)).states > 10_000


@pytest.mark.parametrize("name", ["logs_are_compared_by_length", "logs_are_not_compared"])
def test_other_planted_bugs_are_found(name: str) -> None:
    with pytest.raises(Found):
        explore(PLANTED[name](), Bounds(moves=6))
