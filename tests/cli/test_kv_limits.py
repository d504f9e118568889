"""The limits and timeouts that `onerack kv serve` and `onerack up` take: what they mean, and what makes no sense."""

from __future__ import annotations

import pytest

from onerack.cli.kv_limits import Limits
from onerack.config import KvConfig, RaftConfig
from onerack.errors import UsageError


def test_nothing_given_is_the_defaults() -> None:
    assert Limits().configs() == (KvConfig(), RaftConfig())
    assert Limits().words == []


def test_each_option_is_a_field() -> None:
    limits = Limits(
        quota_bytes="8GB", max_request_bytes="1MB", max_txn_ops=500, auto_compaction_mode="periodic",
        auto_compaction_retention="1h30m", snapshot_bytes="1MB", election_timeout="3s", heartbeat_interval="200ms",
    )  # fmt: skip
    kv, raft = limits.configs()
    assert kv == KvConfig(quota_bytes=8 << 30, request_bytes_max=1 << 20, txn_ops_max=500, auto_compaction_s=5400)
    assert raft == RaftConfig(snapshot_bytes=1 << 20, election_timeout_s=3.0, heartbeat_interval_s=0.2)
    assert limits.words[:4] == ["--quota-bytes", "8GB", "--max-request-bytes", "1MB"]


@pytest.mark.parametrize(
    ("limits", "seconds", "revisions"),
    [
        (Limits(auto_compaction_retention="0"), 0, 0),
        (Limits(auto_compaction_retention="2"), 7200, 0),  # as with etcd: hours
        (Limits(auto_compaction_retention="500ms"), 0.5, 0),
        (Limits(auto_compaction_mode="revision", auto_compaction_retention="1000"), 0, 1000),
        (Limits(auto_compaction_mode="revision", auto_compaction_retention="0"), 0, 0),
    ],
)
def test_how_much_history_stays(limits: Limits, seconds: float, revisions: int) -> None:
    kv, _ = limits.configs()
    assert (kv.auto_compaction_s, kv.auto_compaction_revisions) == (seconds, revisions)


def test_heartbeats_follow_the_election_timeout() -> None:
    _, raft = Limits(election_timeout="1200ms").configs()
    assert raft.heartbeat_interval_s == pytest.approx(0.2)
    Limits(election_timeout="15ms").configs()  # short enough for all that must be shorter still


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        (Limits(quota_bytes="much"), "--quota-bytes"),
        (Limits(max_request_bytes="0"), "--max-request-bytes"),
        (Limits(max_request_bytes="100MB"), "--max-request-bytes"),
        (Limits(election_timeout="3"), "--election-timeout"),
        (Limits(election_timeout="0s"), "--election-timeout"),
        (Limits(election_timeout="1s", heartbeat_interval="900ms"), "heartbeat_interval_s"),
        (Limits(auto_compaction_mode="revision"), "--auto-compaction-retention"),
        (Limits(auto_compaction_mode="revision", auto_compaction_retention="1h"), "revisions"),
        (Limits(auto_compaction_mode="sometimes", auto_compaction_retention="1h"), "--auto-compaction-mode"),
        (Limits(auto_compaction_retention="soon"), "--auto-compaction-retention"),
    ],
)
def test_what_makes_no_sense_is_named(limits: Limits, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        limits.configs()
