"""The one seam: how every protocol core of onerack meets the world.

The idea: a core is a pure state machine. Messages go in through `step`, everything that must happen outside comes
out of `drain` as one `Output`. A core holds no clock, socket, file, thread or dice: time is an argument, chance a
seeded `random.Random` given at construction, identity a node id and counters. The same seed and the same messages
in the same order give the same Outputs, byte for byte, in any process.

The rule for hosts: `early` leaves at once; `writes` are durable before anything else of the same Output leaves; then
`sends`, then `applied`, then `events`; one Output in flight per core.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

NodeId = str
"""Name of a node, unique in its cluster, e.g. `master` or `worker-3`."""


class Envelope(msgspec.Struct, frozen=True):
    """A message and the node it goes to."""

    to: NodeId
    message: Any


class Event(msgspec.Struct, frozen=True):
    """Something that people may want to see: log, progress display, golden trace. Never read by a protocol."""

    name: str
    fields: dict[str, Any] = {}

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.fields.items())])


class Output(msgspec.Struct):
    """What a core wants done, in the order in which it must be done."""

    writes: list[Any] = msgspec.field(default_factory=list)
    """Records that must be durable before `sends`, and all below it, leave this node: bytes, or what the host's
    storage encodes."""
    sends: list[Envelope] = msgspec.field(default_factory=list)
    applied: list[Any] = msgspec.field(default_factory=list)
    """Decisions, in order, each handed over exactly once per run."""
    events: list[Event] = msgspec.field(default_factory=list)
    early: list[Envelope] = msgspec.field(default_factory=list)
    """Sends that follow from no write: they may leave at once, while the disk works."""
    wake_at: float | None = None
    """When the core wants a `Tick`, on the clock of `now`; None: never."""


class Tick(msgspec.Struct, frozen=True, tag="tick"):
    """The timer's message. One that is too early or too late is harmless."""


class Core(Protocol):
    """A pure protocol."""

    def step(self, message: Any, sender: NodeId, now: float) -> None:
        """Takes one message in. The only way in which state changes. `now`: seconds, monotonic."""

    def drain(self) -> Output:
        """Everything that has to happen outside since the last drain."""
