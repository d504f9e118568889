"""Every hazard that has a name, played on honest nodes."""

from __future__ import annotations

import pytest

from onerack.sim.raft.scenarios import SCENARIOS, play


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_an_honest_cluster_survives(name: str) -> None:
    play(name)
