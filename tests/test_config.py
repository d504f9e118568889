"""A configuration whose relations do not hold is refused at construction, with both values named."""

from __future__ import annotations

from typing import Any

import pytest

from onerack.config import MapReduceConfig
from onerack.errors import UsageError


def test_the_defaults_hold() -> None:
    MapReduceConfig()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"heartbeat_interval_s": 10.0}, ["heartbeat_interval_s=10.0", "worker_timeout_s=30.0"]),
        ({"worker_timeout_s": 700.0}, ["worker_timeout_s=700.0", "task_stall_timeout_s=600.0"]),
        ({"order_resend_s": 0.1}, ["order_resend_s=0.1", "heartbeat_interval_s=0.25"]),
        ({"report_grace_s": 0.2}, ["report_grace_s=0.2", "heartbeat_interval_s=0.25"]),
        ({"attempts_max": 0}, ["attempts_max=0"]),
        ({"losses_max": 0}, ["losses_max=0"]),
        ({"record_failures_max": 0}, ["record_failures_max=0"]),
        ({"ended_jobs_max": 0}, ["ended_jobs_max=0"]),
        ({"backup_phase_fraction": 0.0}, ["backup_phase_fraction=0.0"]),
        ({"backup_phase_fraction": 1.1}, ["backup_phase_fraction=1.1"]),
        ({"backup_slots_fraction": 2.0}, ["backup_slots_fraction=2.0"]),
        ({"split_bytes": 0}, ["split_bytes=0"]),
        ({"memory_bytes": 1}, ["memory_bytes=1"]),
    ],
)
def test_a_false_relation_is_refused(settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        MapReduceConfig(**settings)
    for word in words:
        assert word in str(caught.value)
