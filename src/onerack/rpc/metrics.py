"""Metrics: what a server has done, by method, cheap enough to be counted always.

The idea: a call adds one to two plain integers. Durations of plain handlers, which take less than looking at the clock,
are taken of every 32nd call. The rule: counters only grow; a snapshot is a copy that nobody changes any more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any, Final

import msgspec

SAMPLED_EVERY: Final = 32
BUCKETS_S: Final = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Upper bounds of the buckets of durations; one more bucket is for what took longer."""


class MethodMetrics:
    """Counters of one method."""

    __slots__ = ("calls", "durations", "failed", "seconds", "timed")

    def __init__(self) -> None:
        self.calls = 0
        """Handlers that have ended, however they ended."""
        self.failed = 0
        """Of these, the ones that raised."""
        self.timed = 0
        self.seconds = 0.0
        """Taken by the `timed` ones together."""
        self.durations = [0] * (len(BUCKETS_S) + 1)

    def took(self, seconds: float) -> None:
        self.timed += 1
        self.seconds += seconds
        self.durations[bisect_left(BUCKETS_S, seconds)] += 1


class MethodSnapshot(msgspec.Struct, frozen=True):
    calls: int
    failed: int
    timed: int
    seconds: float
    durations: tuple[int, ...]


class MetricsSnapshot(msgspec.Struct, frozen=True):
    """What a server has done and does. For JSON as it is; for Prometheus see `PrometheusCollector`."""

    connections: int
    """Open now."""
    sessions: int
    running: int
    """Calls that run or wait to run."""
    reply_cache_bytes: int
    refused: int
    """Connections that were turned away, or closed for breaking the contract."""
    methods: dict[str, MethodSnapshot]


def snapshot_of(metrics: MethodMetrics) -> MethodSnapshot:
    return MethodSnapshot(metrics.calls, metrics.failed, metrics.timed, metrics.seconds, tuple(metrics.durations))


class PrometheusCollector:
    """For `prometheus_client.REGISTRY.register(PrometheusCollector(server))` (the extra `metrics`).

    `source` has `metrics() -> MetricsSnapshot`, as a Server has.
    """

    def __init__(self, source: Any) -> None:
        self._source = source

    def collect(self) -> Iterable[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        now: MetricsSnapshot = self._source.metrics()
        for name, value, words in (
            ("connections", now.connections, "Open connections"),
            ("sessions", now.sessions, "Sessions with a reply cache"),
            ("running", now.running, "Calls that run or wait to run"),
            ("reply_cache_bytes", now.reply_cache_bytes, "Memory of remembered replies"),
        ):
            yield GaugeMetricFamily(f"onerack_rpc_{name}", words, value=value)
        yield CounterMetricFamily("onerack_rpc_refused", "Connections turned away or closed", value=now.refused)
        calls = CounterMetricFamily("onerack_rpc_calls", "Handlers that have ended", labels=["method"])
        failed = CounterMetricFamily("onerack_rpc_failed", "Handlers that raised", labels=["method"])
        took = HistogramMetricFamily("onerack_rpc_seconds", "Durations of handlers, sampled", labels=["method"])
        for name, method in now.methods.items():
            calls.add_metric([name], method.calls)
            failed.add_metric([name], method.failed)
            took.add_metric([name], _cumulative(method.durations), method.seconds)
        yield from (calls, failed, took)


def _cumulative(durations: tuple[int, ...]) -> list[tuple[str, float]]:
    total = 0
    buckets = []
    for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), durations, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets
