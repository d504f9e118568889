"""The story of one schedule, for people: what arrived where, what the master made of it, which fault struck.

The rule: told in the order in which it happened, one line each, the same lines for the same seed in any process.
"""

from __future__ import annotations

from typing import Any

from onerack.mapreduce.messages import (
    AttemptFailed,
    CancelJob,
    Dismiss,
    FetchFailed,
    Heartbeat,
    JobEnded,
    KillAttempt,
    LoadJob,
    MapCompleted,
    ReduceCompleted,
    Register,
    RunMap,
    RunReduce,
    SubmitJob,
    WorkerLost,
)
from onerack.runtime.seam import Event
from onerack.runtime.trace import trace_line
from onerack.sim.mapreduce.options import Options


class Story:
    def __init__(self, options: Options) -> None:
        self._lines = [f"{name} = {getattr(options, name)}" for name in options.__struct_fields__]

    def __str__(self) -> str:
        return "\n".join(self._lines)

    def message(self, at: float, sender: str, to: str, message: Any) -> None:
        self._lines.append(f"{at:9.3f} {sender} -> {to}: {describe(message)}")

    def events(self, at: float, events: list[Event]) -> None:
        self._lines += [trace_line(at, "master", event) for event in events]

    def fault(self, at: float, kind: str, node: str) -> None:
        self._lines.append(f"{at:9.3f} FAULT {kind} {node}")


def describe(message: Any) -> str:
    """A message in a few words."""
    match message:
        case SubmitJob(spec) | LoadJob(spec):
            what = f"{spec.job} M={len(spec.splits)} R={spec.reducers}"
        case CancelJob(job) | JobEnded(job):
            what = job
        case Register() | Heartbeat():
            what = f"running={message.running} seen={message.seen}"
        case RunMap() | RunReduce() | KillAttempt():
            what = f"{message.attempt} order={message.order}"
        case MapCompleted() | ReduceCompleted():
            what = str(message.attempt)
        case AttemptFailed(_, attempt, failure):
            what = f"{attempt} {failure.cause} record={failure.record.number if failure.record else None}"
        case FetchFailed():
            what = f"{message.attempt} lost={message.lost} {message.reason}"
        case WorkerLost(worker, failure):
            what = f"{worker} {failure.cause} record={failure.record.number if failure.record else None}"
        case Dismiss(_, reason):
            what = reason
        case _:
            what = ""
    return f"{type(message).__name__} {what}".rstrip()
