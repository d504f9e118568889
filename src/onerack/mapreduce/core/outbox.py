"""Outbox: where a core puts what must happen outside, until the host drains it.

The rule: nothing in it is changed after it was put there, and `take` hands everything over exactly once.
"""

from __future__ import annotations

from typing import Any

import msgspec

from onerack.mapreduce.messages import AttemptId, JournalRecord
from onerack.runtime.seam import Envelope, Event, NodeId, Output

_ENCODER = msgspec.msgpack.Encoder()


class Outbox:
    def __init__(self) -> None:
        self._output = Output()

    def send(self, to: NodeId, message: Any) -> None:
        self._output.sends.append(Envelope(to, message))

    def record(self, decision: JournalRecord) -> None:
        """Journals a decision; nothing that follows from it leaves before it is durable."""
        self._output.writes.append(_ENCODER.encode(decision))
        self._output.applied.append(decision)

    def event(self, name: str, **fields: Any) -> None:
        self._output.events.append(Event(name, fields))

    def attempt_event(self, name: str, attempt: AttemptId, **fields: Any) -> None:
        """An event about one attempt: its job and its short name come first."""
        self._output.events.append(Event(name, {"job": attempt.job, "attempt": str(attempt), **fields}))

    @property
    def pending(self) -> Output:
        """What has gathered so far, to be looked at only."""
        return self._output

    def take(self, wake_at: float | None) -> Output:
        output, self._output = self._output, Output()
        output.wake_at = wake_at
        return output
