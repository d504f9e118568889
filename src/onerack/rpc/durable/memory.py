"""A log that keeps nothing: commands in one order, applied at once, gone with the process. For tests and trials.

The idea: the same host as the local log, without the disk, so that a machine can be tried in microseconds.

The rule: it says that it is not durable, and no exactly-once call binds to it.
"""

from __future__ import annotations

import asyncio

from onerack.errors import NotExecuted
from onerack.rpc.durable.host import Machine


class VolatileLog:
    """A DurableHost that is not durable. What is proposed in one turn of the loop is applied in the next."""

    durable = False

    def __init__(self) -> None:
        self._machine: Machine | None = None
        self._waiting: list[bytes] = []
        self._last_index = 0

    async def start(self, machine: Machine) -> None:
        self._machine = machine

    def propose(self, command: bytes) -> None:
        if self._machine is None:
            raise NotExecuted("the log takes no commands now", cause="stopping")
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._apply, self._machine)
        self._waiting.append(command)

    async def close(self) -> None:
        self._machine = None
        # What was proposed before is applied by then.
        await asyncio.sleep(0)

    def _apply(self, machine: Machine) -> None:
        waiting, self._waiting = self._waiting, []
        for command in waiting:
            self._last_index += 1
            machine.apply(self._last_index, command)
        machine.applied()
