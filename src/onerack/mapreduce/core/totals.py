"""Totals: what the accepted attempts of a job add up to.

The idea: each task contributes what its one accepted attempt counted; when another attempt takes that one's place
(its output was lost), the same numbers are taken back. So a counter is right at every moment, whatever ran twice.

The rule: adding a result and taking it back leaves no trace, not even a counter that stands at zero. (The maximum
of memory is the exception while a job runs: a maximum cannot be taken back. `sum_results` is exact in that too.)

Source: section 4.9 of the paper (counters).
"""

from __future__ import annotations

from collections.abc import Iterable

from onerack.mapreduce.messages import Metrics, TaskCompleted


def add_metrics(left: Metrics, right: Metrics) -> Metrics:
    """Sums; memory is the larger of both."""
    return _combine(left, right, 1)


def _combine(left: Metrics, right: Metrics, sign: int) -> Metrics:
    return Metrics(
        records_in=left.records_in + sign * right.records_in,
        records_out=left.records_out + sign * right.records_out,
        bytes_in=left.bytes_in + sign * right.bytes_in,
        bytes_shuffled=left.bytes_shuffled + sign * right.bytes_shuffled,
        bytes_out=left.bytes_out + sign * right.bytes_out,
        groups=left.groups + sign * right.groups,
        spills=left.spills + sign * right.spills,
        seconds=left.seconds + sign * right.seconds,
        memory_bytes_max=max(left.memory_bytes_max, right.memory_bytes_max),
    )


class Totals:
    """A running sum over accepted results."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self._counters: dict[str, int] = {}
        self._contributors: dict[str, int] = {}

    @property
    def counters(self) -> dict[str, int]:
        return dict(sorted(self._counters.items()))

    def add(self, result: TaskCompleted) -> None:
        self.metrics = _combine(self.metrics, result.metrics, 1)
        for name, n in result.counters.items():
            self._counters[name] = self._counters.get(name, 0) + n
            self._contributors[name] = self._contributors.get(name, 0) + 1

    def take_back(self, result: TaskCompleted) -> None:
        """Requires: the result was added."""
        self.metrics = _combine(self.metrics, result.metrics, -1)
        for name, n in result.counters.items():
            self._counters[name] -= n
            self._contributors[name] -= 1
            if self._contributors[name] == 0:
                del self._counters[name], self._contributors[name]


def sum_results(results: Iterable[TaskCompleted]) -> Totals:
    """The exact totals of a job that is over."""
    totals = Totals()
    for result in results:
        totals.add(result)
    return totals
