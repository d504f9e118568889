"""The intake: how commands and reads get into the core, or to the node that leads.

    commands of this node's users  ─┐                            ┌─ one entry, if this node leads
    commands that others passed on ─┴─ gathered, once per turn ──┴─ passed on to the leader, if another one does
    reads                          ──── one question per turn ───── the core finds the index

The idea: what cannot go anywhere now (nobody leads, the leader cannot be reached or has just stopped to lead) was
surely not executed, and so it may wait here and be tried again until it is overdue.

The rule: only what was surely not taken is tried again. Whatever was passed on and not answered may have been taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from onerack import rpc
from onerack.config import MIB
from onerack.errors import CallError, NotExecuted, OnerackError, Unknown
from onerack.raft.core import RaftCore
from onerack.raft.messages import Propose, Read
from onerack.raft.server.peers import Forwarded, Peers, Place, Refusal
from onerack.raft.server.proposals import Proposals
from onerack.raft.server.reads import Reads
from onerack.rpc.dice import new_random
from onerack.runtime.seam import NodeId

_BATCH_BYTES: Final = MIB
"""Of commands in one entry; a single longer one goes alone. A longer batch would delay heartbeats."""
_PAUSE_S: Final = 0.1
"""Before a leader that did not take something is asked again."""
_FINAL_CAUSES: Final = frozenset({"overloaded", "invalid", "too_large", "storage_full"})
"""Why commands are refused for good; for other causes they wait for a leader, until they are overdue."""

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class _Entered(msgspec.Struct, eq=False):
    """An entry of which the core has not said yet where it is."""

    payload: bytes
    """Our own part of it."""
    tags: list[int]
    waiting: list[asyncio.Future[Forwarded]]
    """Nodes whose commands are in it, too."""


class Intake:
    """Of one node."""

    def __init__(
        self, core: RaftCore, peers: Peers, spawn: Spawn, timeout_s: float, has_room: Callable[[], bool]
    ) -> None:
        """`has_room`: whether this node's disk can take more of the log."""
        self._core = core
        self._peers = peers
        self._spawn = spawn
        self._timeout_s = timeout_s
        self._has_room = has_room
        self.proposals = Proposals(new_random(), timeout_s)
        self.reads = Reads(timeout_s)
        self._foreign: list[tuple[bytes, asyncio.Future[Forwarded]]] = []
        """What other nodes have passed on, and who is to be told where it went."""
        self._forward_at = 0.0
        """Not before."""
        self._entered: dict[int, _Entered] = {}
        self._number = 0

    # ------------------------------------------------------------------------------------------------ in

    def pass_on(self, payload: bytes) -> asyncio.Future[Forwarded]:
        """Another node's commands."""
        future: asyncio.Future[Forwarded] = asyncio.get_running_loop().create_future()
        self._foreign.append((payload, future))
        return future

    @property
    def has_gathered(self) -> bool:
        """Whether something waits for a turn."""
        return bool(self.proposals.gathered) or self.reads.has_questions

    def gather(self, now: float) -> None:
        """Just before a drain: what has gathered goes where it belongs."""
        core = self._core
        leads = core.role == "leader"
        if leads and (self.proposals.gathered or self._foreign):
            if not self._has_room():
                self.proposals.fail_gathered(NotExecuted("the leader's disk is full", cause="storage_full"))
                self._refuse_foreign("storage_full")
            while self.proposals.gathered or self._foreign:
                self._enter(now)
        elif not leads and (self.proposals.gathered or self._foreign):
            self._refuse_foreign("not_leader")
            while self.proposals.gathered and core.leader and now >= self._forward_at:
                payload, tags = self.proposals.take(_BATCH_BYTES)
                self._spawn(self._forward(payload, tags, core.leader))
        if self.reads.has_questions and core.leader:
            for number in self.reads.ask(now):
                core.step(Read(number), core.node, now)

    def _enter(self, now: float) -> None:
        """One entry, with as many of the others' commands as there is room for."""
        payload, tags = self.proposals.take(_BATCH_BYTES)
        parts, waiting, size = [payload], [], len(payload)
        while self._foreign and (not size or size + len(self._foreign[0][0]) <= _BATCH_BYTES):
            part, future = self._foreign.pop(0)
            parts.append(part)
            waiting.append(future)
            size += len(part)
        self._number += 1
        self._entered[self._number] = _Entered(payload, tags, waiting)
        whole = b"".join(parts) if waiting else payload
        self._core.step(Propose(self._number, whole, hurry=bool(waiting)), self._core.node, now)

    async def _forward(self, payload: bytes, tags: list[int], leader: NodeId) -> None:
        peer = self._peers.get(leader)
        if peer is None or not peer.is_up:
            self._not_taken(payload, tags, "no_leader")
            return
        try:
            with rpc.options(deadline=self._timeout_s):
                answer = await (await peer.stub()).forward(payload)
        except NotExecuted as error:
            self._not_taken(payload, tags, error.cause)
        except OnerackError as error:
            self.proposals.fail(tags, Unknown(f"{leader}: {error}", cause="disconnected"))
        else:
            if answer.refusal is not None:
                self._not_taken(payload, tags, answer.refusal.cause)
            elif answer.place is not None:
                self.proposals.placed(answer.place.term, answer.place.index, tags)

    def _not_taken(self, payload: bytes, tags: list[int], cause: str) -> None:
        if cause in _FINAL_CAUSES:
            self.proposals.fail(tags, NotExecuted(f"not taken: {cause}", cause=cause))
        else:
            self.proposals.put_back(payload)
            self._forward_at = asyncio.get_running_loop().time() + _PAUSE_S

    def _refuse_foreign(self, cause: str) -> None:
        foreign, self._foreign = self._foreign, []
        for _, future in foreign:
            _answer(future, Forwarded(refusal=Refusal(cause, self._core.leader)))

    # ------------------------------------------------------------------------------------------------ what becomes

    def placed(self, number: int, term: int, index: int) -> None:
        entered = self._entered.pop(number)
        if entered.tags:
            self.proposals.placed(term, index, entered.tags)
        for future in entered.waiting:
            _answer(future, Forwarded(place=Place(term, index)))

    def refused(self, number: int, cause: str) -> None:
        entered = self._entered.pop(number, None)
        if entered is None and cause in _FINAL_CAUSES:
            self.reads.refused_for_good(number, NotExecuted(f"not taken: {cause}", cause=cause))
        elif entered is None:
            self.reads.refused(number)
        else:
            self._entry_refused(entered, cause)

    def _entry_refused(self, entered: _Entered, cause: str) -> None:
        self._not_taken(entered.payload, entered.tags, cause)
        for future in entered.waiting:
            _answer(future, Forwarded(refusal=Refusal(cause, self._core.leader)))

    def committed(self, term: int, index: int) -> None:
        """Call it after the entry was applied."""
        self.proposals.committed(term, index)

    def leader_changed(self) -> None:
        """Whoever leads now has not refused anything yet."""
        self._forward_at = 0.0

    def expire(self, now: float) -> bool:
        """Looks for what is late. Whether something waits for a turn."""
        self.proposals.expire(now)
        self.reads.expire(now)
        return self.has_gathered

    def fail(self, words: str) -> None:
        """The node ends: what never left was not executed, of the rest nobody knows."""
        stopping = NotExecuted(words, cause="stopping")
        self.proposals.fail_gathered(stopping)
        unknown: CallError = Unknown(words, cause="stopping")
        self.proposals.fail(list(self.proposals.waiting), unknown)
        self.reads.fail(stopping)
        self._refuse_foreign("stopping")
        for entered in self._entered.values():
            for future in entered.waiting:
                if not future.done():
                    future.set_exception(unknown)
        self._entered.clear()


def _answer(future: asyncio.Future[Forwarded], answer: Forwarded) -> None:
    if not future.done():
        future.set_result(answer)
