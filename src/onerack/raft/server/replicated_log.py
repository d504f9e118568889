"""The replicated log as the host of exactly-once calls: what `@exactly_once` binds to when one disk is not enough.

    log = ReplicatedLog("n1", "data/n1", members={...})
    server = await rpc.serve(Bank, Accounts(), "tcp://127.0.0.1:7700", durable=log)      # the same on n2 and n3
    client = await rpc.connect(Bank, "tcp://n1:7700", "tcp://n2:7700", "tcp://n3:7700")

The idea: sessions, replies and effects are made of commands alone, so every node has them, and a client whose server
died asks another one again, under the same xid, and gets the same reply.

The rules: commands are applied in one order on every node. One of which nothing was heard is reported as Unknown and
forgotten here: it may yet be applied, and its client's next attempt finds that out by its xid.

Source: Lee et al., RIFL, SOSP 2015; Ongaro's dissertation, section 6.3.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from onerack.errors import CallError, NotExecuted, Unknown, UsageError, check
from onerack.raft.commands import CALLS
from onerack.raft.machine import StateMachine
from onerack.raft.server.node import RaftNode
from onerack.rpc.durable.host import Machine
from onerack.runtime.seam import NodeId

_INDEX_BYTES: Final = 8
_PIECE_BYTES: Final = 1 << 20
_PASSING: Final = frozenset({"no_leader", "not_leader", "leader_changed", "not_ready", "transferring"})
"""Why a command was not executed, where the same one may be in a moment: the client's next attempt will tell."""


class ReplicatedLog:
    """A DurableHost on a raft node of its own, which starts and ends with it."""

    durable = True

    def __init__(
        self,
        name: NodeId,
        directory: str | os.PathLike[str],
        *,
        members: Mapping[NodeId, str],
        machines: Mapping[int, StateMachine] | None = None,
        **settings: Any,
    ) -> None:
        """`machines`: others on the same log. `settings`: as for RaftNode."""
        self._calls = _Calls()
        self.node = RaftNode(
            name, directory, members=members, machines={CALLS: self._calls, **(machines or {})}, **settings
        )

    async def start(self, machine: Machine) -> None:
        if self._calls.machine is not None:
            raise UsageError("this log has a machine already; one log serves one server")
        self._calls.machine = machine
        self.node.on_applied.append(machine.applied)
        await self.node.start()

    def propose(self, command: bytes) -> None:
        if len(command) > self.node.command_bytes_max:
            raise UsageError(f"a command of {len(command)} bytes; at most {self.node.command_bytes_max} are taken")
        refusal = self.node.refusal(len(command))
        if refusal is not None:
            raise NotExecuted(str(refusal), cause=self._cause_of(refusal))
        self.node.propose(CALLS, command, partial(self._heard, command))

    def _heard(self, command: bytes, result: Any) -> None:
        if isinstance(result, NotExecuted):
            self._bound.dropped(command, NotExecuted(str(result), cause=self._cause_of(result)))
        elif isinstance(result, CallError):
            self._bound.dropped(command, Unknown(str(result), cause=self._cause_of(result)))

    @property
    def _bound(self) -> Machine:
        assert self._calls.machine is not None
        return self._calls.machine

    def _cause_of(self, error: CallError) -> str:
        """In the server's words: `storage` is for ever, and its clients go elsewhere; the rest will pass."""
        if self.node.has_halted:
            return "storage"
        if isinstance(error, NotExecuted) and error.cause in _PASSING:
            return "overloaded"
        return error.cause

    async def close(self) -> None:
        await self.node.close()


class _Calls:
    """The Machine of an RPC server, as a StateMachine. Counts commands, since a log's entries are batches of them."""

    def __init__(self) -> None:
        self.machine: Machine | None = None
        self._index = 0

    @property
    def _bound(self) -> Machine:
        check(self.machine is not None, "the machine is bound before the node is started")
        assert self.machine is not None
        return self.machine

    def apply(self, command: bytes, wanted: bool) -> None:
        self._index += 1
        self._bound.apply(self._index, command)

    def snapshot(self) -> Iterator[bytes]:
        whole = self._index.to_bytes(_INDEX_BYTES, "little") + self._bound.snapshot()
        return (whole[start : start + _PIECE_BYTES] for start in range(0, len(whole), _PIECE_BYTES))

    def restore(self, pieces: Iterator[bytes]) -> None:
        whole = b"".join(pieces)
        self._index = int.from_bytes(whole[:_INDEX_BYTES], "little")
        self._bound.restore(whole[_INDEX_BYTES:])
