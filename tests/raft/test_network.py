"""The hand-driven network itself: a cluster elects, replicates, and commits."""

from __future__ import annotations

from tests.raft.network import Network


def test_three_nodes_elect_and_replicate() -> None:
    network = Network(3)
    leader = network.wait_for_leader()
    network.propose(leader, b"a")
    network.settle()
    assert [network.nodes[name].commands for name in network.alive] == [[b"a"]] * 3
