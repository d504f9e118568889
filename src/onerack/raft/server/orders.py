"""Orders: what people want of the group itself: other members, another leader.

    learner, voter, witness, remove     another configuration, by joint consensus
    transfer                            another leader

The idea: an order is given to any node, passed on to the leader, and waited for there until it has been carried out: a
change until the configuration that was wanted is committed and applied, a transfer until somebody leads a later term.

The rule: one that could not be carried out says why; one that is not done in time may still be. What lies in the log
is known by term and index, for another leader's entry may have taken its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from onerack import rpc
from onerack.errors import ApplicationError, CallError, NotExecuted, Unknown, UsageError
from onerack.raft.core import RaftCore
from onerack.raft.messages import NOBODY, Change, Configuration, Entry, Transfer
from onerack.raft.server.peers import RaftPeer
from onerack.runtime.seam import NodeId

WANTED: Final = ("learner", "voter", "witness", "remove", "transfer")

_PAUSE_S: Final = 0.01


class _Order(msgspec.Struct, eq=False):
    future: asyncio.Future[None]
    heir: NodeId
    """Of a transfer; empty: a change."""
    term: int
    """In which it was given."""
    overdue_at: float
    index: int = -1
    """Where the change is in the log; -1: nowhere yet."""
    is_sure: bool = False
    """The change at `index` is committed."""


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
        _require_order(order, node)
        if self._core.role == "leader":
            await self.carry_out_here(order, node)
            return
        leader, stub = await self._leader_stub()
        if stub is None:
            words = "nobody leads now" if leader == NOBODY else f"{leader} cannot be reached"
            raise NotExecuted(words, cause="no_leader")
        try:
            with rpc.options(deadline=self._timeout_s):
                await stub.manage(order, node)
        except ApplicationError as error:
            raise _error_there(leader, error) from error

    async def carry_out_here(self, order: str, node: NodeId) -> None:
        """Never passed on: two nodes that each believe that the other one leads would do so for ever.

        A leader that has just been elected takes changes as soon as its first entry is committed; that is waited for.
        """
        _require_order(order, node)
        give_up_at = asyncio.get_running_loop().time() + self._timeout_s
        while True:
            try:
                await self._carry_out_now(order, node)
                return
            except NotExecuted as error:
                if error.cause != "not_ready" or asyncio.get_running_loop().time() + _PAUSE_S > give_up_at:
                    raise
            await asyncio.sleep(_PAUSE_S)

    async def _carry_out_now(self, order: str, node: NodeId) -> None:
        if self._core.role != "leader":
            raise NotExecuted(f"{self._core.node} does not lead", cause="not_leader")
        is_transfer = order == "transfer"
        if order == "remove" and node not in self._core.configuration.members:
            raise NotExecuted(f"there is no member {node!r} to remove", cause="invalid")
        wanted = changed(self._core.configuration, order, node)
        loop = asyncio.get_running_loop()
        self._number -= 1
        waiting = self._open[self._number] = _Order(
            loop.create_future(), node if is_transfer else NOBODY, self._core.term, loop.time() + self._timeout_s
        )
        self._step(Transfer(self._number, node) if is_transfer else Change(self._number, wanted))
        await waiting.future

    def step_aside(self) -> bool:
        """Has the best of the others lead, if one can. False: this node does not lead, or nobody else can."""
        core = self._core
        configuration = core.configuration
        heirs = sorted(({*configuration.voters} - {*configuration.witnesses}) & {*core.progress})
        if core.role != "leader" or not heirs:
            return False
        self._number -= 1
        self._step(Transfer(self._number, max(heirs, key=lambda heir: core.progress[heir].match)))
        return True

    # ------------------------------------------------------------------------------------------------ what becomes

    def placed(self, number: int, term: int, index: int) -> None:
        order = self._open.get(number)
        if order is not None:
            order.term, order.index = term, index

    def refused(self, number: int, cause: str) -> None:
        self._end(number, NotExecuted(f"the leader refused: {cause}", cause=cause))

    def applied(self, entry: Entry) -> None:
        """This entry stands. Whoever waits for another one at its place waits in vain."""
        for number, order in list(self._open.items()):
            if not order.heir and order.index == entry.index:
                order.is_sure = entry.term == order.term
                if not order.is_sure:
                    self._end(number, NotExecuted("another leader's entry took its place", cause="leader_changed"))
            if order.is_sure and not self._core.configuration_at(entry.index).is_joint:
                self._end(number, None)

    def role_changed(self) -> None:
        """Somebody else may lead now: whoever was to be handed the leadership, or not."""
        core = self._core
        for number, order in list(self._open.items()):
            if order.heir and core.term > order.term and core.leader != NOBODY:
                words = f"{core.leader} leads, and not {order.heir}"
                self._end(number, None if core.leader == order.heir else NotExecuted(words, cause="leader_changed"))

    def expire(self, now: float) -> None:
        for number, order in list(self._open.items()):
            if order.overdue_at <= now:
                self._end(number, Unknown(f"not done within {self._timeout_s:g} s", cause="timeout"))

    def fail(self, words: str) -> None:
        for number in list(self._open):
            self._end(number, Unknown(words, cause="stopping"))

    def _end(self, number: int, error: CallError | None) -> None:
        order = self._open.pop(number, None)
        if order is None or order.future.done():
            return
        if error is None:
            order.future.set_result(None)
        else:
            order.future.set_exception(error)

    @property
    def is_empty(self) -> bool:
        return not self._open


def _require_order(order: str, node: NodeId) -> None:
    if order not in WANTED:
        raise UsageError(f"{order!r} is no order; there are {', '.join(WANTED)}")
    if not node:
        raise UsageError(f"{order} whom?")


def _error_there(leader: NodeId, error: ApplicationError) -> CallError:
    """The leader's own error, with its own certainty."""
    if error.type == UsageError.__name__ or error.type == NotExecuted.__name__:
        return NotExecuted(f"{leader}: {error}", cause=error.cause)
    return Unknown(f"{leader}: {error}", cause=error.cause)


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
