"""What tests ask about processes: who lives, who is whose child, and to wait until something is so."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from onerack.config import MapReduceConfig

HASTY = MapReduceConfig(heartbeat_interval_s=0.1, order_resend_s=0.4, report_grace_s=0.4, worker_timeout_s=1.0)
"""A configuration in which silence is noticed soon."""


def wait_until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Returns as soon as `condition` holds; fails when it does not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {timeout_s} s"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def children(pid: int) -> list[int]:
    """The process's children, whichever of its threads has made them."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, listing.read_text().split())
    return sorted(found)


def family(pid: int) -> list[int]:
    """The process's descendants."""
    return [each for child in children(pid) for each in [child, *family(child)]]
