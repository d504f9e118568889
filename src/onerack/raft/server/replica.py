"""Replicas: a user's own state machine on a log of its own, in a few lines.

    class Counter:
        def __init__(self) -> None: self.total = 0
        def apply(self, command: bytes) -> int: self.total += int(command); return self.total
        def snapshot(self) -> bytes: return b"%d" % self.total
        def restore(self, snapshot: bytes) -> None: self.total = int(snapshot)

    async with Replica(Counter(), "n1", "data/n1", members={"n1": "tcp://127.0.0.1:7001", ...}) as counter:
        await counter.execute(b"5")                       # on any node; 5, when a majority has it on its disks
        await counter.read(lambda machine: machine.total)     # sees every command that was answered before

The idea: what is mounted on a node may be anything that follows three rules of a state machine; this is the smallest
door to it. The rule: an exception in `apply` is the command's answer, on every node alike; whoever raises one sees to
it that nothing is left half done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Protocol, Self, TypeVar

from onerack.errors import ApplicationError
from onerack.raft.commands import USER
from onerack.raft.server.node import RaftNode, Status
from onerack.runtime.seam import NodeId


class Replicable(Protocol):
    """A state machine small enough that its snapshot is one value."""

    def apply(self, command: bytes) -> Any:
        """Deterministic: no clock, no dice, no order of a set."""

    def snapshot(self) -> bytes: ...

    def restore(self, snapshot: bytes) -> None: ...


Machine = TypeVar("Machine", bound=Replicable)
Seen = TypeVar("Seen")


class _Mounted:
    """A Replicable as a StateMachine."""

    def __init__(self, machine: Replicable) -> None:
        self._machine = machine

    def apply(self, command: bytes, wanted: bool) -> Any:
        try:
            return self._machine.apply(command)
        except Exception as error:
            return ApplicationError(str(error), cause="raised", type=type(error).__name__)

    def snapshot(self) -> Iterator[bytes]:
        return iter([self._machine.snapshot()])

    def restore(self, pieces: Iterator[bytes]) -> None:
        self._machine.restore(b"".join(pieces))


class Replica(Generic[Machine]):
    """One node's copy of a machine."""

    def __init__(
        self,
        machine: Machine,
        name: NodeId,
        directory: str | os.PathLike[str],
        *,
        members: Mapping[NodeId, str],
        **settings: Any,
    ) -> None:
        """`settings`: as for RaftNode."""
        self.machine = machine
        """What it is now, on this node: maybe less than what was answered elsewhere. To see that, `read`."""
        self.node = RaftNode(name, directory, members=members, machines={USER: _Mounted(machine)}, **settings)

    async def execute(self, command: bytes) -> Any:
        """What `apply` has returned.

        Raises: ApplicationError: it raised. NotExecuted: it never ran. Unknown: it may run, or have run.
        """
        return await self.node.execute(USER, command)

    async def read(self, look: Callable[[Machine], Seen]) -> Seen:
        """Looks at the machine once it has applied everything that was answered before. Raises: NotExecuted."""
        await self.node.catch_up()
        return look(self.machine)

    def status(self) -> Status:
        return self.node.status()

    async def __aenter__(self) -> Self:
        await self.node.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.node.close()
