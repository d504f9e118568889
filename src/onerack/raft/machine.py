"""State machines: what is replicated.

The idea: a machine is nothing but what its commands made of it. Every node applies the same commands in the same order,
so every node's machine is the same, and a snapshot of one restores any other.

    class Counter:
        def __init__(self) -> None:
            self.total = 0

        def apply(self, command: bytes, wanted: bool) -> int:
            self.total += int(command)
            return self.total

        def snapshot(self) -> Iterator[bytes]:
            yield b"%d" % self.total

        def restore(self, pieces: Iterator[bytes]) -> None:
            self.total = int(b"".join(pieces))

The rule: `apply` is deterministic: no clock, no dice, no environment, no order of a set. An exception in it halts the
node: a machine that half applied a command is no longer what its commands made of it.

Source: Schneider, Implementing Fault-Tolerant Services Using the State Machine Approach, 1990.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class StateMachine(Protocol):
    """All methods are called in the thread of the event loop, none while another runs."""

    def apply(self, command: bytes, wanted: bool) -> Any:
        """The next command. The result is for whoever proposed it on this node, if `wanted`; else it is dropped."""

    def snapshot(self) -> Iterator[bytes]:
        """Everything that the commands so far have made, in pieces of about a MiB at most.

        It stays what it was at this call although `apply` goes on while it is iterated, a piece in each turn.
        """

    def restore(self, pieces: Iterator[bytes]) -> None:
        """Becomes what the machine was that made this snapshot."""
