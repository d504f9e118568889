"""Storms: everything happens at once, by the dice of a seed; nothing breaks, and afterwards all is well."""

from __future__ import annotations

import pytest

from onerack.config import RaftConfig
from tests.raft.storm import Storm

NARROW = RaftConfig(
    heartbeat_interval_s=0.1, election_timeout_s=1.0, in_flight_max=4, in_flight_bytes_max=100, append_bytes_max=60
)
LEASES = RaftConfig(
    heartbeat_interval_s=0.1, election_timeout_s=1.0, in_flight_max=4, in_flight_bytes_max=100, append_bytes_max=60,
    lease_reads=True,
)  # fmt: skip


def weather(seed: int) -> Storm:
    """Sizes 3 and 5, with and without leases, from storm to breeze."""
    config = LEASES if seed % 2 else NARROW
    return Storm(seed, size=5 if seed % 3 == 0 else 3, config=config, calm=(0.0, 0.5, 0.9)[seed % 3])


@pytest.mark.parametrize("seed", range(12))
def test_a_storm_breaks_nothing_and_ends_well(seed: int) -> None:
    storm = weather(seed)
    storm.run(1000)
    storm.calm_down()
    assert storm.network.watch.history.last_committed > 5


def test_the_same_seed_is_the_same_storm() -> None:
    def story(seed: int) -> list[str]:
        storm = weather(seed)
        storm.run(300)
        return [f"{name} {event}" for name, node in storm.network.nodes.items() for event in node.events] + [
            repr(each) for each in storm.network.sent
        ]

    assert story(4) == story(4)
    assert story(4) != story(5)


@pytest.mark.soak
@pytest.mark.parametrize("block", range(20))
def test_many_storms(block: int) -> None:
    for seed in range(1000 + 50 * block, 1050 + 50 * block):
        storm = weather(seed)
        storm.run(2000)
        storm.calm_down()
