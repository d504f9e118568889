"""Orders: what people want of the group itself: other members, another leader.

    learner, voter, witness, remove     another configuration, by joint consensus
    transfer                            another leader

The idea: an order is given to any node, passed on to the leader, and waited for until it has been carried out: a change
of the configuration until the joint phase is over, a transfer until somebody leads in a later term.

The rule: one that could not be carried out says why; one that is not done in time may still be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from onerack.errors import ApplicationError, CallError, NotExecuted, Unknown, UsageError
from onerack.raft.core import RaftCore
from onerack.raft.messages import NOBODY, Change, Configuration, Transfer
from onerack.raft.server.peers import RaftPeer
from onerack.runtime.seam import NodeId

WANTED: Final = ("learner", "voter", "witness", "remove", "transfer")


class _Order(msgspec.Struct, eq=False):
    future: asyncio.Future[None]
    is_transfer: bool
    term: int
    overdue_at: float
    index: int = -1
    """Where the change is in the log; -1: nowhere yet."""


class Orders:
    """Of one node. Their numbers are negative, those of entries are not."""

    def __init__(
        self,
        core: RaftCore,
        step: Callable[[Any], None],
        leader_stub: Callable[[], Awaitable[tuple[NodeId, RaftPeer | None]]],
        timeout_s: float,
    ) -> None:
        self._core = core
        self._step = step
        self._leader_stub = leader_stub
        self._timeout_s = timeout_s
        self._number = 0
        self._open: dict[int, _Order] = {}

    async def carry_out(self, order: str, node: NodeId) -> None:
        if order not in WANTED:
            raise UsageError(f"{order!r} is no order; there are {', '.join(WANTED)}")
        if self._core.role == "leader":
            await self._carry_out_here(order, node)
            return
        leader, stub = await self._leader_stub()
        if stub is None:
            raise NotExecuted("nobody leads now" if leader == NOBODY else "not taken", cause="no_leader")
        try:
            await stub.manage(order, node)
        except ApplicationError as error:  # The leader's own words.
            raise NotExecuted(str(error), cause=error.cause) from error

    async def _carry_out_here(self, order: str, node: NodeId) -> None:
        loop = asyncio.get_running_loop()
        self._number -= 1
        waiting = self._open[self._number] = _Order(
            loop.create_future(), order == "transfer", self._core.term, loop.time() + self._timeout_s
        )
        if order == "transfer":
            self._step(Transfer(self._number, node))
        else:
            self._step(Change(self._number, changed(self._core.configuration, order, node)))
        await waiting.future

    # ------------------------------------------------------------------------------------------------ what becomes

    def placed(self, number: int, index: int) -> None:
        order = self._open.get(number)
        if order is not None:
            order.index = index

    def refused(self, number: int, cause: str) -> None:
        order = self._open.pop(number, None)
        if order is not None:
            _end(order, NotExecuted(f"the leader refused: {cause}", cause=cause))

    def applied(self, index: int) -> None:
        """Some more was applied: which orders are done?"""
        if self._open and not self._core.configuration.is_joint:
            for number, order in list(self._open.items()):
                if not order.is_transfer and 0 <= order.index <= index:
                    del self._open[number]
                    _end(order, None)

    def expire(self, now: float) -> None:
        """Looks for transfers that are done, and for orders that are late."""
        for number, order in list(self._open.items()):
            is_done = order.is_transfer and self._core.term > order.term and self._core.leader != NOBODY
            if is_done or order.overdue_at <= now:
                del self._open[number]
                late = Unknown(f"not done within {self._timeout_s:g} s", cause="timeout")
                _end(order, None if is_done else late)

    def fail(self, words: str) -> None:
        for order in self._open.values():
            _end(order, Unknown(words, cause="stopping"))
        self._open.clear()


def _end(order: _Order, error: CallError | None) -> None:
    if order.future.done():
        return
    if error is None:
        order.future.set_result(None)
    else:
        order.future.set_exception(error)


def changed(now: Configuration, order: str, node: NodeId) -> Configuration:
    """The configuration when the order is carried out."""
    voters = {*now.voters} - {node}
    learners = {*now.learners} - {node}
    witnesses = {*now.witnesses} - {node}
    if order in ("voter", "witness"):
        voters.add(node)
    if order == "witness":
        witnesses.add(node)
    if order == "learner":
        learners.add(node)
    return Configuration(tuple(sorted(voters)), (), tuple(sorted(learners)), (), tuple(sorted(witnesses)))
